# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder outside the checkout, and locks on what is in it."""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dmabuf_common import files

from .errors import LabError
from .progress import say


def folder() -> Path:
    """The cache folder ($DMABUF_LAB_CACHE, or dmabuf-lab under the user's cache), made if missing."""
    chosen = os.environ.get("DMABUF_LAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(chosen) if chosen else Path(base) / "dmabuf-lab"
    if not path.is_absolute():
        raise LabError(f"the cache folder must be an absolute path, not {path}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        usable = os.access(path, os.W_OK | os.X_OK)
    except PermissionError:
        usable = False
    except OSError as error:
        raise LabError(f"the cache folder {path} cannot be made: {error.strerror}; set DMABUF_LAB_CACHE") from error
    if not usable:
        raise LabError(f"nothing can be kept in {path} by this user: run it as root, or set DMABUF_LAB_CACHE")
    return path


@contextmanager
def lock(path: Path, *, shared: bool = False, what: str = "") -> Iterator[None]:
    """Holds a lock on the file `path` (made if missing); waits for it, saying so.

    The lock goes away with the process, however that ends.
    """

    def waiting() -> None:
        say(f"waiting for another dmabuf-lab that holds {what or path.name} …")

    with files.lock(path, waiting, shared=shared):
        yield


def remove_unused(paths: Iterable[Path], keep: Collection[Path], lock_of: Callable[[Path], Path]) -> list[str]:
    """Removes folders with their locks, but those to keep and those in use; returns the latter.

    The caller holds the lock under which such folders are made.
    """
    kept = []
    for path in sorted(paths):
        if not path.is_dir() or path in keep:
            continue
        with files.try_lock(lock_of(path)) as unused:
            if not unused:
                kept.append(str(path))
                continue
            say(f"removing {path}")
            # What has no such file is not taken for a whole one, should this be interrupted.
            (path / "info.json").unlink(missing_ok=True)
            shutil.rmtree(path)
            lock_of(path).unlink(missing_ok=True)
    return kept


def lock_beside(name: str) -> Path:
    """Under which the folder `name` of the cache is used and removed. It stays when the folder goes: whoever waits for it
    then holds what others look at, too."""
    return folder() / f"{name}.lock"


def remove_folder(name: str) -> list[str]:
    """Removes a folder of the cache that is used under lock_beside(); returns it where it is in use."""
    with files.try_lock(lock_beside(name)) as unused:
        path = folder() / name
        if not unused:
            return [str(path)]
        for left in folder().glob(f"{name}.tmp.*"):
            shutil.rmtree(left)
        if path.is_dir():
            # Under another name: this may be cut off, and a part of a root is none.
            dying = path.with_name(f"{name}.tmp.{os.getpid()}")
            path.rename(dying)
            say(f"removing {path}")
            shutil.rmtree(dying)
    return []
