# SPDX-License-Identifier: GPL-2.0-only
"""Builds the engine, the guest's test programs and the kernel module inside the lab root."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from . import arm64, cache, chroot, config, stock_kernel
from .errors import LabError
from .guest_kernel import GuestKernel
from .progress import say, step
from .root import Root

ENGINE_INPUTS = (
    "CMakeLists.txt",
    "CMakePresets.json",
    "cmake",
    "docs/examples",
    "engine",
    "kernel/uapi",
    "tests/fakes",
    "tests/plugins",
    "tests/vm",
)
# What it makes, in the lab's build folder: the library, and the engine of the lab's fio beside it.
ENGINE_PRODUCTS = ("engine/libdmabuf.so", f"engine/libdmabuf/fio-{config.FIO_VERSION}.so")
MODULE_INPUTS = ("kernel",)
# Where headers that are not in the lab root are shown while a module is built.
HEADERS_MOUNT = "/share"
# Where a root has compilers' names that are ccache, and where that keeps what they made.
CCACHE, CCACHE_MOUNT = "/usr/lib/ccache", "/srv"
# The folder of the cache that is shown there.
OBJECTS = "ccache"
EXPORTER_INPUTS = ("kernel/testexp", "kernel/probe.mk", "kernel/probes", "kernel/uapi")
HURT_INPUTS = ("kernel/testmod",)
# What a module's build may not say, but for what it says of a kernel that was built elsewhere (--kernel-tree).
COMPLAINT = re.compile(r"\b(warning|error)\s*:", re.IGNORECASE)
KNOWN = re.compile(r"the compiler differs from the one used to build the kernel")


def checkout() -> Path:
    """The checkout that this program is part of."""
    return Path(__file__).resolve().parents[2]


def fingerprint(base: Path, inputs: Iterable[str], extra: str) -> str:
    """A hash over names, sizes and times of all files below the inputs, and over `extra`.

    An input that is not there is an error (LabError): a renamed one would no longer be looked at.
    """
    digest = hashlib.sha256(extra.encode())
    for name in inputs:
        top = base / name
        if not top.exists():
            raise LabError(f"there is no {name} in the checkout, of which the build makes something")
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in files:
            status = path.stat()
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def complaints(output: str) -> list[str]:
    """The lines of a module's build in which anything complains: compiler, linker, modpost, objtool, kernel-doc."""
    found = (line for line in output.splitlines() if COMPLAINT.search(line) and not KNOWN.search(line))
    return list(dict.fromkeys(found))


def build_dir(arch: str) -> str:
    """Where what is made for an architecture is, relative to the checkout."""
    return config.ARM64_BUILD_DIR if arch == "arm64" else config.BUILD_DIR


def module_path(release: str, arch: str = "amd64") -> str:
    """Where a kernel's dmabuf_rw.ko is, relative to the checkout."""
    return f"{build_dir(arch)}/kernel/{release}/dmabuf_rw.ko"


def exporter_path(release: str, arch: str = "amd64") -> str:
    """Where a kernel's dmabuf_testexp.ko is, relative to the checkout."""
    return f"{build_dir(arch)}/kernel/{release}/testexp/dmabuf_testexp.ko"


def hurt_path(release: str, arch: str = "amd64") -> str:
    """Where a kernel's dmabuf_hurt.ko is, relative to the checkout."""
    return f"{build_dir(arch)}/kernel/{release}/testmod/dmabuf_hurt.ko"


def _headers(kernel: GuestKernel) -> tuple[str, list[chroot.Bind], str]:
    """What a kernel's modules are built against in the lab root, what is shown there, and PATH."""
    path = f"{CCACHE}:{chroot.ENVIRONMENT['PATH']}"
    if kernel.headers is None:
        return f"/usr/lib/modules/{kernel.release}/build", [], path
    if kernel.source is None:
        return HEADERS_MOUNT, [chroot.Bind(kernel.headers, HEADERS_MOUNT)], path
    inside = f"{stock_kernel.PLACE}/{kernel.headers.relative_to(kernel.source)}"
    bind = chroot.Bind(kernel.source, stock_kernel.PLACE)
    return inside, [bind], f"{stock_kernel.PLACE}/{stock_kernel.COMPILER}/bin:{path}"


