# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices by sysfs: the way up to the root, ACS, BARs, links."""

import re
from dataclasses import dataclass

from dmabuf_common.sysfs import System


DEVICES = "/sys/bus/pci/devices"
ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
ACS_CAPABILITY = 0x000D
# Request redirect, completion redirect: peer requests go up to the root complex.
ACS_REDIRECT = (1 << 2) | (1 << 3)
IORESOURCE_MEM = 0x200


@dataclass(frozen=True)
class Link:
    """PCIe link now and at most."""

    speed: str
    width: str
    max_speed: str
    max_width: str

    @property
    def downtrained(self) -> bool:
        """Whether it runs below what both ends could."""
        speeds = (self.speed, self.max_speed)
        known = all(speed and not speed.startswith("Unknown") for speed in speeds)
        return known and (self.speed, self.width) != (self.max_speed, self.max_width)


def path_to_root(system: System, address: str) -> list[str]:
    """The bridges above a device, nearest first."""
    parts = system.real(f"{DEVICES}/{address}").split("/")
    chain = [part for part in parts if ADDRESS.fullmatch(part)]
    return list(reversed(chain[:-1]))


def common_bridge(system: System, one: str, other: str) -> str | None:
    """The bridge nearest to both, None when they meet only at the root complex."""
    above = path_to_root(system, other)
    return next((bridge for bridge in path_to_root(system, one) if bridge in above), None)


def acs_control(system: System, address: str) -> int | None:
    """The ACS control word; None where there is no ACS, or only root may look."""
    config = system.data(f"{DEVICES}/{address}/config")
    offset = 0x100
    for _ in range(64):
        if offset + 8 > len(config):
            return None
        header = int.from_bytes(config[offset : offset + 4], "little")
        if header in (0, 0xFFFFFFFF):
            return None
        if header & 0xFFFF == ACS_CAPABILITY:
            return int.from_bytes(config[offset + 6 : offset + 8], "little")
        offset = header >> 20
        if offset < 0x100:
            return None
    return None


def redirecting(system: System, address: str) -> list[str]:
    """Bridges above the device whose ACS sends peer requests to the root complex."""
    found = []
    for bridge in path_to_root(system, address):
        control = acs_control(system, bridge)
        if control is not None and control & ACS_REDIRECT:
            found.append(bridge)
    return found


def link(system: System, address: str) -> Link:
    """The device's link; empty words where it has none."""
    base = f"{DEVICES}/{address}"
    return Link(*(system.read(f"{base}/{name}") for name in (
        "current_link_speed", "current_link_width", "max_link_speed", "max_link_width")))  # fmt: skip


def largest_bar(system: System, address: str) -> int:
    """Bytes of the device's largest memory BAR."""
    largest = 0
    for line in system.read(f"{DEVICES}/{address}/resource").splitlines()[:6]:
        begin, end, flags = (int(word, 16) for word in line.split())
        if flags & IORESOURCE_MEM and end > begin:
            largest = max(largest, end - begin + 1)
    return largest
