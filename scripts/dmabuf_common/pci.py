# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices by sysfs: the way up to the root, access control, BARs, links, the IOMMU."""

import re
from dataclasses import dataclass
from pathlib import Path

from .sysfs import System, pci_parts

DEVICES = "/sys/bus/pci/devices"
# Request redirect, completion redirect: peer requests go up to the root complex.
ACS_REDIRECT = (1 << 2) | (1 << 3)
NO_IOMMU = "none"

_EXPRESS = 0x10
_ACCESS_CONTROL = 0x000D
_FIRST_EXTENDED = 0x100
_CONFIG_BYTES = 4096
# What a user who is not root may read of the configuration space.
_HEADER_BYTES = 64
_IORESOURCE_MEM = 0x200
_BARS = 6
_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_DRM_NODE = re.compile(r"/dev/dri/((?:card|renderD)\d+)")
# The class of display controllers, as sysfs writes it, with the sub-class behind it.
_DISPLAY = "0x03"
# The kernel's words for a width that it does not know.
_UNKNOWN_WIDTHS = (0, 255)


@dataclass(frozen=True)
class Bar:
    """A base address register that is in use."""

    size: int
    memory: bool


@dataclass(frozen=True)
class Link:
    """A PCIe link: GT/s and lanes now, and what both of its ends can do; 0 where not known."""

    speed: float
    width: int
    most_speed: float
    most_width: int

    @property
    def known(self) -> bool:
        """Whether the device says what it runs at."""
        return bool(self.speed and self.width)

    @property
    def downtrained(self) -> bool:
        """Whether it runs below what both ends could."""
        slow = bool(self.speed and self.most_speed) and self.speed != self.most_speed
        narrow = bool(self.width and self.most_width) and self.width != self.most_width
        return slow or narrow

    def text(self) -> str:
        """What it runs at, in words."""
        return f"{self.speed:g} GT/s x{self.width}"

    def most_text(self) -> str:
        """What it could run at, in words."""
        return f"{self.most_speed:g} GT/s x{self.most_width}"


def chain(system: System, address: str) -> list[str]:
    """The addresses from the root port down to a device, itself included; empty for none."""
    return pci_parts(system.real(f"{DEVICES}/{address}")) if address else []


def path_to_root(system: System, address: str) -> list[str]:
    """The bridges above a device, nearest first."""
    return list(reversed(chain(system, address)[:-1]))


def common_bridge(system: System, one: str, other: str) -> str | None:
    """The bridge nearest to both, None when they meet only at the root complex."""
    above = path_to_root(system, other)
    return next((bridge for bridge in path_to_root(system, one) if bridge in above), None)


def distance(system: System, one: str, other: str) -> int | None:
    """How many steps from bridge to bridge lead from one device to the other; None when the way
    leads through the root complex, or one of them is not there."""
    a, b = chain(system, one), chain(system, other)
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    return len(a) + len(b) - 2 * shared if shared else None


def plain_address(text: str) -> str:
    """An address as sysfs writes it, from how CUDA and nvidia-smi do: in capitals, without a domain or with
    eight digits of it, perhaps with /BAR; "" for what is none."""
    words = _ADDRESS.fullmatch(text.partition("/")[0].lower())
    return f"{int(words[1] or '0', 16):04x}:{words[2]}" if words else ""


def drm_device(system: System, device: str) -> str:
    """The folder of the device behind a DRM card or render node, which is named as in /dev/dri or by a link
    that leads there (by-path); "" where it is neither."""
    named = device if device.startswith("/") else f"/dev/dri/{device}"
    node = _DRM_NODE.fullmatch(system.real(named) or named)
    return system.real(f"/sys/class/drm/{node[1]}/device") if node else ""


def of_device(system: System, device: str) -> str:
    """The PCI address of a device that is named as fio's dmabuf_device names it: an address itself,
    perhaps with /BAR, or a DRM device's card or render node; "" where it is neither."""
    if address := plain_address(device):
        return address
    parts = pci_parts(drm_device(system, device)) if device else []
    return parts[-1] if parts else ""


def driver(system: System, address: str) -> str:
    """The driver of a device; "" for none."""
    return Path(system.real(f"{DEVICES}/{address}/driver")).name


def displays(system: System) -> list[str]:
    """The addresses of all display controllers, GPUs without a screen among them."""
    found = system.names(DEVICES)
    return [one for one in found if system.read(f"{DEVICES}/{one}/class").startswith(_DISPLAY)]


