# SPDX-License-Identifier: GPL-2.0-only
"""Programs that measure on one machine wait for each other: side by side they would measure each
other. The locks are the machine's, whatever stores, drives and users the programs have."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# The first that is there and may be used, for all users of the machine.
FOLDERS = (Path("/run/lock"), Path("/var/lock"), Path("/tmp"))
LOCAL = "local"


def _open(path: Path) -> int:
    """A file that another user may have made, in a folder where anybody may make links, and FIFOs, which would
    wait for somebody who writes."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Without O_CREAT first: the kernel refuses that for another user's file in such a folder.
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "somebody put it there, and it is no regular file: remove it", str(path))
    return fd


def _first(name: str) -> tuple[int, Path]:
    """The lock's file, and where it is."""
    refused: OSError = FileNotFoundError(f"none of {', '.join(map(str, FOLDERS))} is there")
    for folder in FOLDERS:
        try:
            return _open(folder / name), folder / name
        except (PermissionError, FileNotFoundError) as error:
            refused = error
    raise refused


@contextmanager
def _alone(name: str, who: str, say: Callable[[str], None]) -> Iterator[None]:
    fd, path = _first(name)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another program"
            say(f"{holder} measures on this machine; {who} waits for it to end")
            fcntl.flock(fd, fcntl.LOCK_EX)
        _sign(fd, path, who)
        yield
    finally:
        os.close(fd)


def _sign(held: int, path: Path, who: str) -> None:
    """Says who has the lock; another user's file keeps its text, and so does what took its place."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if not os.path.sameopenfile(held, fd) or os.fstat(fd).st_uid != os.geteuid():
            return
        os.ftruncate(fd, 0)
        os.write(fd, f"{who} (process {os.getpid()})\n".encode())
    finally:
        os.close(fd)


@contextmanager
def alone(machines: Iterable[str], who: str, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the locks by which programs that measure exclude each other on these machines (LOCAL: this
    one). Waits for another program that holds one, and says which. The locks go away with the process, however that ends."""
    with ExitStack() as stack:
        # In one order, so that two programs never wait for each other.
        for machine in sorted(set(machines)):
            name = re.sub(r"[^A-Za-z0-9.]", "_", machine)
            stack.enter_context(_alone(f"libdmabuf-measures-{name}.lock", who, say))
        yield
