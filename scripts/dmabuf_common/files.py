# SPDX-License-Identifier: GPL-2.0-only
"""Files that are whole whenever a program may be killed, lines of JSON, and locks."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def replace(path: Path, text: str) -> None:
    """Writes a file as a whole: there is the old one or the new one, and it is on the disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by a value as JSON. ValueError for a number that JSON does not have."""
    replace(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_line(path: Path, value: Any) -> None:
    """Adds a line of JSON, which is on the disk then; what a kill left of an earlier one goes away."""
    with open(path, "ab+") as file:
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
    with open(path, "a", encoding="utf-8") as file:
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
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, kind)
        yield
