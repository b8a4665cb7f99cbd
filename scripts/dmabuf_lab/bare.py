# SPDX-License-Identifier: GPL-2.0-only
"""Where tests/bare keeps its bare Debian roots and what they fetched: the folder `bare` of the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cache

NAME = "bare"


def folder() -> Path:
    """Where they are, made if missing."""
    path = cache.folder() / NAME
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def in_use() -> Iterator[Path]:
    """Gives the folder, and keeps `clean` from removing it meanwhile."""
    with cache.lock(cache.lock_beside(NAME), shared=True, what="the bare roots"):
        yield folder()


def remove() -> list[str]:
    """Removes all of it; returns it where it is in use."""
    return cache.remove_folder(NAME)
