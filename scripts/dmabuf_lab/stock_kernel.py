# SPDX-License-Identifier: GPL-2.0-only
"""Fetches the stock kernels that set-up does not bring, each once, when it is first asked for.

A fetched kernel is a folder in the cache, stock-kernel-NAME-HASH, with

  vmlinuz              the image
  lib/modules/RELEASE  its modules
  src                  what modules are built against, to be shown as /usr/src in the lab root
  src/compiler         the compiler that built it, where the lab root has another
  info.json            what it is; written last
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files
from dmabuf_common.clock import now

from . import apt, cache, chroot, config, kept, kernels, root
from .errors import LabError
from .private_apt import PrivateApt
from .progress import fetching, say

# Raise it when what is made of the packages changes.
RECIPE_VERSION = 1
PREFIX = "stock-kernel-"

# Where `src` is shown in the lab root, and the folder of it with the compiler.
PLACE = "/usr/src"
COMPILER = "compiler"

# Where the kernel's folder is shown while its modules are listed.
MOUNT = "/share"


@dataclass(frozen=True)
class StockKernel(kernels.KeptKernel):
    """A fetched one."""

    series: config.KernelSeries

    @property
    def source(self) -> Path:
        """What is to be shown as PLACE."""
        return self.path / "src"

    @property
    def headers(self) -> Path:
        """What modules are built against."""
        return self.source / f"linux-headers-{self.release}"


def item_path(series: config.KernelSeries) -> Path:
    """Where the kernel of a series is in the cache, or will be."""
    recipe = [RECIPE_VERSION, series.suite, series.version, series.flavour, series.compiler]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    return cache.folder() / f"{PREFIX}{series.name}-{digest}"


def _kept_name(series: config.KernelSeries) -> str:
    """Under which its packages are kept."""
    return f"{PREFIX}{series.name}"


def kept_names() -> list[str]:
    """Of all kernels that may be fetched."""
    return [_kept_name(series) for series in (*config.KERNELS, *config.ARM64_KERNELS)]


def find(series: config.KernelSeries) -> StockKernel | None:
    """The kernel of a series if it was fetched."""
    path = item_path(series)
    try:
        return StockKernel(path, json.loads((path / "info.json").read_text()), series)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


@contextmanager
def in_use(kernel: StockKernel) -> Iterator[StockKernel]:
    """Keeps `clean` from removing the kernel meanwhile."""
    with cache.lock(_lock_path(kernel.path), shared=True, what="the fetched kernel"):
        if not (kernel.path / "info.json").exists():
            raise LabError(f"the kernel {kernel.series.name} was removed meanwhile")
        yield kernel


def extract(folder: Path, into: Path) -> None:
    """Unpacks the binary packages of a folder."""
    for package in sorted(folder.glob("*.deb")):
        result = subprocess.run(
            ["dpkg-deb", "--extract", str(package), str(into)], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise LabError(f"cannot unpack {package.name}: {result.stderr.strip()}")


def _only(found: list[Path], what: str, release: str) -> Path:
    if not found:
        raise LabError(f"the packages of the kernel {release} hold no {what}")
    return found[0]


def place_headers(unpacked: Path, source: Path, release: str) -> None:
    """Moves what modules are built against to one folder, and the links between its parts with it."""
    source.mkdir()
    for path in sorted(unpacked.glob("usr/src/linux-headers-*")):
        path.rename(source / path.name)
    for path in sorted(unpacked.glob("usr/lib/linux-kbuild-*")):
        path.rename(source / path.name)
    if not (source / f"linux-headers-{release}/Makefile").is_file():
        raise LabError(f"the packages of the kernel {release} hold no headers")
    for headers in source.glob("linux-headers-*"):
        for link in (path for path in headers.iterdir() if path.is_symlink()):
            kept = re.match(r"(?:\.\./)+lib/(linux-kbuild-.*)", os.readlink(link))
            if kept:
                link.unlink()
                link.symlink_to(f"../{kept[1]}")


def place_compiler(unpacked: Path, source: Path) -> None:
    """Moves a compiler, which finds its parts by where it is itself, to a folder of its own."""
    (source / COMPILER).mkdir()
    for name in ("bin", "lib", "libexec"):
        if (unpacked / "usr" / name).is_dir():
            (unpacked / "usr" / name).rename(source / COMPILER / name)


def place_image(unpacked: Path, item: Path, release: str) -> None:
    """Moves the image and its modules to where a fetched kernel has them."""
    modules = _only(
        [path for path in (unpacked / "usr/lib/modules", unpacked / "lib/modules") if path.is_dir()],
        "modules",
        release,
    )
    (item / "lib").mkdir()
    modules.rename(item / "lib/modules")
    inside = item / "lib/modules" / release
    for link in ("build", "source"):
        (inside / link).unlink(missing_ok=True)
    images = [inside / "vmlinuz", unpacked / f"boot/vmlinuz-{release}"]
    image = _only([path for path in images if path.is_file()], "image", release)
    image.rename(item / "vmlinuz")


def _make(lab: root.Root, series: config.KernelSeries, mirror: str, work: Path) -> dict[str, Any]:
    private = PrivateApt(work / "apt", series.arch, _kept_name(series))
    if not private.use(mirror, series.suite, "deb"):
        raise LabError(
            f"the kernel {series.name} is to be fetched, and the archive cannot be reached or has no "
            f"{series.suite}: with a network, run this again"
        )
    image = kernels.newest(private.names("linux-image-"), series.version, series.flavour)
    release = kernels.release_of(image)
    item, unpacked = work / "item", work / "unpacked"
    item.mkdir()
    headers = kernels.headers(private.depends(f"linux-headers-{release}"), release)
    images = sorted({image, *kernels.parts(private.depends(image), release)})
    for name in (*headers, *images):
        # Programs that run while a module is built are for this machine.
        foreign = series.arch != "amd64" and name.startswith("linux-kbuild-")
        extract(private.download(f"{name}:amd64" if foreign else name), unpacked)
    place_headers(unpacked, item / "src", release)
    place_image(unpacked, item, release)
    for name in series.compiler:
        extract(private.download(name), work / "compiler")
    if series.compiler:
        place_compiler(work / "compiler", item / "src")
    kept.settle(_kept_name(series), private.used)
    bind = chroot.Bind(item, MOUNT, read_only=False)
    chroot.check(lab.path, ["depmod", "-b", MOUNT, release], "listing the modules", binds=[bind])
    return {
        "name": series.name,
        "release": release,
        "suite": series.suite,
        "packages": [*headers, *images, *series.compiler],
        "made": now(),
    }


def get(lab: root.Root, series: config.KernelSeries) -> StockKernel:
    """The kernel of a series, fetched now if it is not there. Only one is fetched at a time.

    It is made under another name and renamed when complete.
    """
    kernel = find(series)
    if kernel is not None:
        return kernel
    chroot.need_root()
    with cache.lock(cache.folder() / "stock-kernel.lock", what="the fetching of a kernel"):
        kernel = find(series)
        if kernel is not None:
            return kernel
        mirror = root.debian_mirror()
        if mirror is None:
            raise LabError(f"no Debian archive is known to fetch the kernel {series.name} from")
        target = item_path(series)
        # What was cut off: fetching one, and, without its info.json, removing one.
        for stale in (*cache.folder().glob(f"{PREFIX}*.tmp.*"), target):
            shutil.rmtree(stale, ignore_errors=True)
        work = target.with_name(f"{target.name}.tmp.{os.getpid()}")
        work.mkdir()
        try:
            text = f"fetching the newest {series.name} kernel (100 MB, once)"
            with fetching(text, work / "apt", kept=kept.folder()):
                info = _make(lab, series, mirror, work)
            files.write_json(work / "item/info.json", info)
            (work / "item").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    kernel = find(series)
    if kernel is None:
        raise LabError(f"the kernel {series.name} vanished right after it was fetched")
    say(f"the {series.name} kernel is {kernel.release}")
    return kernel


def remove(everything: bool) -> list[str]:
    """Removes fetched kernels that no series asks for any more, or all; returns those kept in use."""
    wanted = () if everything else (*config.KERNELS, *config.ARM64_KERNELS)
    current = [item_path(series) for series in wanted]
    with files.try_lock(cache.folder() / "stock-kernel.lock") as free:
        if not free:
            return ["the kernel that is being fetched"]
        return cache.remove_unused(cache.folder().glob(f"{PREFIX}*"), current, _lock_path)
