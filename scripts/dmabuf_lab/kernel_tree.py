# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that the user built: `run --kernel-tree DIR`.

Nothing in DIR changes. Its modules are listed in the cache, in kernel-tree-HASH, as links to DIR's own
files where the file system can do that, and otherwise as copies.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common import files

from . import cache, chroot, debug_kernel, root
from .errors import LabError

PREFIX = "kernel-tree-"
MOUNT = "/share"
IMAGE = "arch/x86/boot/bzImage"

# What the guest needs of a kernel. "y": built in; "m": built in or a module.
NEEDED = {
    "CONFIG_64BIT": "y",
    "CONFIG_MODULES": "y",
    "CONFIG_MODULE_UNLOAD": "y",
    "CONFIG_BLK_DEV_INITRD": "y",
    "CONFIG_BINFMT_ELF": "y",
    "CONFIG_BINFMT_SCRIPT": "y",
    "CONFIG_PROC_FS": "y",
    "CONFIG_SYSFS": "y",
    "CONFIG_DEVTMPFS": "y",
    "CONFIG_TMPFS": "y",
    "CONFIG_TMPFS_XATTR": "y",
    "CONFIG_UNIX98_PTYS": "y",
    "CONFIG_DEBUG_FS": "y",
    "CONFIG_FTRACE": "y",
    "CONFIG_SERIAL_8250_CONSOLE": "y",
    "CONFIG_PCI": "y",
    "CONFIG_INET": "y",
    "CONFIG_IO_URING": "y",
    "CONFIG_UDMABUF": "y",
    "CONFIG_DMABUF_HEAPS": "y",
    "CONFIG_DMABUF_HEAPS_SYSTEM": "m",
    "CONFIG_VIRTIO_PCI": "m",
    "CONFIG_VIRTIO_CONSOLE": "m",
    "CONFIG_VIRTIO_BLK": "m",
    "CONFIG_NET_9P_VIRTIO": "m",
    "CONFIG_9P_FS": "m",
    "CONFIG_OVERLAY_FS": "m",
    "CONFIG_BLK_DEV_NVME": "m",
    "CONFIG_DRM_VGEM": "m",
    "CONFIG_DRM_VIRTIO_GPU": "m",
    "CONFIG_VFIO_PCI": "m",
}


@dataclass(frozen=True)
class KernelTree:
    """A kernel built in `path`; modules: the folder with its modules.dep."""

    path: Path
    release: str
    modules: Path

    @property
    def image(self) -> Path:
        """Its bootable image."""
        return self.path / IMAGE


def lacking(configuration: str) -> list[str]:
    """The settings that the guest needs and a .config has not, as "NAME=wanted"."""
    made, _ = debug_kernel.wanted(configuration)
    return [
        f"{name}={wanted}"
        for name, wanted in NEEDED.items()
        if made.get(name) != "y" and not (wanted == "m" and made.get(name) == "m")
    ]


def examine(tree: Path) -> str:
    """The release of the kernel that was built in a folder; LabError says what it lacks."""
    where = f"--kernel-tree {tree}"
    if not tree.is_dir():
        raise LabError(f"{where}: no such folder")
    if (tree / "source").is_symlink():
        raise LabError(f"{where}: it was built there from a source elsewhere (O=); build it in its source")
    if not (tree / ".config").is_file():
        raise LabError(f"{where}: there is no .config; configure and build the kernel first")
    missing = lacking((tree / ".config").read_text(encoding="utf-8"))
    if missing:
        raise LabError(f"{where}: the guest needs {', '.join(missing)} in the kernel's configuration")
    if not (tree / IMAGE).is_file():
        raise LabError(f"{where}: there is no {IMAGE}; run `make bzImage modules` there")
    for needed in ("modules.order", "modules.builtin", "Module.symvers"):
        if not (tree / needed).is_file():
            raise LabError(f"{where}: there is no {needed}; run `make modules` there")
    try:
        return (tree / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise LabError(f"{where}: it does not say its release; run `make modules` there") from None


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def list_modules(tree: Path, folder: Path) -> None:
    """Fills the folder of a release as `make modules_install` does, but for what depmod makes."""
    for line in (tree / "modules.order").read_text(encoding="utf-8").split():
        # Before 6.4 it names the modules as they are installed.
        name = re.sub(r"\.o$", ".ko", line).removeprefix("kernel/")
        if not (tree / name).is_file():
            raise LabError(f"--kernel-tree {tree}: there is no {name}; run `make modules` there")
        _place(tree / name, folder / "kernel" / name)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (tree / name).is_file():
            _place(tree / name, folder / name)


def _mark(tree: Path) -> str:
    names = (IMAGE, ".config", "modules.order", "Module.symvers")
    stats = [(tree / name).stat() for name in names]
    return "".join(f"{stat.st_size}|{stat.st_mtime_ns}\n" for stat in stats)


@contextmanager
def in_use(lab: root.Root, tree: Path) -> Iterator[KernelTree]:
    """The kernel that was built in a folder; its modules are listed anew when it was built anew."""
    tree = tree.resolve()
    release = examine(tree)
    chroot.need_root()
    digest = hashlib.sha256(str(tree).encode()).hexdigest()[:16]
    place = cache.folder() / f"{PREFIX}{digest}"
    lock = place.with_name(place.name + ".lock")
    modules = place / "lib/modules" / release
    with cache.lock(lock, what=f"the modules of {tree}"):
        stamp = place / "stamp"
        if not stamp.is_file() or stamp.read_text() != _mark(tree):
            with suppress(FileNotFoundError):
                shutil.rmtree(place)
            list_modules(tree, modules)
            bind = chroot.Bind(place, MOUNT, read_only=False)
            command = ["depmod", "-b", MOUNT, release]
            chroot.check(lab.path, command, "listing the modules", binds=[bind])
            stamp.write_text(_mark(tree))
    with cache.lock(lock, shared=True, what=f"the modules of {tree}"):
        yield KernelTree(tree, release, modules)


def remove() -> list[str]:
    """Removes the lists of modules; returns those kept because they are in use."""
    kept = []
    for path in sorted(cache.folder().glob(f"{PREFIX}*")):
        if not path.is_dir():
            continue
        lock = path.with_name(path.name + ".lock")
        with files.try_lock(lock) as unused:
            if not unused:
                kept.append(str(path))
                continue
            shutil.rmtree(path)
            lock.unlink(missing_ok=True)
    return kept
