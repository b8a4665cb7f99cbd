# SPDX-License-Identifier: GPL-2.0-only
"""Makes the packages importable for their tests; a store that several of them begin with."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from made import Made  # noqa: E402

MEMORY = Path("/dev/shm")


def _use_memory() -> None:
    """Thousands of nights are stored, and a disk takes longest for it. Programs run from these folders too."""
    if not MEMORY.is_mount():
        return
    found = os.statvfs(MEMORY)
    if not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= 2 << 30:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


_use_memory()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Six good nights, of which three are pinned."""
    found = Made(tmp_path / "s.db")
    for _ in range(6):
        found.night(1000)
    assert found.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    assert found.call("analyze") == 0
    return found
