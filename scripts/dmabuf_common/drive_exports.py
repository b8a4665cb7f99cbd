# SPDX-License-Identifier: GPL-2.0-only
"""What this machine's kernel gives to other machines, and to virtual ones. Most of these open their drives
without claiming them."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .drive_paths import number_of_path
from .sysfs import System

TARGETS = "/sys/kernel/config"
# What exports drives, each with the folder in TARGETS that says which.
_MODULES = {"nvmet": "nvmet", "target_core_mod": "target"}
_NVMET = f"{TARGETS}/nvmet/subsystems"


def _enabled(system: System, folder: str) -> bool:
    return system.read(f"{folder}/enable") == "1"


def _namespaces(system: System) -> Iterator[tuple[str, str]]:
    """The paths that the NVMe target exports, each with what is said of it."""
    for subsystem in system.names(_NVMET):
        for space in system.names(f"{_NVMET}/{subsystem}/namespaces"):
            folder = f"{_NVMET}/{subsystem}/namespaces/{space}"
            if _enabled(system, folder):
                yield system.read(f"{folder}/device_path"), f"the NVMe target as namespace {space} of {subsystem}"


def _controllers(system: System) -> Iterator[tuple[str, str]]:
    """The controllers that the NVMe target exports whole, with all of their namespaces."""
    for subsystem in system.names(_NVMET):
        folder = f"{_NVMET}/{subsystem}/passthru"
        if _enabled(system, folder):
            yield system.read(f"{folder}/device_path"), f"the NVMe target as a controller of {subsystem}"


def _backstores(system: System) -> Iterator[tuple[str, str]]:
    """The paths of the SCSI target. The one that a file's backstore writes to stands in its description."""
    core = f"{TARGETS}/target/core"
    for adapter in system.names(core):
        for name in system.names(f"{core}/{adapter}"):
            folder, what = f"{core}/{adapter}/{name}", f"the SCSI target as {adapter}/{name}"
            yield system.read(f"{folder}/udev_path"), what
            match = re.search(r"\bFile: (\S+)", system.read(f"{folder}/info"))
            if adapter.startswith("fileio") and match:
                yield match.group(1), what


def _gadgets(system: System) -> Iterator[tuple[str, str]]:
    """The paths that a USB gadget is a disk of."""
    top = f"{TARGETS}/usb_gadget"
    for gadget in system.names(top):
        for function in system.names(f"{top}/{gadget}/functions"):
            folder = f"{top}/{gadget}/functions/{function}"
            for unit in system.names(folder):
                if unit.startswith("lun."):
                    yield system.read(f"{folder}/{unit}/file"), f"the USB gadget {gadget} as {function}/{unit}"


def _numbered(system: System) -> Iterator[tuple[str, str]]:
    """What exporters say by its device number."""
    top = "/sys/class/rnbd-server/ctl/devices"
    for name in system.names(top):
        yield system.read(f"{top}/{name}/block_dev/dev"), f"the RNBD server as {name}"
    top = "/sys/bus/xen-backend/devices"
    for name in system.names(top):
        match = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+)", system.read(f"{top}/{name}/physical_device"))
        if match:
            yield f"{int(match.group(1), 16)}:{int(match.group(2), 16)}", f"Xen as {name}"


def _controller(system: System, path: str) -> str:
    """The name (nvme0) of the controller that a path leads to; "" where it leads to none."""
    try:
        found = os.stat(system.path(path))
    except OSError:
        found = None
    name = os.path.basename(path)
    if found is not None and stat.S_ISCHR(found.st_mode):
        name = Path(system.real(f"/sys/dev/char/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")).name
    return name if name and system.exists(f"/sys/class/nvme/{name}") else ""


def _disks_of(system: System, controller: str) -> set[str]:
    """The device numbers of a controller's namespaces, and of all others of its subsystem: which of these it
    has, too, does not stand in sysfs where paths are joined."""
    own = system.real(f"/sys/class/nvme/{controller}")
    nqn = system.read(f"{own}/subsysnqn")
    found = set()
    for disk in system.names("/sys/block"):
        device = f"/sys/block/{disk}/device"
        if system.real(device) == own or (nqn and system.read(f"{device}/subsysnqn") == nqn):
            found.add(system.read(f"/sys/block/{disk}/dev"))
    return found - {""}


def exports(system: System) -> dict[str, str]:
    """What the kernel exports to other machines, by device number."""
    found = dict(_numbered(system))
    for paths in (_namespaces, _backstores, _gadgets):
        found |= {number_of_path(system, path): what for path, what in paths(system)}
    for path, what in _controllers(system):
        found |= dict.fromkeys(_disks_of(system, _controller(system, path)), what) if _controller(system, path) else {}
    return {number: what for number, what in found.items() if number}


def unseen(system: System) -> list[str]:
    """Why nobody here could say which drives are exported: configfs that is not mounted hides it; a name that
    leads nowhere now, or did so in another mount namespace, says nothing of what was opened by it."""
    found = [
        f"it cannot be seen whether {module} exports it: mount configfs at {TARGETS}"
        for module, folder in _MODULES.items()
        if system.exists(f"/sys/module/{module}") and not system.exists(f"{TARGETS}/{folder}")
    ]
    for path, what in _namespaces(system):
        if not number_of_path(system, path) and not system.exists(path):
            found.append(f"it cannot be seen which drive is exported by {what}, as {path or 'its name'} leads nowhere: "
                         "disable that first")
    for path, what in _controllers(system):
        if not _controller(system, path):
            found.append(f"it cannot be seen which drives are exported by {what}, as {path or 'its name'} leads to no "
                         "controller: disable that first")
    return found
