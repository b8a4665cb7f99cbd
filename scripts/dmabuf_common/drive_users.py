# SPDX-License-Identifier: GPL-2.0-only
"""Who uses a drive: mounts of all mount namespaces, swap, holders, loop devices, targets that export
it, and programs that have it open for writing. Each by the device number, not by the name."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .drive_identity import Node
from .sysfs import System

TARGETS = "/sys/kernel/config"
# The numbers of the namespaces that a machine begins with: <linux/proc_ns.h>.
_FIRST = {"pid": "pid:[4026531836]", "user": "user:[4026531837]"}
# <linux/capability.h>: without, root sees nothing of a process that has more rights.
_CAP_SYS_PTRACE = 1 << 19
# What exports drives, each with the folder in TARGETS that says which.
_EXPORTERS = {"nvmet": "nvmet", "target_core_mod": "target"}
# A device mapper device says in its uuid what made it.
_MAPPERS = {"LVM": "LVM", "CRYPT": "encryption", "mpath": "multipath", "part": "a partition mapping",
            "VDO": "VDO"}  # fmt: skip


def unescaped(text: str) -> str:
    """A name of /proc/self/mountinfo or /proc/swaps, which write blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def number_of_path(system: System, path: str) -> str:
    """The device number behind a path; "" where it leads to no block device. A path that is gone from
    /dev is looked up by its name."""
    if not path.startswith("/"):
        return ""
    path = path.removesuffix(" (deleted)")
    try:
        found = os.stat(system.path(path))
        if stat.S_ISBLK(found.st_mode):
            return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    except OSError:
        pass
    if not path.startswith("/dev/"):
        return ""
    return system.read(f"/sys/class/block/{os.path.basename(path)}/dev")


def _processes(system: System) -> list[str]:
    return [name for name in system.names("/proc") if name.isdecimal()]


def _mount_tables(system: System) -> Iterator[tuple[str, str]]:
    """The text of each mount namespace's table, our own first, and whose it is. A container's mounts
    are not in our own table."""
    seen = {_link(system, "/proc/self/ns/mnt")}
    yield system.read("/proc/self/mountinfo"), ""
    for process in _processes(system):
        space = _link(system, f"/proc/{process}/ns/mnt")
        if space and space not in seen:
            seen.add(space)
            name = system.read(f"/proc/{process}/comm") or "?"
            text = system.read(f"/proc/{process}/mountinfo")
            yield text, f" in the mount namespace of process {process} ({name})"


def _link(system: System, name: str) -> str:
    try:
        return os.readlink(system.path(name))
    except OSError:
        return ""


def unseen(system: System) -> list[str]:
    """Why nobody here could say who uses a drive. Processes of another user, and those outside of a
    container, hide what they have open; configfs that is not mounted hides what is exported."""
    found = []
    status = system.read("/proc/self/status")
    root = re.search(r"^Uid:\s*\d+\s+0\s", status, re.M)
    rights = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)
    may_look = root and rights and int(rights.group(1), 16) & _CAP_SYS_PTRACE
    # A kernel that was built without a kind of namespace has no link for it.
    inside = [
        kind for kind, first in _FIRST.items()
        if _link(system, f"/proc/self/ns/{kind}") not in (first, "")
    ]  # fmt: skip
    if not may_look or inside or not system.names("/proc/self/ns"):
        found.append("it cannot be seen who has it open: run as root, outside of containers")
    for module, folder in _EXPORTERS.items():
        if system.exists(f"/sys/module/{module}") and not system.exists(f"{TARGETS}/{folder}"):
            found.append(f"it cannot be seen whether {module} exports it: mount configfs at {TARGETS}")
    return found


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
        for line in text.splitlines():
            head, _, tail = line.partition(" - ")
            words, kind = head.split(), tail.split()
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
    lines = system.read("/proc/swaps").splitlines()[1:]
    return {number_of_path(system, unescaped(line.split()[0])) for line in lines if line} - {""}


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


def loops(system: System) -> dict[str, str]:
    """The loop devices whose backing file is a block device, by that one's number. They open it
    without claiming it."""
    found = {}
    for name in system.names("/sys/block"):
        backing = system.read(f"/sys/block/{name}/loop/backing_file")
        number = number_of_path(system, backing) if backing else ""
        if number:
            found[number] = name
    return found


