# SPDX-License-Identifier: GPL-2.0-only
"""Makes the packages importable for their tests; a store that several of them begin with."""

import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from made import Made  # noqa: E402


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Six good nights, of which three are pinned."""
    found = Made(tmp_path / "s.db")
    for _ in range(6):
        found.night(1000)
    assert found.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    assert found.call("analyze") == 0
    return found
