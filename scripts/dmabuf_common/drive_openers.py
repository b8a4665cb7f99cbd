# SPDX-License-Identifier: GPL-2.0-only
"""Programs that have a drive open for writing, by a descriptor, a mapping or an io_uring. Most of them claim
nothing."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from .drive_identity import Node
from .drive_paths import number_of_path, unescaped
from .sysfs import System

_URING = "anon_inode:[io_uring]"
# A line of maps: which addresses, how they may be used, and the file's name.
_MAPPING = re.compile(r"([0-9a-f]+-[0-9a-f]+) .w.s \S+ \S+ \S+ +(\S.*)")


class Hidden(Exception):
    """It cannot be seen what this process has open."""


def processes(system: System) -> list[str]:
    """The ids of all."""
    return [name for name in system.names("/proc") if name.isdecimal()]


def command_name(system: System, process: str) -> str:
    """What a process calls itself."""
    return system.read(f"/proc/{process}/comm") or "?"


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


def _listed(system: System, folder: str) -> list[str]:
    """What is in a folder of a process, which may have ended. Raises Hidden."""
    try:
        return os.listdir(system.path(folder))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Hidden from error
        return []


def _tables(system: System, process: str) -> list[str]:
    """The folders of its threads: one may have descriptors of its own, and the first one may have ended."""
    threads = _listed(system, f"/proc/{process}/task")
    return [f"/proc/{process}/task/{thread}" for thread in threads] or [f"/proc/{process}"]


def _number(system: System, path: str) -> str:
    """As they are told apart here: "char " before a character device's; "" for what is no device."""
    try:
        found = os.stat(system.path(path))
    except OSError:
        return ""
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if stat.S_ISCHR(found.st_mode):
        return f"char {number}"
    return number if stat.S_ISBLK(found.st_mode) else ""


def _by_descriptor(system: System, table: str, numbers: set[str]) -> Iterator[str]:
    for descriptor in _listed(system, f"{table}/fd"):
        number = _number(system, f"{table}/fd/{descriptor}")
        if number in numbers:
            text = system.read(f"{table}/fdinfo/{descriptor}")
            flags = re.search(r"^flags:\s*([0-7]+)", text, re.M)
            if flags and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY:
                yield number
        elif not number and system.target(f"{table}/fd/{descriptor}") == _URING:
            # Files that only the ring has open; it does not say what for.
            text = system.read(f"{table}/fdinfo/{descriptor}")
            yield from (number_of_path(system, unescaped(one)) for one in re.findall(r"^ *\d+: (/.*)$", text, re.M))


def _by_mapping(system: System, process: str) -> Iterator[str]:
    """A mapping lasts when its descriptor was closed. All threads have the same."""
    text = next(filter(None, (system.read(f"{one}/maps") for one in _tables(system, process))), "")
    for place, name in _MAPPING.findall(text):
        # The name may be one of another mount namespace, or be removed; this leads to the file itself.
        yield _number(system, f"/proc/{process}/map_files/{place}") or number_of_path(system, unescaped(name))


def _open_for_writing(system: System, process: str, numbers: set[str]) -> set[str]:
    """Which of these devices a process may write to. Raises Hidden."""
    found: set[str] = set()
    for table in _tables(system, process):
        found.update(_by_descriptor(system, table, numbers))
    found.update(_by_mapping(system, process))
    return found & numbers


def writers(system: System, numbers: set[str]) -> dict[str, str]:
    """Programs that have one of these devices open for writing, a virtual machine for one, by device
    number. `numbers` may be those of character devices, too. Raises Hidden, with the process."""
    found: dict[str, str] = {}
    for process in processes(system):
        who = f"process {process} ({command_name(system, process)})"
        try:
            for number in _open_for_writing(system, process, numbers):
                if number not in found and not _descendant(system, process):
                    found[number] = who
        except Hidden as error:
            raise Hidden(who) from error
    return found


def generic(system: System, disk: str) -> dict[str, str]:
    """A drive's character devices, which take commands past the block layer: by their numbers, their
    names in /dev. A namespace has one (ng0n1), a SCSI drive up to two (sg0, bsg/0:0:0:0)."""
    own = f"/sys/block/{disk}/device"
    found = {f"/sys/class/nvme-generic/{disk.replace('nvme', 'ng', 1)}": ""}
    found |= {f"{own}/scsi_generic/{name}": "" for name in system.names(f"{own}/scsi_generic")}
    found |= {f"{own}/bsg/{name}": "bsg/" for name in system.names(f"{own}/bsg")}
    numbers = {system.read(f"{one}/dev"): f"/dev/{top}{Path(one).name}" for one, top in found.items()}
    return {f"char {number}": name for number, name in numbers.items() if number}


def writing(system: System, nodes: Iterable[tuple[Node, str]]) -> list[str]:
    """Which programs write, or could, to these devices now."""
    names: dict[str, str] = {}
    for node, words in nodes:
        names[node.number] = words
        for number, name in (generic(system, node.disk) if node.whole else {}).items():
            names[number] = f"{words.removesuffix(',')}, by its character device {name},"
    try:
        open_now = writers(system, set(names) - {""})
    except Hidden as error:
        return [f"it cannot be seen what {error} has open: run as root, with all of root's capabilities"]
    return [
        f"{names[number]} is open for writing in {who}: end that first"
        for number, who in open_now.items()
    ]
