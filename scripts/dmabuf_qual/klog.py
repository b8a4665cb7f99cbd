# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log during a run: read after each case, before a flood can push it out, and without
what another drive has to say."""

import re
from dataclasses import dataclass
from typing import Any

from dmabuf_common import kernel_log, kmsg, pci
from dmabuf_common.sysfs import System

from .drive import Drive

# What was seen of the log: the complaints, whether nothing between was lost, the newest record's
# number; None when the log cannot be read.
Seen = dict[str, Any] | None

_NAME = re.compile(r"\bnvme(\d+)(?:c(\d+))?(n\d+)?")
_ADDRESS = re.compile(r"\b[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")
# What the kernel says of one drive or of its bus. All else is about the kernel itself, or about memory
# that a drive reached, and counts whoever it names.
_OF_A_DEVICE = re.compile(
    r"\bnvme\d*(c\d+)?(n\d+)?: |\bnvme [0-9a-f]+:[0-9a-f:.]+: |critical medium error"
    r"|I/O error, dev |\bAER:|PCIe Bus Error",
    re.IGNORECASE,
)
_OF_THE_KERNEL = tuple(rule for rule in kernel_log.KERNEL if "nvme" not in rule.pattern)
_OF_MEMORY = re.compile(r"IO_PAGE_FAULT|iommu.*\bfault\b", re.IGNORECASE)


@dataclass(frozen=True)
class Ours:
    """How messages name the drive under test, and what stands between it and the root."""

    disk: str
    controllers: frozenset[str]
    addresses: frozenset[str]
    drives: frozenset[str] = frozenset()  # of the addresses, those of the controllers

    def names(self, line: str) -> list[bool]:
        """For each drive or PCI device that a message names: is it ours?"""
        found = []
        for number, path, namespace in _NAME.findall(line):
            if path:
                found.append(f"nvme{path}" in self.controllers)
            elif namespace:
                # Another namespace of the same drive counts as the drive.
                found.append(self.disk.startswith(f"nvme{number}n"))
            else:
                found.append(f"nvme{number}" in self.controllers)
        return found + [address in self.addresses for address in _ADDRESS.findall(line)]


def ours(drive: Drive, system: System, peers: tuple[str, ...] = ()) -> Ours:
    """Of a drive, all its controllers included, and of the devices whose memory it reaches."""
    siblings = system.names(f"/sys/block/{drive.disk}/device")
    controllers = {name for name in siblings if re.fullmatch(r"nvme\d+", name)} | {drive.controller}
    addresses = {drive.pci, *peers}
    for name in controllers:
        address = system.real(f"/sys/class/nvme/{name}/device").rsplit("/", 1)[-1]
        addresses.add(address)
    own = frozenset(addresses - {"", *peers})
    for address in tuple(addresses):
        addresses.update(pci.chain(system, address))
    return Ours(drive.disk, frozenset(controllers - {""}), frozenset(addresses - {""}), own)


def of_another(line: str, mine: Ours) -> bool:
    """Whether a complaint is about other drives, or their bus, alone."""
    if any(rule.search(line) for rule in _OF_THE_KERNEL) or _OF_MEMORY.search(line):
        return False
    named = mine.names(line)
    return bool(_OF_A_DEVICE.search(line)) and bool(named) and not any(named)


class Watch:
    """Reads on from a record of the log."""

    def __init__(self, mine: Ours, after: int) -> None:
        self._ours = mine
        self._log = kmsg.KernelLog(kmsg.PATH, after=after)

    def look(self) -> Seen:
        """What has been said since the last look."""
        if not self._log.readable:
            return None
        messages = self._log.messages()
        complaints = kernel_log.complaints(line for line in messages if line != kmsg.OVERRAN)
        return {
            "lines": [line for line in complaints if not of_another(line, self._ours)],
            "complete": kmsg.OVERRAN not in messages,
            "newest": self._log.newest,
        }

    def close(self) -> None:
        """No more looks."""
        self._log.close()
