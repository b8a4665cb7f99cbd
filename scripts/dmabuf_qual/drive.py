# SPDX-License-Identifier: GPL-2.0-only
"""The drive under test: what sysfs and the drive itself say about it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common import emulated, nvme, pci as buses
from dmabuf_common.sysfs import System, is_pci_address

from .errors import QualError


@dataclass(frozen=True)
class Drive:
    """A namespace, or a partition of one."""

    path: str
    name: str
    disk: str  # the whole disk's name; the same as `name` unless it is a partition
    controller: str  # nvme0; empty where it is no NVMe drive
    pci: str  # 0000:01:00.0; empty where it is not on PCI
    model: str
    serial: str
    firmware: str
    bytes: int
    block: int
    metadata: int
    multipath: bool
    mdts: int | None  # bytes; 0: no limit; None: not known
    vendor: str = ""  # of the PCI device, 0x144d

    @property
    def emulated(self) -> bool:
        """Whether a hypervisor makes it up, so that figures of it say nothing about hardware."""
        return emulated.drive(self.model, self.vendor)


def health(drive: Drive) -> nvme.Health | None:
    """The drive's health now; None where it does not say."""
    return nvme.health(drive.controller) if drive.controller else None


def find(path: str, system: System | None = None) -> Drive:
    """The drive at `path`; QualError when it is no block device."""
    system = system or System()
    real = os.path.realpath(path)
    name = os.path.basename(real)
    if system.real_machine:
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            raise QualError(f"{path}: {error.strerror}; give the drive's device node") from error
        if not stat.S_ISBLK(mode):
            raise QualError(f"{path} is no block device; give the namespace, such as /dev/nvme0n1")
    disk = name
    if not system.exists(f"/sys/block/{name}"):
        disk = Path(system.real(f"/sys/class/block/{name}")).parent.name
    if not disk or not system.exists(f"/sys/block/{disk}"):
        raise QualError(f"{path} is not in /sys/block; give the namespace, such as /dev/nvme0n1")
    device = f"/sys/block/{disk}/device"
    controller = system.nvme_controller(disk)
    pci = Path(system.real(f"/sys/class/nvme/{controller}/device")).name if controller else ""
    if not is_pci_address(pci):
        pci = ""
    return Drive(
        path=path,
        name=name,
        disk=disk,
        controller=controller,
        pci=pci,
        model=system.read(f"{device}/model"),
        serial=system.read(f"{device}/serial") or system.read(f"/sys/block/{disk}/serial"),
        firmware=system.read(f"{device}/firmware_rev"),
        bytes=(system.number(f"/sys/class/block/{name}/size") or 0) * 512,
        block=system.number(f"/sys/block/{disk}/queue/logical_block_size") or 512,
        metadata=system.number(f"/sys/block/{disk}/metadata_bytes") or 0,
        multipath="nvme-subsys" in system.real(device),
        mdts=nvme.mdts(controller) if controller and system.real_machine else None,
        vendor=system.read(f"{buses.DEVICES}/{pci}/vendor") if pci else "",
    )
