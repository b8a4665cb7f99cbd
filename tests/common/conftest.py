# SPDX-License-Identifier: GPL-2.0-only
"""Makes the package importable for its tests; a machine that several of them begin with."""

import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from drives import Machine  # noqa: E402
from guarded import MIB  # noqa: E402


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A drive of two partitions."""
    made = Machine(tmp_path)
    made.drive()
    made.partition("nvme0n1", 1, "259:1", MIB, 8 * MIB)
    made.partition("nvme0n1", 2, "259:2", 16 * MIB, 8 * MIB)
    return made