def ccache_settings() -> dict[str, str]:
    """ccache's environment but for its folder: a compiler is known by its content; headers that are compiled once are allowed."""
    return {
        "CCACHE_CONFIGPATH": "/dev/null",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_MAXSIZE": "2G",
        "CCACHE_SLOPPINESS": "pch_defines,time_macros",
    }


def ccache_folder() -> Path:
    """Where objects are kept, made if missing: what is compiled anew is what changed, in any checkout."""
    folder = cache.folder() / OBJECTS
    folder.mkdir(exist_ok=True)
    return folder


class Builder:
    """Builds one checkout in one lab root; nothing else in either changes but the build folder.

    For arm64 the root is the one with the cross compilers.
    """

    def __init__(self, root: Root, base: Path, arch: str = "amd64") -> None:
        self.root, self.base, self.arch = root, base, arch
        self.out = base / build_dir(arch)
        self.out.mkdir(parents=True, exist_ok=True)
        self.identity = f"{root.path}|{root.info['made']}"

    def _inside(
        self, command: Sequence[str], what: str, more: Sequence[chroot.Bind] = ()
    ) -> str:
        source = chroot.Bind(self.base, config.GUEST_SOURCE)
        products = chroot.Bind(
            self.base / "build", f"{config.GUEST_SOURCE}/build", read_only=False
        )
        objects = chroot.Bind(ccache_folder(), CCACHE_MOUNT, read_only=False)
        settings = {"CCACHE_DIR": CCACHE_MOUNT, **ccache_settings()}
        command = ["env", *(f"{name}={value}" for name, value in settings.items()), *command]
        output = chroot.check(self.root.path, command, what, binds=[source, products, objects, *more])
        if "warning:" in output:
            say(f"{what} gave warnings:\n{output.strip()}")
        return output

    def _current(self, stamp: Path, wanted: str, products: Sequence[Path]) -> bool:
        if not all(path.exists() for path in products):
            return False
        try:
            return stamp.read_text() == wanted
        except FileNotFoundError:
            return False

    def engine(self, programs: Sequence[str] = ()) -> None:
        """Builds the engine and the test programs, or these programs alone; does nothing when no input changed."""
        stamp = self.out / ".engine.stamp"
        wanted = fingerprint(self.base, ENGINE_INPUTS, self.identity)
        products = [self.out / name for name in ENGINE_PRODUCTS]
        if self._current(stamp, wanted, products):
            return
        where = f"{config.GUEST_SOURCE}/{build_dir(self.arch)}"
        compilers = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
        if self.arch == "arm64":
            compilers.append(f"-DCMAKE_TOOLCHAIN_FILE={arm64.TOOLCHAIN}")
        cache_file = self.out / "CMakeCache.txt"
        mark = self.out / ".root"
        if not mark.exists() or mark.read_text() != self.identity:
            cache_file.unlink(missing_ok=True)
        with step("building the engine and the test programs"):
            self._inside(
                [
                    *self._environment(),
                    *("cmake", "-S", config.GUEST_SOURCE, "-B", where, "-G", "Ninja"),
                    # As an installed engine is, but for debug information, which is half of the work.
                    *("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O2 -DNDEBUG"),
                    "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG",
                    f"-DFIO_SOURCE_DIR={config.FIO_SOURCE}",
                    "-DDMABUF_TESTS=vm",
                    *compilers,
                ],
                "configuring the engine",
            )
            mark.write_text(self.identity)
            targets = [f"vm_{program}" for program in programs]
            self._inside(["ninja", "-k", "0", "-C", where, *targets], "building the engine")
        if programs:
            return
        for product in products:
            if not product.exists():
                raise LabError(f"the build made no {product.relative_to(self.out)}")
        stamp.write_text(wanted)

    def _environment(self) -> list[str]:
        """Libraries of the architecture are found by their .pc files."""
        return ["env", f"PKG_CONFIG_LIBDIR={arm64.PKG_CONFIG}"] if self.arch == "arm64" else []

    def module(self, kernel: GuestKernel) -> None:
        """Builds dmabuf_rw.ko for a kernel, and the modules that only tests load; with W=1, no message is let pass."""
        release, arch = kernel.release, kernel.arch
        self._module("kernel", kernel, self.base / module_path(release, arch), MODULE_INPUTS)
        product = self.base / exporter_path(release, arch)
        self._module("kernel/testexp", kernel, product, EXPORTER_INPUTS)
        if kernel.hurt:
            self._module("kernel/testmod", kernel, self.base / hurt_path(release, arch), HURT_INPUTS)

    def _module(
        self, source: str, kernel: GuestKernel, product: Path, inputs: Sequence[str]
    ) -> None:
        release = kernel.release
        headers, binds, path = _headers(kernel)
        stamp = product.with_name(".stamp")
        wanted = fingerprint(self.base, inputs, f"{self.identity}|{release}|{kernel.headers}{kernel.mark}|W=1")
        if self._current(stamp, wanted, [product]):
            return
        product.parent.mkdir(parents=True, exist_ok=True)
        out = product.parent.relative_to(self.base)
        what = f"building {product.name} for {release}"
        # There while a build has not been heard to its end: an object that is there already is compiled in silence.
        unheard = product.with_name(".unheard")
        if unheard.exists():
            for made in product.parent.glob("*.o"):
                made.unlink()
        unheard.touch()
        with step(what):
            output = self._inside(
                [
                    # Debian's headers name the compiler, and that alone; others' find it in PATH.
                    *("env", f"PATH={path}", "DEBIAN_KERNEL_USE_CCACHE=yes"),
                    *("make", "-s", f"-j{os.cpu_count() or 1}", "W=1"),
                    *("-C", f"{config.GUEST_SOURCE}/{source}"),
                    *(arm64.KBUILD if kernel.arch == "arm64" else ()),
                    f"KDIR={headers}",
                    f"BUILD={config.GUEST_SOURCE}/{out}",
                ],
                what,
                binds,
            )
        if not product.exists():
            raise LabError(f"the build made no {product.name} for {release}")
        found = complaints(output)
        if found:
            product.unlink()
            raise LabError("\n".join([f"{what} gave these messages, and none is let pass:", *found]))
        unheard.unlink()
        stamp.write_text(wanted)


def build(
    root: Root, kernels: Iterable[GuestKernel], *, engine: bool = True, programs: Sequence[str] = (), arch: str = "amd64"
) -> None:
    """Builds what is asked for in this checkout; builds of one checkout wait for each other.

    All parts are tried; the LabError names every part that failed. root: where it is built. programs: of the engine's part
    these test programs alone.
    """
    base = checkout()
    # Also where the guest looks for what was made for another architecture.
    (base / config.BUILD_DIR).mkdir(parents=True, exist_ok=True)
    # `clean` leaves the folder to a build.
    objects = cache.lock(cache.lock_beside(OBJECTS), shared=True, what="the compiled objects")
    with cache.lock(base / "build/.lab.lock", what="the build folder"), objects:
        builder = Builder(root, base, arch)
        parts: list[Callable[[], None]] = [partial(builder.engine, programs)] if engine else []
        parts += [partial(builder.module, kernel) for kernel in kernels]
        errors = []
        for part in parts:
            try:
                part()
            except LabError as error:
                errors.append(str(error))
    if errors:
        raise LabError("\n".join(errors))
