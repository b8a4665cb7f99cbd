# SPDX-License-Identifier: GPL-2.0-only
"""Reads of /proc and /sys that answer "" where there is nothing, below a root that tests choose."""

import os
import re
import stat
from pathlib import Path

# The domain has more than four digits behind some host bridges, such as Intel's VMD.
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_CONTROLLER = re.compile(r"nvme\d+")


def is_pci_address(text: str) -> bool:
    """Whether this is the address of a PCI function, such as 0000:01:00.0."""
    return _PCI_ADDRESS.fullmatch(text) is not None


class System:
    """The machine, or a folder that looks like one."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    @property
    def real_machine(self) -> bool:
        """Whether this is the machine itself, with devices behind its names."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        """/sys/… or /proc/… below the root."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether it is there, as far as this user may see."""
        return os.path.exists(self.path(name))

    def read(self, name: str) -> str:
        """A file without white space at its ends; "" when it is not there or cannot be read. Newlines are those
        of the file: a carriage return, which a name of a program or a folder may have, makes none."""
        try:
            return self.path(name).read_bytes().decode(errors="replace").strip().strip("\0")
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """A file's decimal number; None when there is none."""
        try:
            return int(self.read(name))
        except ValueError:
            return None

    def signed_modules_only(self) -> bool:
        """Whether the kernel takes modules only with a signature: Secure Boot locks it down, or it was told so."""
        lockdown = self.read("/sys/kernel/security/lockdown")
        locked = lockdown != "" and "[none]" not in lockdown
        return locked or self.read("/sys/module/module/parameters/sig_enforce") == "Y"

    def data(self, name: str) -> bytes:
        """A file's bytes, as many as may be read; nothing when it is not there."""
        try:
            return self.path(name).read_bytes()
        except OSError:
            return b""

    def names(self, name: str) -> list[str]:
        """What is in a folder, sorted; nothing when there is none."""
        try:
            return sorted(entry.name for entry in self.path(name).iterdir())
        except OSError:
            return []

    def target(self, name: str) -> str:
        """What a link says, which need not be there; "" for what is no link."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def real(self, name: str) -> str:
        """Where a link leads, as a path of this system; "" when it is not there."""
        path = self.path(name)
        if not self.exists(name):
            return ""
        real = str(path.resolve())
        root = str(self.root.resolve()).rstrip("/")
        return real[len(root) :]

    def block_folder(self, target: str) -> str:
        """The folder of the disk or partition behind a block device or a file; "" for none."""
        try:
            # A file that fio has yet to make will be where its folder is.
            found = os.stat(target if os.path.exists(target) else os.path.dirname(target) or ".")
        except OSError:
            return ""
        number = found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev
        return self.real(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")

    def block_device(self, target: str) -> str:
        """The whole disk's name (nvme0n1) behind a block device or a file; "" for none."""
        real = self.block_folder(target)
        if not real:
            return ""
        path = Path(real)
        return path.parent.name if self.exists(f"{real}/partition") else path.name

    def nvme_controller(self, disk: str) -> str:
        """The name (nvme0) of a disk's NVMe controller, of a multipath head that of its first path;
        "" where the disk is no NVMe namespace."""
        device = Path(self.real(f"/sys/block/{disk}/device"))
        if _CONTROLLER.fullmatch(device.name):
            return device.name
        if device.name.startswith("nvme-subsys"):
            return next(filter(_CONTROLLER.fullmatch, self.names(str(device))), "")
        return ""

    def controller(self, disk: str) -> str:
        """The folder of a disk's NVMe controller, or of its device; "" for none."""
        device = self.real(f"/sys/block/{disk}/device")
        name = self.nvme_controller(disk)
        if name and Path(device).name != name:
            return self.real(f"{device}/{name}")
        return device

    def pci_chain(self, disk: str) -> list[str]:
        """PCI addresses from the root port to the controller of a disk; a multipath head's are
        those of its first controller on PCI."""
        chain = pci_parts(self.real(f"/sys/block/{disk}"))
        if chain or not disk.startswith("nvme"):
            return chain
        subsystem = self.real(f"/sys/block/{disk}/device")
        for name in self.names(subsystem) if subsystem else []:
            if _CONTROLLER.fullmatch(name):
                chain = pci_parts(self.real(f"{subsystem}/{name}"))
                if chain:
                    return chain
        return []


def pci_parts(path: str) -> list[str]:
    """The PCI addresses in a path of sysfs, from the root port down."""
    return [part for part in Path(path).parts if is_pci_address(part)]
