# SPDX-License-Identifier: GPL-2.0-only
"""May this drive's data be destroyed? Every reason against it, with what to do."""

import errno
import os
from pathlib import Path

from .drive import Drive
from .errors import Refused
from .files import Files


def _in_use(files: Files) -> dict[str, str]:
    """Block devices by name, and what they are used for: mounts and swap."""
    used = {}
    for line in (files.text("/proc/self/mounts") or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].startswith("/dev/"):
            real = os.path.realpath(words[0]) if files.root == Path("/") else words[0]
            used[os.path.basename(real)] = words[1]
    for line in (files.text("/proc/swaps") or "").splitlines()[1:]:
        used[os.path.basename(line.split()[0])] = "swap"
    return used


def _numbers_in_use(files: Files) -> dict[str, str]:
    """The same by device number, for file systems that mounts name otherwise (overlay, root)."""
    used = {}
    for line in (files.text("/proc/self/mountinfo") or "").splitlines():
        words = line.split()
        if len(words) > 4:
            used[words[2]] = words[4]
    return used


def _parts(files: Files, drive: Drive) -> list[str]:
    """The device itself and, of a whole disk, its partitions."""
    if drive.name != drive.disk:
        return [drive.name]
    folder = f"/sys/block/{drive.disk}"
    partitions = [n for n in files.names(folder) if files.exists(f"{folder}/{n}/partition")]
    return [drive.disk, *partitions]


def _holders(files: Files, name: str) -> list[str]:
    return files.names(f"/sys/class/block/{name}/holders")


def reasons(drive: Drive, files: Files | None = None) -> list[str]:
    """Why the drive must not be overwritten; empty when nothing is against it."""
    files = files or Files()
    found = []
    mounts, numbers = _in_use(files), _numbers_in_use(files)
    for name in _parts(files, drive):
        what = "it" if name == drive.name else f"its partition {name}"
        number = files.text(f"/sys/class/block/{name}/dev") or ""
        where = mounts.get(name) or numbers.get(number)
        if where == "/":
            found.append(f"{what} holds the running system: qualify another drive")
        elif where == "swap":
            found.append(f"{what} is swap space: swapoff it first")
        elif where:
            found.append(f"{what} is mounted at {where}: unmount it first")
        for holder in _holders(files, name):
            label = files.text(f"/sys/block/{holder}/dm/name") or holder
            found.append(f"{what} is held by {label} (LVM, RAID or device mapper): stop that first")
    if files.number(f"/sys/class/block/{drive.name}/ro") == 1:
        found.append("it is read-only: blockdev --setrw it first")
    if not found and files.root == Path("/"):
        try:
            os.close(os.open(drive.path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                found.append("something has it open for itself: find out what (lsof, fuser)")
            else:
                found.append(f"it cannot be opened for writing ({error.strerror}): run as root")
    return found


def demand(drive: Drive, erase: bool, serial: str | None, files: Files | None = None) -> None:
    """Raises Refused unless the user said which drive to erase and nothing is against it."""
    against = reasons(drive, files)
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
