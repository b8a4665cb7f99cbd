# SPDX-License-Identifier: GPL-2.0-only
"""Runs one program with a time limit, so that neither a hang nor a kill leaves anything running."""

import ctypes
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
GRACE_S = 30.0
# A program marks the processes that it starts with this variable of the environment, and so finds them after their
# parents have ended, too.
MARK = "LIBDMABUF_RUN"
TICK_S = 0.5
# What a user or systemd ends a program with.
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass
class Ended:
    """How a program ended; the status is negative when a signal ended it. `hung`: it did not end
    within its time; `blocked`: the kernel functions in which its threads could not be interrupted
    then."""

    status: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    blocked: str = ""


def _in_child(mask: Iterable[int]) -> Callable[[], None]:
    """What the child does before it is the program: it asks for a signal when this program is
    killed, and takes signals again. Where that was killed already, no signal would come: it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def call() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

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


def _kill_marked(mark: str) -> None:
    """Kills all that has this in its environment, until nothing has: fio's jobs lead sessions of their own, and no
    signal to a group gets at them."""
    word = f"{MARK}={mark}".encode()
    end = time.monotonic() + GRACE_S
    found = True
    while found and time.monotonic() < end:
        found = False
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if word in (entry / "environ").read_bytes().split(b"\0"):
                    found = True
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
        if found:
            time.sleep(0.01)


def _reap(process: subprocess.Popen[bytes], mark: str, rest: bool) -> None:
    """Waits for one that has ended. `rest`, or where a signal ended it: what it started may go on, and fio's jobs
    write, which nobody asks to end any more. The id of their group is nobody else's until it was waited for."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if rest or ended is None or ended.si_code != os.CLD_EXITED:
        os.killpg(process.pid, signal.SIGKILL)
        _kill_marked(mark)
    process.wait()


def _ended(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether it ended within this time; it is not waited for."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(1000 * max(limit_s, 0)))
    finally:
        os.close(pidfd)


def _stop(process: subprocess.Popen[bytes], mark: str, first: int) -> None:
    """Asks it and all that it started to end, and after a while does not ask any more."""
    for number in (first, signal.SIGKILL):
        os.killpg(process.pid, number)
        if _ended(process, GRACE_S):
            _reap(process, mark, True)
            return


def _wait(process: subprocess.Popen[bytes], limit_s: float, tick: Callable[[], None] | None) -> bool:
    """Whether it ended within its time. Without `tick`, nothing wakes a CPU up until then."""
    end = time.monotonic() + limit_s
    while (left := end - time.monotonic()) > 0:
        if _ended(process, min(left, TICK_S) if tick else left):
            return True
        if tick:
            tick()
    return _ended(process, 0)


def run(
    argv: Sequence[str],
    limit_s: float,
    tick: Callable[[], None] | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    merge: bool = False,
    pass_fds: Collection[int] = (),
) -> Ended:
    """Runs `argv` in a session of its own, for `limit_s` at most. `tick` is called now and then;
    `env` is added to the environment; `merge`: what it says on stderr is in `out`, too, in order;
    `pass_fds`: the descriptors of ours that it gets, under their numbers.

    Ctrl-C, or whatever else is raised meanwhile, ends it first, in order: its I/O has ended by then.
    """
    begin = time.monotonic()
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # Python drops what a handler raises while it forks: no handler may run then.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            # pylint: disable-next=consider-using-with
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if merge else err,
                env={**os.environ, **(env or {}), MARK: mark},
                cwd=cwd,
                start_new_session=True,
                pass_fds=pass_fds,
                preexec_fn=_in_child(mask),
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        blocked = ""
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            hung = not _wait(process, limit_s, tick)
            if hung:
                blocked = _blocked(process.pid)
                _stop(process, mark, signal.SIGKILL)
            else:
                _reap(process, mark, False)
        except BaseException:
            if process.returncode is None:
                _stop(process, mark, signal.SIGTERM)
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        status = process.returncode if process.returncode is not None else -signal.SIGKILL
        return Ended(status, texts[0], texts[1], time.monotonic() - begin, hung, blocked)


def output(argv: Sequence[str], limit_s: float = 20.0) -> str:
    """What a short program printed; "" when it is not there, failed, or did not end."""
    try:
        ended = run(argv, limit_s)
    except OSError:
        return ""
    return "" if ended.status or ended.hung else ended.out.strip()
