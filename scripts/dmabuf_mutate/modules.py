# SPDX-License-Identifier: GPL-2.0-only
"""Builds a module for each mutant, and the programs that the guest runs."""

import hashlib
import shutil
from pathlib import Path

from dmabuf_lab import build, cache
from dmabuf_lab.errors import LabError
from dmabuf_lab.guest_kernel import GuestKernel
from dmabuf_lab.root import Root

from .model import Mutant
from .tree import Tree, digest

ORIGINAL = "original"


class Modules:
    """dmabuf_rw.ko for one kernel, as it is and with each mutant; kept in a folder that a guest sees."""

    def __init__(self, tree: Tree, lab: Root, kernel: GuestKernel, folder: Path) -> None:
        self.tree, self.kernel = tree, kernel
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.builder = build.Builder(lab, tree.path)
        self.source = digest(tree.path, build.MODULE_INPUTS)

    def _build(self) -> Path:
        with cache.lock(self.tree.path / "build/.lab.lock", what="the build folder"):
            self.builder.module(self.kernel)
        return self.tree.path / build.module_path(self.kernel.release)

    def _keep(self, name: str) -> Path:
        kept = self.folder / f"{name}.ko"
        part = kept.with_suffix(".part")
        shutil.copyfile(self._build(), part)
        part.rename(kept)
        return kept

    def base(self) -> Path:
        """Builds the guest's programs and the module as it is."""
        with cache.lock(self.tree.path / "build/.lab.lock", what="the build folder"):
            self.builder.engine()
        return self._keep(ORIGINAL)

    def testexp(self) -> Path:
        """The test exporter's module, which no mutant changes."""
        kept = self.folder / "testexp.ko"
        shutil.copyfile(self.tree.path / build.exporter_path(self.kernel.release), kept)
        return kept

    def mutated(self, mutant: Mutant) -> tuple[Path | None, str]:
        """The module with the mutant in it, or None and what the build said.

        What an earlier run built is taken if neither the mutant nor the code has changed since.
        """
        change = f"{mutant.edits}|{self.source}|{self.builder.identity}"
        name = f"{mutant.id}-{hashlib.sha256(change.encode()).hexdigest()[:16]}"
        kept = self.folder / f"{name}.ko"
        if kept.exists():
            return kept, ""
        for old in self.folder.glob(f"{mutant.id}-*.ko"):
            old.unlink()
        with self.tree.broken(mutant):
            try:
                return self._keep(name), ""
            except LabError as error:
                lines = str(error).splitlines()
                errors = [line for line in lines if "error:" in line] or lines
                return None, errors[0]
