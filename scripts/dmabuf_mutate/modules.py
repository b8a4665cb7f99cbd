# SPDX-License-Identifier: GPL-2.0-only
"""Builds what a guest needs for each mutant: a module, or the engine and its programs."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dmabuf_lab import build, cache
from dmabuf_lab.errors import LabError
from dmabuf_lab.guest_kernel import GuestKernel
from dmabuf_lab.root import Root

from .model import Mutant
from .tree import Tree, digest

ORIGINAL = "original"
# What a mutant outside of kernel/ may change, below the lab's build folder.
PRODUCTS = (*build.ENGINE_PRODUCTS, "engine/integrity/dmabuf-integrity")


@dataclass(frozen=True)
class Built:
    """A mutant's products: the module to load, and files that stand in for others of the guest.

    shown: by their paths in the lab's build folder. error: what the build said if it failed.
    """

    module: Path
    shown: Mapping[str, Path] = field(default_factory=dict)
    error: str = ""


class Modules:
    """dmabuf_rw.ko for one kernel, as it is and with each mutant; kept in a folder that a guest sees."""

    def __init__(self, tree: Tree, lab: Root, kernel: GuestKernel, folder: Path) -> None:
        self.tree, self.kernel = tree, kernel
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.builder = build.Builder(lab, tree.path)
        self.source = digest(tree.path, (*build.MODULE_INPUTS, "engine"))

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

    def hurt(self) -> Path:
        """The module of the attacks, where they look for it: in testmod beside dmabuf_rw.ko."""
        kept = self.folder / "testmod" / Path(build.hurt_path(self.kernel.release)).name
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(self.tree.path / build.hurt_path(self.kernel.release), kept)
        return kept

    def mutated(self, mutant: Mutant) -> Built:
        """Builds the module, or the engine, with the mutant in it; raises Stale if it does not fit.

        What an earlier run built is taken if neither the mutant nor the code has changed since.
        """
        change = f"{mutant.edits}|{self.source}|{self.builder.identity}"
        name = f"{mutant.id}-{hashlib.sha256(change.encode()).hexdigest()[:16]}"
        kernel = any(edit.file.startswith("kernel/") for edit in mutant.edits)
        kept = self.folder / (f"{name}.ko" if kernel else name)
        if not kept.exists():
            for old in self.folder.glob(f"{mutant.id}-{'?' * 16}*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            with self.tree.broken(mutant):
                try:
                    self._keep(name) if kernel else self._keep_engine(kept)
                except LabError as error:
                    lines = str(error).splitlines()
                    errors = [line for line in lines if "error:" in line] or lines
                    return Built(kept, error=errors[0])
        if kernel:
            return Built(kept)
        shown = {product: kept / Path(product).name for product in PRODUCTS}
        return Built(self.folder / f"{ORIGINAL}.ko", shown)

    def _keep_engine(self, kept: Path) -> None:
        with cache.lock(self.tree.path / "build/.lab.lock", what="the build folder"):
            self.builder.engine()
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for product in PRODUCTS:
            shutil.copy(self.builder.out / product, part / Path(product).name)
        part.rename(kept)
