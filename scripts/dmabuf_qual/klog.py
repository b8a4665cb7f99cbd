# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log: what concerns a drive, its bus, its memory."""

import os
import re

BAD = re.compile(
    r"nvme.*(timeout|I/O error|Abort status|controller is down|frozen state|Removing after)"
    r"|critical medium error|I/O error, dev (nvme|dm)"
    r"|AER:(?! enabled with IRQ)|PCIe Bus Error|DMAR:.*fault|IO_PAGE_FAULT|iommu.*\bfault\b"
    r"|blocked for more than|hung task|soft lockup|BUG: |WARNING: |Oops: |swiotlb buffer is full",
    re.IGNORECASE,
)
KMSG = "/dev/kmsg"


def records(since: int = -1) -> tuple[int, list[str]]:
    """Number of the newest record, and the text of those after `since`; (-1, []) if unreadable."""
    newest, lines = since, []
    try:
        fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return -1, []
    try:
        while True:
            try:
                record = os.read(fd, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue
            head, _, text = record.partition(";")
            number = int(head.split(",")[1])
            newest = max(newest, number)
            if number > since:
                lines.append(text.splitlines()[0] if text else "")
    finally:
        os.close(fd)
    return newest, lines


def bad(lines: list[str]) -> list[str]:
    """Those that tell of an error of drive, bus, IOMMU or kernel."""
    return [line for line in lines if BAD.search(line) and "ommand line: " not in line]
