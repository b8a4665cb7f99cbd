# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that a guest can boot: stock ones, the debug kernels, and one that the user built."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import config, debug_kernel, kernel_image, kernel_tree, stock_kernel
from .errors import LabError
from .progress import say
from .root import Root


@dataclass(frozen=True)
class GuestKernel:
    """A kernel to boot and to build modules for.

    modules: the folder with its modules.dep, on the host; headers: what modules are built against, on
    the host, or None when the lab root has that; source: a folder to be shown as /usr/src, on the host,
    of which `headers` is a part then, and its compiler if it has one of its own; hurt: the module that
    only tests of accidents load is built for it; mark: changes whenever the kernel is built anew; lacks:
    devices that the guest has not; debug: it looks for mistakes, and takes its time;
    lockdep: it checks the order of locks; kcsan: it looks for data races; arch: the architecture;
    stock: it is Debian's, as it came.
    """

    release: str
    image: Path
    modules: Path
    headers: Path | None = None
    source: Path | None = None
    hurt: bool = True
    mark: str = ""
    lacks: tuple[str, ...] = ()
    debug: bool = False
    lockdep: bool = False
    kcsan: bool = False
    arch: str = "amd64"
    stock: bool = False

    def body(self) -> bytes | None:
        """What QEMU can start of it without its image, whose work an emulated processor would do; None if that has to start
        itself. A kernel of the user's always does: it may need more than was tried here (KASAN's shadow, say)."""
        if not self.stock or self.arch != "amd64":
            return None
        found = kernel_image.unpacked(self.image.read_bytes())
        if found is None:
            say(f"the image of {self.release} has to unpack itself, emulated: each boot takes some seconds longer")
        return found


def names() -> list[str]:
    """What --kernel can be; the first is its default."""
    return [*(series.name for series in config.KERNELS), *config.DEBUG_FLAVOURS]


def stock(root: Root, name: str) -> GuestKernel:
    """The stock kernel of a series that set-up brought; raises LabError if the root has no image of it."""
    release = root.release(name)
    modules = root.path / "usr/lib/modules" / release
    for image in (modules / "vmlinuz", root.path / f"boot/vmlinuz-{release}"):
        if image.is_file():
            return GuestKernel(release, image, modules, stock=True)
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


def fetched(kernel: stock_kernel.StockKernel) -> GuestKernel:
    """A stock kernel that is in the cache, and not in the lab root."""
    return GuestKernel(
        kernel.release,
        kernel.image,
        kernel.modules,
        headers=kernel.headers,
        source=kernel.source,
        lacks=kernel.series.lacks,
        arch=kernel.series.arch,
        stock=True,
    )


def built(kernel: kernel_tree.KernelTree) -> GuestKernel:
    """A kernel that the user built."""
    return GuestKernel(kernel.release, kernel.image, kernel.modules, headers=kernel.path, hurt=False, mark=kernel.mark)


def arm64_series(name: str, pages: str) -> config.KernelSeries:
    """The stock kernel for arm64 that --kernel and --pages ask for; LabError if there is none."""
    called = f"{name}-arm64" + ("" if pages == "4k" else f"-{pages}")
    found = next((series for series in config.ARM64_KERNELS if series.name == called), None)
    if found is None:
        there = [series.name.removesuffix("-arm64") for series in config.ARM64_KERNELS if series.pages == "4k"]
        raise LabError(f"there is no kernel {name} for arm64, only {', '.join(there)}")
    return found


@contextmanager
def in_use(root: Root, name: str, tree: Path | None = None) -> Iterator[GuestKernel]:
    """The kernel called `name`, or the one built in the folder `tree`.

    One that is to be fetched is fetched now. `clean` does not remove it meanwhile.
    """
    if tree is not None:
        with kernel_tree.in_use(root, tree) as user:
            yield built(user)
        return
    series = next((series for series in config.KERNELS if series.name == name), None)
    if series is not None and series.setup:
        yield stock(root, name)
        return
    if series is not None:
        with fetched_in_use(root, series) as found:
            yield found
        return
    kernel = debug_kernel.need(root, name)
    with debug_kernel.in_use(kernel):
        yield debug(kernel, name)


@contextmanager
def fetched_in_use(root: Root, series: config.KernelSeries) -> Iterator[GuestKernel]:
    """The stock kernel of a series that set-up does not bring, fetched now if it is not there."""
    with stock_kernel.in_use(stock_kernel.get(root, series)) as found:
        yield fetched(found)


def all_for_modules(root: Root) -> list[GuestKernel]:
    """The kernels that modules are built for beforehand: the stock ones that are there, and the debug kernel.

    For another flavour of that, and for arm64, they are built as a guest boots it.
    """
    kernels = [stock(root, series.name) for series in config.SETUP_KERNELS]
    rest = (stock_kernel.find(series) for series in config.KERNELS if not series.setup)
    kernels += [fetched(kernel) for kernel in rest if kernel]
    own = debug_kernel.find(root, config.DEBUG_KERNEL)
    return kernels + ([debug(own, config.DEBUG_KERNEL)] if own else [])
