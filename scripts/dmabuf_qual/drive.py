# SPDX-License-Identifier: GPL-2.0-only
"""The drive under test: what sysfs and the drive itself say about it."""

import array
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common.sysfs import System, is_pci_address

from .errors import QualError

NVME_IOCTL_ADMIN_CMD = 0xC0484E41
IDENTIFY, GET_LOG_PAGE = 0x06, 0x02
SMART_LOG, ALL_NAMESPACES = 0x02, 0xFFFFFFFF
PAGE = 4096


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

    @property
    def emulated(self) -> bool:
        """Whether figures of it say nothing about hardware."""
        return self.model.startswith("QEMU")


@dataclass(frozen=True)
class Health:
    """The drive's SMART log."""

    critical: int
    temperature_c: int
    used_percent: int
    written_bytes: int
    media_errors: int


def _admin(node: str, opcode: int, nsid: int, cdw10: int, length: int) -> bytes | None:
    """One admin command that reads; None when it cannot be done."""
    data = array.array("B", bytes(length))
    command = bytearray(72)
    struct.pack_into("<BBHI", command, 0, opcode, 0, 0, nsid)
    # struct nvme_passthru_cmd from byte 16: metadata, addr, metadata_len, data_len, cdw10.
    struct.pack_into("<QQIII", command, 16, 0, data.buffer_info()[0], 0, length, cdw10)
    try:
        with open(node, "rb", buffering=0) as file:
            status = fcntl.ioctl(file, NVME_IOCTL_ADMIN_CMD, command)
    except OSError:
        return None
    return data.tobytes() if status == 0 else None


def mdts_of(controller: str) -> int | None:
    """Bytes a command of this controller may move; 0: no limit."""
    identify = _admin(f"/dev/{controller}", IDENTIFY, 0, 1, PAGE)
    if identify is None:
        return None
    return (PAGE << identify[77]) if identify[77] else 0


def parse_health(log: bytes) -> Health:
    """The fields of the SMART / health log page."""
    return Health(
        critical=log[0],
        temperature_c=int.from_bytes(log[1:3], "little") - 273,
        used_percent=log[5],
        written_bytes=int.from_bytes(log[48:64], "little") * 512_000,
        media_errors=int.from_bytes(log[160:176], "little"),
    )


def health(drive: Drive) -> Health | None:
    """The drive's health now; None where it does not say."""
    if not drive.controller:
        return None
    cdw10 = (512 // 4 - 1) << 16 | SMART_LOG
    log = _admin(f"/dev/{drive.controller}", GET_LOG_PAGE, ALL_NAMESPACES, cdw10, 512)
    return None if log is None else parse_health(log)


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
        serial=system.read(f"{device}/serial"),
        firmware=system.read(f"{device}/firmware_rev"),
        bytes=(system.number(f"/sys/class/block/{name}/size") or 0) * 512,
        block=system.number(f"/sys/block/{disk}/queue/logical_block_size") or 512,
        metadata=system.number(f"/sys/block/{disk}/metadata_bytes") or 0,
        multipath="nvme-subsys" in system.real(device),
        mdts=mdts_of(controller) if controller and system.real_machine else None,
    )
