# SPDX-License-Identifier: GPL-2.0-only
"""The private copy of the checkout in which code is broken; the checkout itself is never changed."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dmabuf_lab import config
from dmabuf_lab.errors import LabError

from .apply import changed_files
from .model import Mutant
from .progress import step

FOLDER = "build/mutate"


def listed(base: Path) -> list[str]:
    """The files of a checkout that git knows or would take, as paths below it."""
    argv = ["git", "-C", str(base), "ls-files", "-z", "-co", "--exclude-standard"]
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode != 0:
        raise LabError(f"git ls-files failed: {result.stderr.strip()}")
    names = sorted(set(result.stdout.split("\0")) - {""})
    return [name for name in names if (base / name).is_file() or (base / name).is_symlink()]


def digest(base: Path, tops: Iterable[str]) -> str:
    """A hash over the names and the contents of all files below the named ones."""
    result = hashlib.sha256()
    for top in sorted(tops):
        path = base / top
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                result.update(f"{file.relative_to(base)}|{content}\n".encode())
    return result.hexdigest()[:16]


class Tree:
    """The copy, at build/mutate/tree, with build folders of its own."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.folder = checkout / FOLDER
        self.path = self.folder / "tree"

    def update(self) -> int:
        """Makes the copy equal to the checkout; returns how many files changed.

        A file that is new to the copy keeps its time, so that products that are copied along stay
        current. One whose content changes gets a new time, also when it goes back to what it was: make
        and ninja compare times.
        """
        self._products()
        names = listed(self.checkout)
        changed = 0
        for name in names:
            source, target = self.checkout / name, self.path / name
            if target.is_symlink() or not target.exists():
                target.unlink(missing_ok=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
                changed += 1
            elif source.read_bytes() != target.read_bytes():
                shutil.copyfile(source, target)
                changed += 1
        wanted = set(names)
        for file in sorted(self.path.rglob("*")):
            name = str(file.relative_to(self.path))
            if not name.startswith("build/") and not file.is_dir() and name not in wanted:
                file.unlink()
                changed += 1
        return changed

    def _products(self) -> None:
        """Takes over what the lab has built in the checkout, with its times, the first time."""
        source, target = self.checkout / config.BUILD_DIR, self.path / config.BUILD_DIR
        if target.exists() or not source.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name("lab.part")
        shutil.rmtree(part, ignore_errors=True)
        with step(f"copying {config.BUILD_DIR}"):
            result = subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(part)])
        if result.returncode != 0:
            raise LabError(f"{config.BUILD_DIR} cannot be copied")
        part.rename(target)

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[None]:
        """The copy with the mutant's change in it; raises apply.Stale if that does not fit."""
        changed = changed_files(
            mutant.edits, lambda name: (self.path / name).read_text(encoding="utf-8")
        )
        before = {name: (self.path / name).read_bytes() for name in changed}
        try:
            for name, text in changed.items():
                (self.path / name).write_text(text, encoding="utf-8")
            yield
        finally:
            for name, content in before.items():
                (self.path / name).write_bytes(content)
