# SPDX-License-Identifier: GPL-2.0-only
"""A machine made of files: NVMe drives in /sys, what /proc says of them, and nodes in /dev whose
contents are regular files. Claims are locks of these files: the kernel gives them back likewise, with
the last descriptor."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import images

from dmabuf_common.drive_devices import Devices
from dmabuf_common.sysfs import System

NQN = "nqn.2014-08.org.nvmexpress:uuid:1"
WWID = "eui.0025385b11c0ffee"


class FakeDevices(Devices):
    """Regular files in place of block devices, each with a device number of its own."""

    patience_s = 0.0

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, int], str] = {}
        self.sizes: dict[str, int] = {}
        self.sequences: dict[str, str] = {}
        self.opened: list[tuple[str, int]] = []

    def open(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags & ~os.O_EXCL | os.O_CLOEXEC)
        number = self.number(descriptor)
        if flags & os.O_EXCL:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path) from error
        self.opened.append((number, flags))
        return descriptor

    def number(self, descriptor: int) -> str:
        state = os.fstat(descriptor)
        return self.numbers.get((state.st_dev, state.st_ino), "")

    def bytes(self, descriptor: int) -> int:
        return self.sizes.get(self.number(descriptor), os.fstat(descriptor).st_size)

    def diskseq(self, descriptor: int) -> str:
        return self.sequences.get(self.number(descriptor), "")


class Machine:
    """Drives, and what uses them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.system = System(root)
        self.devices = FakeDevices()
        self.put("/proc/self/status", "Name:\tpython3\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff")
        self.name_space("self", "pid", "pid:[4026531836]")
        self.name_space("self", "user", "user:[4026531837]")
        self.put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw")
        self.put("/proc/swaps", "Filename Type Size Used Priority")
        (root / "dev").mkdir()
        (root / "sys/block").mkdir(parents=True)

    def put(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def name_space(self, process: str, kind: str, says: str) -> None:
        """Which namespace of a kind a process is in."""
        path = self.root / f"proc/{process}/ns" / kind
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(says)

    def link(self, name: str, to: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self.root / to.lstrip("/"))

    def _node(self, folder: str, number: str, size: int, content: Path | None) -> None:
        name = folder.rsplit("/", 1)[-1]
        self.put(f"{folder}/size", str(size // 512))
        self.put(f"{folder}/ro", "0")
        self.link(f"/sys/class/block/{name}", folder)
        if not number:
            return
        self.put(f"{folder}/dev", number)
        self.link(f"/sys/dev/block/{number}", folder)
        node = self.root / "dev" / name
        node.touch()
        os.truncate(node, content.stat().st_size if content else size)
        state = node.stat()
        self.devices.numbers[(state.st_dev, state.st_ino)] = number
        self.devices.sizes[number] = size

    def drive(
        self, name: str = "nvme0n1", number: str = "259:0", serial: str = "S1", wwid: str = WWID,
        nsid: str = "1", nqn: str = NQN, **more: str,
    ) -> Path:
        """A namespace of the controller or subsystem that its name says; its node in /dev. The paths
        below a multipath head have neither number nor node."""
        device = f"/sys/devices/pci0000:00/{name.partition('n1')[0]}"
        if name[4:].find("n") < 0:
            device = f"/sys/devices/pci0000:00/target-{name}"
        folder = f"{device}/{name}"
        for key, value in (("serial", serial), ("model", "M"), ("subsysnqn", nqn)):
            if value:
                self.put(f"{device}/{key}", value)
        for key, value in {"wwid": wwid, "nsid": nsid, "diskseq": "7", **more}.items():
            if value:
                self.put(f"{folder}/{key}", value)
        self.link(f"{folder}/device", device)
        self.link(f"/sys/block/{name}", folder)
        self._node(folder, number, images.SIZE, None)
        return self.root / "dev" / name

    def partition(self, disk: str, index: int, number: str, start: int, size: int) -> str:
        """A partition of a drive; its folder."""
        folder = self.system.real(f"/sys/block/{disk}") + f"/{disk}p{index}"
        self.put(f"{folder}/partition", str(index))
        self.put(f"{folder}/start", str(start // 512))
        self._node(folder, number, size, None)
        return folder

    def holder(self, number: str, name: str, **attributes: str) -> None:
        """A device upon a device."""
        folder = f"/sys/devices/virtual/block/{name}"
        for key, value in attributes.items():
            self.put(f"{folder}/{key.replace('_', '/')}", value)
        self.put(f"{folder}/size", "0")
        self.link(f"/sys/class/block/{name}", folder)
        self.link(f"/sys/dev/block/{number}/holders/{name}", folder)

    def pull(self, name: str) -> None:
        """The drive goes away: from sysfs and /dev. Open descriptors have no size from then on."""
        folder = self.system.real(f"/sys/block/{name}")
        number = self.system.read(f"{folder}/dev")
        self.devices.sizes[number] = 0
        for path in (f"sys/block/{name}", f"sys/class/block/{name}", f"sys/dev/block/{number}", f"dev/{name}"):
            (self.root / path).unlink()
        shutil.rmtree(self.system.path(folder))
