# SPDX-License-Identifier: GPL-2.0-only
"""May this drive's data be destroyed? Every reason against it, with what to do."""

import errno
import os

from dmabuf_common.sysfs import System

from .drive import Drive
from .errors import Refused


def _in_use(system: System) -> dict[str, str]:
    """Block devices by name, and what they are used for: mounts and swap."""
    used = {}
    for line in system.read("/proc/self/mounts").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].startswith("/dev/"):
            real = os.path.realpath(words[0]) if system.real_machine else words[0]
            used[os.path.basename(real)] = words[1]
    for line in system.read("/proc/swaps").splitlines()[1:]:
        used[os.path.basename(line.split()[0])] = "swap"
    return used


def _numbers_in_use(system: System) -> dict[str, str]:
    """The same by device number, for file systems that mounts name otherwise (overlay, root)."""
    used = {}
    for line in system.read("/proc/self/mountinfo").splitlines():
        words = line.split()
        if len(words) > 4:
            used[words[2]] = words[4]
    return used


def _parts(system: System, drive: Drive) -> list[str]:
    """The device itself and, of a whole disk, its partitions."""
    if drive.name != drive.disk:
        return [drive.name]
    folder = f"/sys/block/{drive.disk}"
    partitions = [n for n in system.names(folder) if system.exists(f"{folder}/{n}/partition")]
    return [drive.disk, *partitions]


def _holders(system: System, name: str) -> list[str]:
    return system.names(f"/sys/class/block/{name}/holders")


def reasons(drive: Drive, system: System | None = None) -> list[str]:
    """Why the drive must not be overwritten; empty when nothing is against it."""
    system = system or System()
    found = []
    mounts, numbers = _in_use(system), _numbers_in_use(system)
    for name in _parts(system, drive):
        what = "it" if name == drive.name else f"its partition {name}"
        number = system.read(f"/sys/class/block/{name}/dev")
        where = mounts.get(name) or numbers.get(number)
        if where == "/":
            found.append(f"{what} holds the running system: qualify another drive")
        elif where == "swap":
            found.append(f"{what} is swap space: swapoff it first")
        elif where:
            found.append(f"{what} is mounted at {where}: unmount it first")
        for holder in _holders(system, name):
            label = system.read(f"/sys/block/{holder}/dm/name") or holder
            found.append(f"{what} is held by {label} (LVM, RAID or device mapper): stop that first")
    if system.number(f"/sys/class/block/{drive.name}/ro") == 1:
        found.append("it is read-only: blockdev --setrw it first")
    if not found and system.real_machine:
        try:
            os.close(os.open(drive.path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                found.append("something has it open for itself: find out what (lsof, fuser)")
            else:
                found.append(f"it cannot be opened for writing ({error.strerror}): run as root")
    return found


def demand(drive: Drive, erase: bool, serial: str | None, system: System | None = None) -> None:
    """Raises Refused unless the user said which drive to erase and nothing is against it."""
    against = reasons(drive, system)
    if against:
        raise Refused(f"{drive.path} is not overwritten: {'; '.join(against)}")
    if not erase:
        raise Refused(
            f"a run destroys the data on {drive.path} ({drive.model}); "
            "say --erase and its --serial if that is what you want"
        )
    if not drive.serial:
        raise Refused(f"{drive.path} has no serial number to confirm; only NVMe drives are qualified")
    if serial is None:
        raise Refused(f"--erase needs --serial, the serial number of {drive.path}: see nvme list")
    if serial.strip() != drive.serial:
        raise Refused(
            f"{drive.path} has another serial number than {serial!r}: check which drive you mean"
        )