def _extended(config: bytes, wanted: int) -> int:
    """Where an extended capability is in a configuration space; 0 where it is not."""
    at = _FIRST_EXTENDED
    # A capability has eight bytes at least: a list that is longer than this is a circle.
    for _ in range((_CONFIG_BYTES - _FIRST_EXTENDED) // 8):
        head = int.from_bytes(config[at : at + 4], "little")
        if at + 8 > len(config) or head in (0, 0xFFFFFFFF):
            return 0
        if head & 0xFFFF == wanted:
            return at
        at = head >> 20
        if at < _FIRST_EXTENDED:
            return 0
    return 0


def acs_control(system: System, address: str) -> int | None:
    """The ACS control word; None where there is no ACS, or only root may look."""
    config = system.data(f"{DEVICES}/{address}/config")
    at = _extended(config, _ACCESS_CONTROL)
    return int.from_bytes(config[at + 6 : at + 8], "little") if at else None


def acs_text(system: System, address: str) -> str:
    """The ACS control word in hexadecimal; "none" without that capability, "" when it cannot be
    read (all of the configuration space is root's)."""
    control = acs_control(system, address)
    if control is not None:
        return f"0x{control:04x}"
    return "none" if len(system.data(f"{DEVICES}/{address}/config")) > _HEADER_BYTES else ""


def redirecting(system: System, address: str) -> list[str]:
    """Bridges above the device whose ACS sends peer requests to the root complex."""
    found = []
    for bridge in path_to_root(system, address):
        control = acs_control(system, bridge)
        if control is not None and control & ACS_REDIRECT:
            found.append(bridge)
    return found


def max_payload(system: System, address: str) -> int | None:
    """The bytes of the payload size in a device's control register; None when it cannot be read."""
    config = system.data(f"{DEVICES}/{address}/config")
    at = config[0x34] if len(config) > 0x34 else 0
    for _ in range(48):
        if not at or at + 10 > len(config):
            return None
        if config[at] == _EXPRESS:
            return 128 << (config[at + 8] >> 5 & 7)
        at = config[at + 1]
    return None


def _first_number(text: str) -> float:
    """The number that a text begins with; 0 for none ("Unknown")."""
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return 0.0


def link(system: System, address: str) -> Link:
    """The device's link. What it could do is bounded by the port above it."""

    def attribute(device: str, name: str) -> float:
        value = _first_number(system.read(f"{DEVICES}/{device}/{name}"))
        return 0.0 if name.endswith("width") and value in _UNKNOWN_WIDTHS else value

    ends = chain(system, address)[-2:] or [address]
    now = [attribute(address, f"current_link_{what}") for what in ("speed", "width")]
    most = [
        min(filter(None, (attribute(end, f"max_link_{what}") for end in ends)), default=0.0)
        for what in ("speed", "width")
    ]
    return Link(now[0], int(now[1]), most[0], int(most[1]))


def bars(system: System, address: str) -> list[Bar]:
    """The device's base address registers that are in use."""
    found = []
    for line in system.read(f"{DEVICES}/{address}/resource").splitlines()[:_BARS]:
        words = [int(word, 16) for word in line.split()]
        if len(words) == 3 and words[1] > words[0]:
            found.append(Bar(words[1] - words[0] + 1, bool(words[2] & _IORESOURCE_MEM)))
    return found


def largest_bar(system: System, address: str) -> int:
    """Bytes of the device's largest memory BAR."""
    return max((bar.size for bar in bars(system, address) if bar.memory), default=0)


def holds(system: System, address: str, place: int) -> bool:
    """Whether a memory BAR of the device is at a physical address."""
    for line in system.read(f"{DEVICES}/{address}/resource").splitlines()[:_BARS]:
        words = [int(word, 16) for word in line.split()]
        if len(words) == 3 and words[2] & _IORESOURCE_MEM and words[0] <= place <= words[1]:
            return True
    return False


def iommu_mode(system: System, address: str) -> str:
    """How the IOMMU translates for a device, as the kernel calls it; NO_IOMMU where it has no group,
    "" where that cannot be told."""
    if not system.exists(f"{DEVICES}/{address}") or not address:
        return ""
    folder = f"{DEVICES}/{address}/iommu_group"
    return system.read(f"{folder}/type") if system.exists(folder) else NO_IOMMU


def aer_totals(system: System, address: str) -> dict[str, int]:
    """PCIe errors of a device since boot, by aer_dev_correctable, aer_dev_nonfatal, aer_dev_fatal;
    without those that cannot be read."""
    totals = {}
    for kind in ("aer_dev_correctable", "aer_dev_nonfatal", "aer_dev_fatal"):
        for line in system.read(f"{DEVICES}/{address}/{kind}").splitlines():
            words = line.split()
            if len(words) == 2 and words[0].startswith("TOTAL_ERR") and words[1].isdecimal():
                totals[kind] = int(words[1])
    return totals
