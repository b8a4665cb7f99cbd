# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that a guest can boot: the stock ones of the lab root, and the debug kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import config, debug_kernel
from .errors import LabError
from .root import Root


@dataclass(frozen=True)
class GuestKernel:
    """A kernel to boot and to build modules for.

    modules: the folder with its modules.dep, on the host; headers: what modules are built against, on
    the host, or None when the lab root has that; debug: it looks for mistakes, and takes its time;
    lockdep: it checks the order of locks; kcsan: it looks for data races.
    """

    release: str
    image: Path
    modules: Path
    headers: Path | None = None
    debug: bool = False
    lockdep: bool = False
    kcsan: bool = False


def names() -> list[str]:
    """What --kernel can be; the first is its default."""
    return [*(series.name for series in config.KERNELS), *config.DEBUG_FLAVOURS]


def stock(root: Root, name: str) -> GuestKernel:
    """The stock kernel of a series; raises LabError if the root has no image of it."""
    release = root.release(name)
    modules = root.path / "usr/lib/modules" / release
    for image in (modules / "vmlinuz", root.path / f"boot/vmlinuz-{release}"):
        if image.is_file():
            return GuestKernel(release, image, modules)
    raise LabError(f"the lab root has no kernel image for {release}")


def debug(kernel: debug_kernel.DebugKernel, flavour: str) -> GuestKernel:
    """A finished debug kernel."""
    return GuestKernel(
        kernel.release,
        kernel.image,
        kernel.modules,
        headers=kernel.path / "build",
        debug=True,
        lockdep=debug_kernel.has(flavour, "CONFIG_PROVE_LOCKING"),
        kcsan=debug_kernel.has(flavour, "CONFIG_KCSAN"),
    )


@contextmanager
def in_use(root: Root, name: str) -> Iterator[GuestKernel]:
    """The kernel called `name`, which `clean` does not remove meanwhile."""
    if name not in config.DEBUG_FLAVOURS:
        yield stock(root, name)
        return
    kernel = debug_kernel.need(root, name)
    with debug_kernel.in_use(kernel):
        yield debug(kernel, name)


def all_for_modules(root: Root) -> list[GuestKernel]:
    """Every kernel that modules are built for: the stock ones, and the debug kernels that are built."""
    kernels = [stock(root, series.name) for series in config.KERNELS]
    built = ((debug_kernel.find(root, flavour), flavour) for flavour in config.DEBUG_FLAVOURS)
    return kernels + [debug(kernel, flavour) for kernel, flavour in built if kernel]
