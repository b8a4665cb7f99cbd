# SPDX-License-Identifier: GPL-2.0-only
"""Reads of /proc and /sys that answer "" where there is nothing, below a root that tests choose."""

import os
import stat
from pathlib import Path


class System:
    """The machine, or a folder that looks like one."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """/sys/… or /proc/… below the root."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str:
        """A file without its last newline; "" when it is not there or cannot be read."""
        try:
            return self.path(name).read_text(errors="replace").strip().strip("\0")
        except OSError:
            return ""

    def names(self, name: str) -> list[str]:
        """What is in a folder, sorted; nothing when there is none."""
        try:
            return sorted(entry.name for entry in self.path(name).iterdir())
        except OSError:
            return []

    def real(self, name: str) -> str:
        """Where a link leads, as a path of this system; "" when it is not there."""
        path = self.path(name)
        if not path.exists():
            return ""
        real = str(path.resolve())
        root = str(self.root.resolve()).rstrip("/")
        return real[len(root) :]

    def block_device(self, target: str) -> str:
        """The whole disk's name (nvme0n1) behind a block device or a file; "" for none."""
        try:
            # A file that fio has yet to make will be where its folder is.
            found = os.stat(target if os.path.exists(target) else os.path.dirname(target) or ".")
        except OSError:
            return ""
        number = found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev
        real = self.real(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        if not real:
            return ""
        path = Path(real)
        return path.parent.name if self.path(f"{real}/partition").exists() else path.name

    def pci_chain(self, disk: str) -> list[str]:
        """PCI addresses from the root port to the controller of a disk; a multipath head's are
        those of its first controller."""
        real = self.real(f"/sys/block/{disk}")
        chain = [part for part in Path(real).parts if _is_pci(part)] if real else []
        if chain or not disk.startswith("nvme"):
            return chain
        subsystem = self.real(f"/sys/block/{disk}/device")
        for name in self.names(subsystem) if subsystem else []:
            if name.startswith("nvme") and "n" not in name[4:]:
                real = self.real(f"{subsystem}/{name}")
                chain = [part for part in Path(real).parts if _is_pci(part)]
                if chain:
                    return chain
        return []

    def controller(self, disk: str) -> str:
        """The folder of a disk's NVMe controller, or of its device; "" for none."""
        device = self.real(f"/sys/block/{disk}/device")
        if not device:
            return ""
        for name in self.names(device):
            if name.startswith("nvme") and name[4:].isdecimal() and "subsystem" in device:
                return self.real(f"{device}/{name}")
        return device


def _is_pci(part: str) -> bool:
    words = part.split(":")
    return len(words) == 3 and len(words[0]) == 4 and "." in words[2]
