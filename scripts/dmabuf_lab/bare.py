# SPDX-License-Identifier: GPL-2.0-only
"""Where tests/bare keeps its bare Debian roots and what they fetched: the folder `bare` of the cache."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmabuf_common import files

from . import cache
from .progress import say

NAME = "bare"


def folder() -> Path:
    """Where they are, made if missing."""
    path = cache.folder() / NAME
    path.mkdir(exist_ok=True)
    return path


def _lock_path() -> Path:
    """Beside the folder: who waits for the lock must not wait for a file of a folder that is gone."""
    return cache.folder() / f"{NAME}.lock"


@contextmanager
def in_use() -> Iterator[Path]:
    """Gives the folder, and keeps `clean` from removing it meanwhile."""
    with cache.lock(_lock_path(), shared=True, what="the bare roots"):
        yield folder()


def remove() -> list[str]:
    """Removes all of it; returns it where it is in use."""
    with files.try_lock(_lock_path()) as unused:
        if not unused:
            return [str(cache.folder() / NAME)]
        for left in cache.folder().glob(f"{NAME}.tmp.*"):
            shutil.rmtree(left)
        path = cache.folder() / NAME
        if path.is_dir():
            # Under another name: this may be cut off, and a part of a root is none.
            dying = path.with_name(f"{NAME}.tmp.{os.getpid()}")
            path.rename(dying)
            say(f"removing {path}")
            shutil.rmtree(dying)
    return []
