# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder outside the checkout, and locks on what is in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError
from .progress import say


def folder() -> Path:
    """The cache folder ($DMABUF_LAB_CACHE, or dmabuf-lab under the user's cache), made if missing."""
    chosen = os.environ.get("DMABUF_LAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(chosen) if chosen else Path(base) / "dmabuf-lab"
    if not path.is_absolute():
        raise LabError(f"the cache folder must be an absolute path, not {path}")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock(path: Path, *, shared: bool = False, what: str = "") -> Iterator[None]:
    """Holds a lock on the file `path` (made if missing); waits for it, saying so.

    The lock goes away with the process, however that ends.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another dmabuf-lab that holds {what or path.name} …")
            fcntl.flock(file, kind)
        yield


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Tries to hold an exclusive lock on `path`; gives whether it got it, without waiting."""
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
