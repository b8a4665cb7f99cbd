# SPDX-License-Identifier: GPL-2.0-only
"""Who uses a drive: mounts of all mount namespaces, swap, holders, loop devices, targets that export
it. Each by the device number, not by the name."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import drive_exports
from .drive_devices import Devices
from .drive_identity import Node
from .drive_openers import command_name, processes
from .drive_paths import number_of_path, unescaped
from .sysfs import System

# The numbers of the namespaces that a machine begins with: <linux/proc_ns.h>.
_FIRST = {"pid": "pid:[4026531836]", "user": "user:[4026531837]"}
# <linux/capability.h>: without, root sees nothing of a process that has more rights.
_CAP_SYS_PTRACE = 1 << 19
# A device mapper device says in its uuid what made it.
_MAPPERS = {"LVM": "LVM", "CRYPT": "encryption", "mpath": "multipath", "part": "a partition mapping",
            "VDO": "VDO"}


def _mount_tables(system: System) -> Iterator[tuple[str, str]]:
    """The text of each mount namespace's table, our own first, and whose it is. A container's mounts
    are not in our own table."""
    seen = {system.target("/proc/self/ns/mnt")}
    yield system.read("/proc/self/mountinfo"), ""
    for process in processes(system):
        space = system.target(f"/proc/{process}/ns/mnt")
        if space and space not in seen:
            seen.add(space)
            name = command_name(system, process)
            text = system.read(f"/proc/{process}/mountinfo")
            yield text, f" in the mount namespace of process {process} ({name})"


def unseen(system: System) -> list[str]:
    """Why nobody here could say who uses a drive. Processes of another user, and those outside of a
    container, hide what they have open."""
    found = []
    status = system.read("/proc/self/status")
    root = re.search(r"^Uid:\s*\d+\s+0\s", status, re.M)
    rights = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    may_look = root and rights and int(rights.group(1), 16) & _CAP_SYS_PTRACE
    # A kernel that was built without a kind of namespace has no link for it.
    inside = [
        kind for kind, first in _FIRST.items()
        if system.target(f"/proc/self/ns/{kind}") not in (first, "")
    ]
    if not may_look or inside or not system.names("/proc/self/ns"):
        found.append("it cannot be seen who has it open: run as root, outside of containers")
    return found + drive_exports.unseen(system)


def btrfs(system: System) -> dict[str, set[str]]:
    """The device numbers of each active btrfs, by its id. A btrfs mounts under a number that is no
    device's, and names one of its devices only."""
    found = {}
    for fsid in system.names("/sys/fs/btrfs"):
        names = system.names(f"/sys/fs/btrfs/{fsid}/devices")
        if names:
            found[fsid] = {system.read(f"/sys/class/block/{name}/dev") for name in names} - {""}
    return found


def mounts(system: System) -> dict[str, str]:
    """Where each device number is mounted, the first place found."""
    found: dict[str, str] = {}
    members = btrfs(system)
    for text, whose in _mount_tables(system):
        # The kernel parts lines and words by these alone, and leaves in names what Python parts by besides.
        for line in text.split("\n"):
            head, _, tail = line.partition(" - ")
            words, kind = head.split(" "), tail.split(" ")
            if len(words) < 5 or len(kind) < 2:
                continue
            source = number_of_path(system, unescaped(kind[1]))
            numbers = {words[2], source} - {""}
            for group in members.values():
                if source in group:
                    numbers |= group
            for number in numbers:
                # The root says more than a bind mount of it.
                place = unescaped(words[4]) + whose
                if number not in found or place == "/":
                    found[number] = place
    return found


def swaps(system: System) -> set[str]:
    """The device numbers of swap space."""
    lines = system.read("/proc/swaps").split("\n")[1:]
    return {number_of_path(system, unescaped(re.split("[ \t]", line)[0])) for line in lines} - {""}


def holders(system: System, number: str) -> list[str]:
    """What the kernel has built upon a device: device mapper, RAID, bcache."""
    found = []
    for name in system.names(f"/sys/dev/block/{number}/holders"):
        folder = f"/sys/class/block/{name}"
        mapper = system.read(f"{folder}/dm/uuid").partition("-")[0]
        if system.exists(f"{folder}/md"):
            what = f"a RAID, {system.read(f'{folder}/md/level')}".removesuffix(", ")
        elif system.exists(f"{folder}/dm"):
            mapper = "part" if mapper.startswith("part") else mapper
            what = f"{_MAPPERS[mapper]}, by device mapper" if mapper in _MAPPERS else "device mapper"
        else:
            what = "bcache" if name.startswith("bcache") else "a device upon it"
        label = system.read(f"{folder}/dm/name")
        found.append(f"{name} ({label}; {what})" if label else f"{name} ({what})")
    return found


def loops(system: System, devices: Devices) -> dict[str, str]:
    """The loop devices whose backing file is a block device, by that one's number. They open it
    without claiming it. The loop device itself says which it is; the name of its file may lead elsewhere by now,
    or nowhere, as one of another mount namespace does."""
    found = {}
    for name in system.names("/sys/block"):
        backing = system.read(f"/sys/block/{name}/loop/backing_file")
        if backing:
            own = devices.behind_loop(str(system.path(f"/dev/{name}")), system.read(f"/sys/block/{name}/dev"))
            found[number_of_path(system, backing) if own is None else own] = name
    return {number: name for number, name in found.items() if number}


def reasons(system: System, devices: Devices, nodes: Iterable[tuple[Node, str]]) -> list[str]:
    """Why these devices must not be overwritten: `nodes` are all names of what would be, each with
    the words for it."""
    mounted, swapped = mounts(system), swaps(system)
    looped, exported = loops(system, devices), drive_exports.exports(system)
    members = {number: fsid for fsid, group in btrfs(system).items() for number in group}
    found = []
    for node, words in nodes:
        where = mounted.get(node.number)
        if where == "/":
            found.append(f"{words} holds the running system: choose another drive")
        elif where:
            found.append(f"{words} is mounted at {where}: unmount it first")
        elif node.number in members:
            fsid = members[node.number]
            found.append(f"{words} belongs to the active btrfs {fsid}: unmount that first")
        if node.number in swapped:
            found.append(f"{words} is swap space: swapoff it first")
        for holder in holders(system, node.number):
            found.append(f"{words} is held by {holder}: stop that first")
        if node.number in looped:
            name = looped[node.number]
            remedy = f"losetup --detach /dev/{name} first"
            found.append(f"{words} is behind the loop device {name}: {remedy}")
        if node.number in exported:
            found.append(f"{words} is exported by {exported[node.number]}: disable that first")
    return found


def read_only(system: System, number: str) -> bool:
    """Whether the kernel was told not to write to the device."""
    folder = Path(system.real(f"/sys/dev/block/{number}"))
    return system.read(f"{folder}/ro") == "1"
