# SPDX-License-Identifier: GPL-2.0-only
"""Files that are whole whenever a program may be killed, lines of JSON, and locks.

Root writes them, and somebody else may have been in the folder first: no symbolic link is followed at
the end of a path, and own_folder() refuses a folder in which others could exchange what is written.
"""

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _open(path: Path, flags: int) -> int:
    """Opens a regular file, and nothing that a link leads to."""
    more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | more, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        text = "it is a symbolic link, which is not followed: remove it, or choose another folder"
        raise OSError(errno.ELOOP, text, str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file: remove it, or choose another folder", str(path))
    return descriptor


def _fresh_owner(path: Path) -> tuple[int, int]:
    """Whose a new file in a folder is, user and group: ourselves, but for file systems that give all
    files to somebody else, such as a virtual machine's share."""
    probe = path / f".{secrets.token_hex(8)}"
    descriptor = _open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        state = os.fstat(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink()
    return state.st_uid, state.st_gid


def own_folder(path: Path) -> Path:
    """Makes the folder if it is missing. PermissionError when others could put links into it, or take
    away and replace what is written there."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    user, group = _fresh_owner(path)
    sticky = bool(state.st_mode & stat.S_ISVTX)
    against = ""
    # Root is trusted by everybody, and nobody by root.
    if state.st_uid not in (user, 0):
        against = f"it belongs to user {state.st_uid}"
    elif state.st_mode & stat.S_IWOTH and not sticky:
        against = "anybody may write to it"
    elif state.st_mode & stat.S_IWGRP and not sticky and state.st_gid not in (group, 0):
        against = f"group {state.st_gid} may write to it"
    if against:
        text = f"{against}, who could exchange what is written there: choose a folder of your own"
        raise PermissionError(errno.EPERM, text, str(path))
    return path


def replace(path: Path, text: str) -> None:
    """Writes a file as a whole: there is the old one or the new one, and it is on the disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # One that is there is of a program that was killed, or was laid there: it is not ours.
        fresh.unlink(missing_ok=True)
        with os.fdopen(_open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file in place. For what may be lost with a program that is killed."""
    with os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by a value as JSON. ValueError for a number that JSON does not have."""
    replace(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_line(path: Path, value: Any) -> None:
    """Adds a line of JSON, which is on the disk then; what a kill left of an earlier one goes away."""
    with os.fdopen(_open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab+") as file:
        _cut_torn_line(file.fileno())
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(fd: int) -> None:
    end = os.fstat(fd).st_size
    if not end or os.pread(fd, 1, end - 1) == b"\n":
        return
    data = os.pread(fd, end, 0)
    os.ftruncate(fd, data.rfind(b"\n") + 1)


def read_lines(path: Path) -> Iterator[Any]:
    """The values of a file's lines of JSON; nothing without a file. A line that was cut short, or
    that is none, is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            continue


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Tries to hold a lock on the file `path` (made if missing); gives whether it got it, without
    waiting. The lock goes away with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def lock(path: Path, waiting: Callable[[], None], *, shared: bool = False) -> Iterator[None]:
    """Holds such a lock; where another has it, calls `waiting` and waits."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, kind)
        yield
