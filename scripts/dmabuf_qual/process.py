# SPDX-License-Identifier: GPL-2.0-only
"""Runs one program with a time limit, so that neither a hang nor a kill leaves anything running."""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import Interrupted

PR_SET_PDEATHSIG = 1
GRACE_S = 30.0


@dataclass
class Ended:
    """How a program ended. `hung`: it did not within its time; `blocked`: the kernel functions in
    which its threads could not be interrupted then."""

    status: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    blocked: str = ""


def _die_with_parent(number: int) -> Callable[[], None]:
    """For the child: a signal when this program is killed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)

    return call


def _blocked(pid: int) -> str:
    """Threads in uninterruptible sleep, and where."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "D":
                found.append((task / "wchan").read_text() or "unknown")
        except (OSError, IndexError):
            continue
    return ", ".join(sorted(set(found)))


def _stop(process: subprocess.Popen[bytes], first: int) -> None:
    """Asks it to end, and after a while does not ask any more."""
    for number, patience in ((first, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def run(
    argv: list[str], limit_s: float, tick: Callable[[], None], env: dict[str, str] | None = None
) -> Ended:
    """Runs `argv` in a session of its own, for `limit_s` at most.

    Ctrl-C ends it first, in order, and then raises Interrupted: its I/O has ended by then.
    """
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # pylint: disable-next=consider-using-with
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=_die_with_parent(signal.SIGTERM),
        )
        hung, blocked = False, ""
        try:
            while True:
                try:
                    process.wait(0.5)
                    break
                except subprocess.TimeoutExpired:
                    tick()
                if time.monotonic() - begin > limit_s:
                    hung, blocked = True, _blocked(process.pid)
                    _stop(process, signal.SIGKILL)
                    break
        except KeyboardInterrupt as stop:
            _stop(process, signal.SIGTERM)
            raise Interrupted from stop
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        status = process.returncode if process.returncode is not None else -signal.SIGKILL
        return Ended(status, texts[0], texts[1], time.monotonic() - begin, hung, blocked)