def exports(system: System) -> dict[str, str]:
    """What the kernel exports to other machines, by device number. The NVMe target opens its drives
    without claiming them, too."""
    found = {}
    top = f"{TARGETS}/nvmet/subsystems"
    for subsystem in system.names(top):
        for space in system.names(f"{top}/{subsystem}/namespaces"):
            folder = f"{top}/{subsystem}/namespaces/{space}"
            number = number_of_path(system, system.read(f"{folder}/device_path"))
            if number and system.read(f"{folder}/enable") == "1":
                found[number] = f"the NVMe target as namespace {space} of {subsystem}"
    core = f"{TARGETS}/target/core"
    for adapter in system.names(core):
        for name in system.names(f"{core}/{adapter}"):
            number = number_of_path(system, system.read(f"{core}/{adapter}/{name}/udev_path"))
            if number:
                found[number] = f"the SCSI target as {adapter}/{name}"
    return found


def _descendant(system: System, process: str) -> bool:
    """Whether it is this process or began in it."""
    me = str(os.getpid())
    for _ in range(64):
        if process == me:
            return True
        match = re.search(r"^PPid:\s*(\d+)", system.read(f"/proc/{process}/status"), re.M)
        if not match or match.group(1) in ("0", "1"):
            return False
        process = match.group(1)
    return False


def writers(system: System, numbers: set[str]) -> dict[str, str]:
    """Programs that have one of these devices open for writing, a virtual machine for one, by device
    number. Most of them claim nothing. `numbers` may be those of character devices, too."""
    found: dict[str, str] = {}
    for process in _processes(system):
        for number in _open_for_writing(system, process, numbers):
            if number not in found and not _descendant(system, process):
                name = system.read(f"/proc/{process}/comm") or "?"
                found[number] = f"process {process} ({name})"
    return found


def _open_for_writing(system: System, process: str, numbers: set[str]) -> Iterator[str]:
    for descriptor in system.names(f"/proc/{process}/fd"):
        try:
            state = os.stat(system.path(f"/proc/{process}/fd/{descriptor}"))
        except OSError:
            continue
        if not (stat.S_ISBLK(state.st_mode) or stat.S_ISCHR(state.st_mode)):
            continue
        number = f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}"
        if stat.S_ISCHR(state.st_mode):
            number = f"char {number}"
        if number not in numbers:
            continue
        text = system.read(f"/proc/{process}/fdinfo/{descriptor}")
        flags = re.search(r"^flags:\s*([0-7]+)", text, re.M)
        if flags and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY:
            yield number


def generic(system: System, disk: str) -> dict[str, str]:
    """A drive's character devices, which take commands past the block layer: by their numbers, their
    names in /dev. A namespace has one (ng0n1), a SCSI drive up to two (sg0, bsg/0:0:0:0)."""
    own = f"/sys/block/{disk}/device"
    found = {f"/sys/class/nvme-generic/{disk.replace('nvme', 'ng', 1)}": ""}
    found |= {f"{own}/scsi_generic/{name}": "" for name in system.names(f"{own}/scsi_generic")}
    found |= {f"{own}/bsg/{name}": "bsg/" for name in system.names(f"{own}/bsg")}
    numbers = {system.read(f"{one}/dev"): f"/dev/{top}{Path(one).name}" for one, top in found.items()}
    return {f"char {number}": name for number, name in numbers.items() if number}


def reasons(system: System, nodes: Iterable[tuple[Node, str]]) -> list[str]:
    """Why these devices must not be overwritten: `nodes` are all names of what would be, each with
    the words for it."""
    mounted, swapped = mounts(system), swaps(system)
    looped, exported = loops(system), exports(system)
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


def writing(system: System, nodes: Iterable[tuple[Node, str]]) -> list[str]:
    """Which programs write, or could, to these devices now."""
    names: dict[str, str] = {}
    for node, words in nodes:
        names[node.number] = words
        for number, name in (generic(system, node.disk) if node.whole else {}).items():
            names[number] = f"{words.removesuffix(',')}, by its character device {name},"
    open_now: Mapping[str, str] = writers(system, set(names))
    return [
        f"{names[number]} is open for writing in {who}: end that first"
        for number, who in open_now.items()
    ]


def read_only(system: System, number: str) -> bool:
    """Whether the kernel was told not to write to the device."""
    folder = Path(system.real(f"/sys/dev/block/{number}"))
    return system.read(f"{folder}/ro") == "1"
