# SPDX-License-Identifier: GPL-2.0-only
"""What an NVMe controller says of itself: admin commands that only read. They need root."""

import array
import fcntl
import struct
from dataclasses import dataclass

_IOCTL_ADMIN_CMD = 0xC0484E41
_IDENTIFY, _GET_LOG_PAGE = 0x06, 0x02
_SMART_LOG, _ALL_NAMESPACES = 0x02, 0xFFFFFFFF
_SMART_BYTES = 512
_PAGE = 4096
_KELVIN = 273


@dataclass(frozen=True)
class Health:
    """The SMART log. The times are in minutes; the names from `spare_percent` on are those of
    nvme-cli, where it has one."""

    critical: int
    temperature_c: int
    used_percent: int
    written_bytes: int
    media_errors: int
    spare_percent: int = 100
    unsafe_shutdowns: int = 0
    warning_temp_time: int = 0
    critical_comp_time: int = 0
    thm_temp1_trans_count: int = 0
    thm_temp2_trans_count: int = 0
    spare_threshold: int = 0
    num_err_log_entries: int = 0


def _admin(controller: str, opcode: int, nsid: int, cdw10: int, length: int) -> bytes | None:
    """One admin command that reads; None when it cannot be done."""
    data = array.array("B", bytes(length))
    command = bytearray(72)
    struct.pack_into("<BBHI", command, 0, opcode, 0, 0, nsid)
    # struct nvme_passthru_cmd from byte 16: metadata, addr, metadata_len, data_len, cdw10.
    struct.pack_into("<QQIII", command, 16, 0, data.buffer_info()[0], 0, length, cdw10)
    try:
        with open(f"/dev/{controller}", "rb", buffering=0) as file:
            status = fcntl.ioctl(file, _IOCTL_ADMIN_CMD, command)
    except OSError:
        return None
    return data.tobytes() if status == 0 else None


def mdts(controller: str) -> int | None:
    """Bytes a command of this controller (nvme0) may move; 0: no limit; None: it does not say."""
    identify = _admin(controller, _IDENTIFY, 0, 1, _PAGE)
    if identify is None:
        return None
    return (_PAGE << identify[77]) if identify[77] else 0


def parse_used(identify: bytes) -> float | None:
    """Which share of a namespace's blocks the drive has something stored for, by the namespace's
    Identify page; None where it does not say. A drive that does not count says all."""
    size, used = (int.from_bytes(identify[at : at + 8], "little") for at in (0, 16))
    return used / size if size else None


def used(controller: str, nsid: int) -> float | None:
    """parse_used() of a namespace now."""
    identify = _admin(controller, _IDENTIFY, nsid, 0, _PAGE)
    return None if identify is None else parse_used(identify)


def parse_health(log: bytes) -> Health:
    """The fields of the SMART / health log page."""

    def number(first: int, size: int) -> int:
        return int.from_bytes(log[first : first + size], "little")

    return Health(
        critical=log[0],
        temperature_c=number(1, 2) - _KELVIN,
        used_percent=log[5],
        written_bytes=number(48, 16) * 512_000,
        media_errors=number(160, 16),
        spare_percent=log[3],
        unsafe_shutdowns=number(144, 16),
        warning_temp_time=number(192, 4),
        critical_comp_time=number(196, 4),
        thm_temp1_trans_count=number(216, 4),
        thm_temp2_trans_count=number(220, 4),
        spare_threshold=log[4],
        num_err_log_entries=number(176, 16),
    )


def health(controller: str) -> Health | None:
    """The controller's health now; None where it does not say."""
    cdw10 = (_SMART_BYTES // 4 - 1) << 16 | _SMART_LOG
    log = _admin(controller, _GET_LOG_PAGE, _ALL_NAMESPACES, cdw10, _SMART_BYTES)
    return None if log is None else parse_health(log)
