# SPDX-License-Identifier: GPL-2.0-only
"""Finds addresses of the kernel in what a guest shows: pointers, and addresses that drives are given.

Whoever knows where the kernel has its memory is a step further in attacking it, so nothing of ours
shows that. Hashed pointers ("00000000a1b2c3d4", what printk makes of %p) are no addresses.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# The upper half of the address space, in hexadecimal digits that are not part of a longer number.
_POINTER = re.compile(r"(?<![0-9a-zA-Z_])(?:0x)?(ffff[0-9a-f]{12})(?![0-9a-zA-Z_])", re.IGNORECASE)
# The last page is never mapped: numbers there are errors and masks ("fffffffffffff000").
_LAST_PAGE = 0xFFFFFFFFFFFFF000

# A number that is called an address of memory as a device or the processor's bus sees it.
_LABELLED = re.compile(
    r"(?<![a-z])(?:dma|phys(?:ical)?|bus|iova|pfn|paddr|prp[12]?)"
    r"[ _-]?(?:addr(?:ess)?)?[ ]?[:= ][ ]?0x([0-9a-f]{4,16})(?![0-9a-z])",
    re.IGNORECASE,
)

# A line of the kernel's log, as dmesg and the console write it.
_LOG_LINE = re.compile(r"^\s*(?:<\d+>)?\[\s*\d+\.\d+\]")
_OURS = re.compile(r"\b(dmabuf_rw|dmabuf_testexp)")

_LAST_WORD = re.compile(rb"[0-9A-Za-z_]{0,64}\Z")

KEPT_LINES = 20
LONGEST_LINE = 1 << 16


def shows_address(line: str) -> bool:
    """Whether a line has something in it that looks like an address of the kernel."""
    pointers = (int(digits, 16) for digits in _POINTER.findall(line))
    return any(value < _LAST_PAGE for value in pointers) or any(
        int(digits, 16) != 0 for digits in _LABELLED.findall(line)
    )


def in_log(lines: Iterable[str]) -> list[str]:
    """Lines of the kernel's log in which our modules show an address, each text once."""
    return list(dict.fromkeys(line for line in lines if _OURS.search(line) and shows_address(line)))


@dataclass
class Output:
    """Looks at a command's output as it comes; `found` holds the first lines that show an address.

    What the command shows of the kernel's log is judged as such: only lines of our modules count.
    """

    found: list[str] = field(default_factory=list)
    _pending: bytes = b""

    def feed(self, data: bytes) -> None:
        """More of the output. A line may come in parts."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LONGEST_LINE:
            # Cut before the word that more of may come.
            cut = next(_LAST_WORD.finditer(self._pending)).start()
            lines.append(self._pending[:cut])
            self._pending = self._pending[cut:]
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """There is no more: the last line may have no end."""
        self._line(self._pending)
        self._pending = b""

    def _line(self, data: bytes) -> None:
        line = data.decode("utf-8", "replace").rstrip("\r")
        if len(self.found) >= KEPT_LINES or not shows_address(line):
            return
        if not _LOG_LINE.match(line) or _OURS.search(line):
            self.found.append(line)
