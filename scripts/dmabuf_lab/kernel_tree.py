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

# How often the modules are listed again because a build changed them while they were listed.
TRIES = 3

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
    """A kernel built in `path`; modules: the folder with its modules.dep; mark: changes with each build."""

    path: Path
    release: str
    modules: Path
    mark: str

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
        release = (tree / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise LabError(f"{where}: it does not say its release; run `make modules` there") from None
    # It names a folder of the cache, and root fills that.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+~-]*", release):
        raise LabError(f"{where}: its release is {release!r}, which is no release of a kernel")
    return release


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def modules_of(tree: Path) -> list[str]:
    """The modules that were built, by their names in the folder; LabError where one is not in it."""
    names = []
    for line in (tree / "modules.order").read_text(encoding="utf-8").split():
        # Before 6.4 it names the modules as they are installed.
        name = re.sub(r"\.o$", ".ko", line).removeprefix("kernel/")
        if name.startswith("/") or ".." in name.split("/"):
            raise LabError(f"--kernel-tree {tree}: its modules.order names {name}, which is outside of it")
        if not (tree / name).is_file():
            raise LabError(f"--kernel-tree {tree}: there is no {name}; run `make modules` there")
        names.append(name)
    return names


def list_modules(tree: Path, folder: Path) -> None:
    """Fills the folder of a release as `make modules_install` does, but for what depmod makes."""
    for name in modules_of(tree):
        _place(tree / name, folder / "kernel" / name)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (tree / name).is_file():
            _place(tree / name, folder / name)


def _mark(tree: Path) -> str:
    # Each module: `make M=drivers/nvme/host` builds those of one folder, and touches nothing else.
    names = (IMAGE, ".config", "modules.order", "Module.symvers", *modules_of(tree))
    stats = [(tree / name).stat() for name in names]
    seen = "".join(f"{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}\n" for stat in stats)
    return hashlib.sha256(seen.encode()).hexdigest()


def _listed(place: Path) -> str:
    """The mark of the build whose modules are listed there; empty if that is not complete."""
    try:
        return (place / "stamp").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _remove(place: Path) -> None:
    # First what says that it is complete: this may be cut off.
    (place / "stamp").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(place)


def _list(lab: root.Root, tree: Path, place: Path, release: str, mark: str) -> None:
    _remove(place)
    list_modules(tree, place / "lib/modules" / release)
    bind = chroot.Bind(place, MOUNT, read_only=False)
    chroot.check(lab.path, ["depmod", "-b", MOUNT, release], "listing the modules", binds=[bind])
    (place / "stamp").write_text(mark, encoding="utf-8")


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
    what = f"the modules of {tree}"
    for _ in range(TRIES):
        # Who only uses the list waits for nobody who does the same.
        with cache.lock(lock, shared=True, what=what):
            if _listed(place) == (mark := _mark(tree)):
                yield KernelTree(tree, release, modules, mark)
                return
        with cache.lock(lock, what=what):
            # Taken before the list: a build while the modules are listed changes the mark.
            if _listed(place) != (mark := _mark(tree)):
                _list(lab, tree, place, release, mark)
    raise LabError(f"--kernel-tree {tree}: it changes while its modules are listed; wait for the build's end")


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
            _remove(path)
            lock.unlink(missing_ok=True)
    return kept
