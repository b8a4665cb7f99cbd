# SPDX-License-Identifier: GPL-2.0-only
"""Preflight makes an io_uring, and says who forbids it."""

import subprocess
import sys
from pathlib import Path

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import preflight, uring

TOP = Path(__file__).resolve().parents[2]
WITHOUT_IO_URING = TOP / "tests/host/without_io_uring.py"


@pytest.fixture
def system(tmp_path: Path) -> System:
    sysctl = tmp_path / uring.SYSCTL.lstrip("/")
    sysctl.parent.mkdir(parents=True)
    sysctl.write_text("0\n")
    return System(tmp_path)


def test_where_a_ring_can_be_made_that_is_said(system: System) -> None:
    assert uring.attempt() == ""
    found = uring.check(system, "")
    assert (found.level, found.name) == (preflight.GREEN, "io_uring")


@pytest.mark.parametrize(("filtered", "says"), [("EPERM", "EPERM"), ("ENOSYS", "ENOSYS"), ("KILL", "SIGSYS")])
def test_a_filter_is_found_by_trying(system: System, filtered: str, says: str) -> None:
    """The sysctl says that all is well, as in a container."""
    code = f"import sys; sys.path.insert(0, {str(TOP / 'scripts')!r})\n" \
        "from dmabuf_qual import uring; print(uring.attempt())"
    done = subprocess.run([sys.executable, str(WITHOUT_IO_URING), filtered, sys.executable, "-B", "-c", code],
                          text=True, capture_output=True, check=False, timeout=60)
    assert done.stdout == says + "\n", done.stderr
    found = uring.check(system, says)
    assert (found.level, found.name) == (preflight.RED, "IO_URING_FORBIDDEN")
    assert says in found.text and "io_uring_disabled is 0" in found.text and "seccomp" in found.text
    assert "io_uring_setup" in found.remedy
    assert found.name in preflight.NEEDED


@pytest.mark.parametrize(("sysctl", "said", "name"), [
    ("1", "EPERM", "IO_URING_DISABLED"), ("2", "EPERM", "IO_URING_DISABLED"),
    # The sysctl answers with EPERM alone.
    ("2", "ENOSYS", "IO_URING_FORBIDDEN"), ("2", "SIGSYS", "IO_URING_FORBIDDEN"),
    ("", "EPERM", "IO_URING_FORBIDDEN"),
    ("0", "ENOMEM", "IO_URING_FAILED"), ("0", "no answer", "IO_URING_FAILED"),
])
def test_who_forbids_it_is_told_by_both(tmp_path: Path, system: System, sysctl: str, said: str, name: str) -> None:
    (tmp_path / uring.SYSCTL.lstrip("/")).write_text(sysctl)
    found = uring.check(system, said)
    assert (found.level, found.name) == (preflight.RED, name)
    assert found.remedy and said in found.text or name == "IO_URING_DISABLED"
    assert preflight.kernel(system, lambda: said)[1] == found


def test_an_attempt_that_cannot_be_begun_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "_ATTEMPT", "raise SystemExit('no ctypes here')")
    assert uring.attempt() == "no ctypes here"
    monkeypatch.setattr(uring, "_ATTEMPT", "")
    assert uring.attempt() == "no answer"
