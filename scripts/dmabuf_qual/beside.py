# SPDX-License-Identifier: GPL-2.0-only
"""Several drives at once: a process for each, none of which begins before all may begin.

Programs that measure on one machine wait for each other. Here the drives are meant to share it: who
starts them holds the machine's lock for all, and each verdict says that its drive was not alone.
"""

import ctypes
import os
import select
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

from dmabuf_common import drive_guard, measuring, process, program
from dmabuf_common.verdict import EXIT_ERROR, EXIT_FAIL, EXIT_INTERRUPTED, EXIT_NO_FAULT, EXIT_PASS, EXIT_UNDECIDED

from .errors import QualError
from .progress import say

# The first of these that any has is the status of all.
WORST = (EXIT_INTERRUPTED, EXIT_FAIL, EXIT_ERROR, EXIT_UNDECIDED, EXIT_NO_FAULT, EXIT_PASS)
CHUNK = 1 << 16
VERDICT = "verdict: "
# By these a child ends in order; one that follows the first does, too.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Called when all was looked at and nothing written; returns when all others are as far.
Ready = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """What is done with one drive; the function returns the exit status."""

    name: str
    act: Callable[[Ready], int]


@dataclass(frozen=True)
class Outcome:
    """How it ended. verdict: its verdict's line, or why there is none."""

    name: str
    status: int
    verdict: str


def _pass_on(text: str, stream: TextIO) -> None:
    """Prints a line. Where nobody reads any more, or the disk is full, the drives go on, and what they say
    is lost: their folders have it."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Child:
    """One process, and the pipes to it."""

    def __init__(self, job: Job, others: Sequence["_Child"]) -> None:
        self.name, self.go = job.name, -1
        self.verdict = "it said no verdict"
        self.ready = False
        self.rest = {1: b"", 2: b""}
        out, err, came, go = (os.pipe() for _ in range(4))
        parent = os.getpid()
        # Nothing may come between the fork and what the child makes of a signal.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self.pid = os.fork()
        finally:
            if os.getpid() == parent:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not self.pid:
            for other in others:
                # Else the go would stay open here when all others are let go.
                os.close(other.go)
            self._be(job, parent, out[1], err[1], came[1], go[0], (out[0], err[0], came[0], go[1]))
        for fd in (out[1], err[1], came[1], go[0]):
            os.close(fd)
        self.streams = {out[0]: 1, err[0]: 2}
        self.came, self.go = came[0], go[1]
        self.open = {*self.streams, self.came}

    def _be(self, job: Job, parent: int, out: int, err: int, came: int, go: int, theirs: Sequence[int]) -> None:
        """The child, which never returns."""
        status = EXIT_ERROR
        try:
            # Whatever this process does with them: where it ignores them, nohup's child for one, the
            # drives would go on when it is killed.
            for number in ENDING:
                signal.signal(number, _end)
            # Ctrl-C goes to who started all, who passes it on, once.
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(process.PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != parent:
                raise KeyboardInterrupt
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            for fd in theirs:
                os.close(fd)
            os.dup2(out, 1)
            os.dup2(err, 2)
            # Whatever these were: a terminal, or something of who called.
            sys.stdout = open(1, "w", closefd=False)
            sys.stderr = open(2, "w", buffering=1, closefd=False)

            def ready() -> None:
                os.write(came, b"r")
                if not os.read(go, 1):
                    raise QualError("another drive was refused: nothing was begun on this one")

            status = program.run(lambda: job.act(ready), say, (QualError, drive_guard.Refused))
            sys.stdout.flush()
            sys.stderr.flush()
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        except Exception as error:  # pylint: disable=broad-exception-caught
            # Whatever it is: nobody above says it, as this process never returns.
            traceback.print_exc()
            print(f"{VERDICT}none, by a fault of the program: {type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)

    def let_go(self, begin: bool) -> None:
        """It may begin, or must not; what was said first counts."""
        if self.go < 0:
            return
        with suppress(BrokenPipeError):
            os.write(self.go, b"g" if begin else b"")
        os.close(self.go)
        self.go = -1

    def take(self, fd: int, data: bytes) -> None:
        """What it said, line by line, with its name before each."""
        number = self.streams[fd]
        *lines, self.rest[number] = (self.rest[number] + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if number == 1 and text.startswith(VERDICT):
                self.verdict = text.removeprefix(VERDICT)
            _pass_on(f"{self.name}: {text}", sys.stdout if number == 1 else sys.stderr)

    def stop(self) -> Outcome:
        """Ends it in order, and waits for it. What it says is read, lest it be stopped by that, and lost."""
        self.let_go(False)
        os.kill(self.pid, signal.SIGINT)
        while self.open:
            for fd in select.select(list(self.open), [], [])[0]:
                if not os.read(fd, CHUNK):
                    os.close(fd)
                    self.open.remove(fd)
        return self.ended()

    def ended(self) -> Outcome:
        """Waits for it."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code < 0:
            return Outcome(self.name, EXIT_ERROR, f"it was ended by signal {-code}")
        return Outcome(self.name, code, self.verdict)


def _follow(children: Sequence[_Child]) -> None:
    """Passes on what they say, and lets them begin when all are ready, until all have ended."""
    with selectors.DefaultSelector() as selector:
        for one in children:
            for fd in one.open:
                selector.register(fd, selectors.EVENT_READ, one)
        while selector.get_map():
            for key, _ in selector.select():
                child: _Child = key.data
                data = os.read(key.fd, CHUNK)
                if not data:
                    selector.unregister(key.fd)
                    child.open.remove(key.fd)
                    os.close(key.fd)
                if key.fd != child.came:
                    child.take(key.fd, data)
                    continue
                child.ready = child.ready or bool(data)
                everyone = all(each.ready for each in children)
                # One that ended without being ready: nobody begins.
                if everyone or not child.ready:
                    for other in children:
                        other.let_go(everyone)


def run(jobs: Sequence[Job]) -> list[Outcome]:
    """Does all at once; how each ended. A KeyboardInterrupt ends them all in order. There must be no
    other thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    children: list[_Child] = []
    ended: dict[str, Outcome] = {}
    try:
        for job in jobs:
            children.append(_Child(job, children))
        while True:
            try:
                _follow(children)
                for child in children:
                    if child.name not in ended:
                        ended[child.name] = child.ended()
                return list(ended.values())
            except KeyboardInterrupt:
                for child in children:
                    if child.name not in ended:
                        os.kill(child.pid, signal.SIGINT)
    finally:
        # Only where something is wrong here: no drive is left to itself.
        for child in children:
            if child.name not in ended:
                child.stop()


def status(ended: Sequence[Outcome]) -> int:
    """The exit status of all together."""
    seen = {one.status for one in ended}
    return next((one for one in WORST if one in seen), EXIT_ERROR)


def table(ended: Sequence[Outcome]) -> str:
    """A line for each."""
    width = max(len(one.name) for one in ended)
    return "\n".join(f"{one.name:<{width}}  {one.verdict}" for one in ended)


@contextmanager
def alone(names: Sequence[str], tell: Callable[[str], None]) -> Iterator[None]:
    """Nobody else measures on the machine meanwhile."""
    with measuring.alone([measuring.LOCAL], f"dmabuf-qual of {len(names)} drives ({', '.join(names)})", tell):
        yield
