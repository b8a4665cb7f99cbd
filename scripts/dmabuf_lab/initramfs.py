# SPDX-License-Identifier: GPL-2.0-only
"""Makes the initramfs: busybox, the modules that mount the root, the guest's first programs."""

import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import config
from .errors import LabError
from .guest_kernel import GuestKernel

# What must be loaded before the root is there, and what the tests use; their dependencies are looked
# up. virtio_gpu comes before vgem so that it is /dev/dri/card0.
FIRST_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
SECOND_MODULES = ("nvme", "virtio_blk", "virtio_gpu", "vgem", "vfio_pci")
FOLDERS = ("bin", "dev", "firmware", "lower", "modules", "new", "proc", "rw", "sys")


def _member(name: str, mode: int, data: bytes) -> bytes:
    """One member of a cpio archive in the "newc" format."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def cpio(folders: Sequence[str], files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive of folders (mode 755) and files given as name: (permissions, content)."""
    members = [_member(name, 0o040755, b"") for name in folders]
    members += [_member(name, 0o100000 | mode, data) for name, (mode, data) in files.items()]
    return b"".join(members) + _member("TRAILER!!!", 0, b"")


def module_name(path: str) -> str:
    """The name of a module by its path: "kernel/drivers/nvme/host/nvme-core.ko.xz" is nvme_core."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def load_order(modules_dep: str, wanted: Sequence[str], modules_builtin: str = "") -> list[str]:
    """Paths of the wanted modules and what they depend on, in the order to load them.

    modules_dep and modules_builtin are the texts of depmod's modules.dep and kbuild's
    modules.builtin; what the kernel has built in needs no loading. A wanted module that neither
    lists is an error (LabError).
    """
    builtin = {module_name(path) for path in modules_builtin.split()}
    depends: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
        paths[module_name(path)] = path
    order: list[str] = []
    for name in wanted:
        if name in builtin:
            continue
        if name not in paths:
            raise LabError(f"the kernel has no module {name}")
        for path in [*reversed(depends[paths[name]]), paths[name]]:
            if path not in order:
                order.append(path)
    return order


def _plain_name(path: str) -> str:
    """The file name of a module without its compression."""
    return Path(path).name.removesuffix(".xz")


def _module(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".ko":
        return path.read_bytes()
    raise LabError(f"cannot read the compression of {path.name}")


def make(
    root: Path, kernel: GuestKernel, spec: Mapping[str, Any], share: bool, firmware: bool = False
) -> bytes:
    """The initramfs for a kernel and the lab root, with the agent's instructions in it."""
    modules = kernel.modules
    here = Path(__file__).parent / "guest"
    listing = (modules / "modules.dep").read_text()
    builtin = (modules / "modules.builtin").read_text()
    first = load_order(listing, FIRST_MODULES, builtin)
    second = load_order(listing, (*SECOND_MODULES, *(["efivarfs"] if firmware else [])), builtin)
    second = [path for path in second if path not in first]
    files = {
        "init": (0o755, (here / "init").read_bytes()),
        "agent.py": (0o755, (here / "agent.py").read_bytes()),
        "debug_checks.py": (0o644, (here / "debug_checks.py").read_bytes()),
        "spec.json": (0o644, json.dumps(spec).encode()),
        "bin/busybox": (0o755, (root / "usr/bin/busybox").read_bytes()),
    }
    for name, paths in (("first", first), ("second", second)):
        lines = "".join(f"{_plain_name(path)}\n" for path in paths)
        files[f"modules/{name}"] = (0o644, lines.encode())
        for path in paths:
            files[f"modules/{_plain_name(path)}"] = (0o644, _module(modules / path))
    if share:
        files["want-share"] = (0o644, b"")
    if firmware:
        files["want-firmware"] = (0o644, b"")
    if not modules.is_relative_to(root):
        files["want-modules"] = (0o644, b"")
    if kernel.arch == "arm64":
        # Where it is to be shown, and what.
        files["want-build"] = (0o644, f"{config.BUILD_DIR} {config.ARM64_BUILD_DIR}\n".encode())
    return cpio(FOLDERS, files)
