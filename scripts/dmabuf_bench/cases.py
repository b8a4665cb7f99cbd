# SPDX-License-Identifier: GPL-2.0-only
"""What can be measured: a case is one datapath with one kind of load on one kind of memory."""

import re
from dataclasses import dataclass

# In the order of tables. host is what fio's own io_uring engine does: registered host memory.
PATHS = ("host", "passthrough", "registered", "bvec", "premapped", "bounce")
MEMORIES = ("scattered", "huge", "contiguous", "plain")
IOMMUS = ("off", "lazy", "strict")

# The longest command of the lab's drive when it is measured: 4 KiB << MDTS.
MDTS = 9
LONGEST_COMMAND = 4096 << MDTS

_SIZE = re.compile(r"^(\d+)([km]?)$")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def parse_size(text: str) -> int:
    """Bytes of "512", "4k" or "1m"; ValueError for anything else and for what a block is not."""
    match = _SIZE.match(text.lower())
    value = int(match[1]) * _UNITS[match[2]] if match else 0
    if value < 512 or value % 512:
        raise ValueError(f"{text!r} is not a size in blocks of 512 bytes, like 512, 4k or 1m")
    return value


def size_text(count: int) -> str:
    """The shortest such text."""
    for unit in ("m", "k"):
        if count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


@dataclass(frozen=True)
class IoCase:
    """One datapath in the guest's loop. bs in bytes; free: not held, see docs/performance.md."""

    path: str
    memory: str = "scattered"
    bs: int = 4096
    depth: int = 32
    writes: bool = False
    polled: bool = False
    free: bool = False

    def line(self) -> str:
        """The line for the guest's program."""
        words = [f"io path={self.path} memory={self.memory} bs={self.bs} depth={self.depth}"]
        words += [f"{name}=1" for name in ("writes", "polled", "free") if getattr(self, name)]
        if self.path == "premapped":
            # The drive's limit, which the block layer hides behind an IOMMU.
            words.append(f"hint={LONGEST_COMMAND}")
        return " ".join(words)

    def label(self) -> str:
        """What a table shows."""
        extra = [name for name in ("writes", "polled", "free") if getattr(self, name)]
        words = [self.path, size_text(self.bs), self.memory, f"QD {self.depth}", *extra]
        return ", ".join(words)


@dataclass(frozen=True)
class MapCase:
    """MAP. how: "first", "again", "each" or "batch"; bytes of one dma-buf; count of them."""

    how: str
    memory: str
    size: int
    count: int = 1

    def line(self) -> str:
        """The line for the guest's program."""
        return f"map how={self.how} memory={self.memory} bytes={self.size} count={self.count}"

    def label(self) -> str:
        """What a table shows."""
        how = {"first": "first", "again": "again", "each": "a call each", "batch": "one call"}
        return f"MAP of {self.count} x {size_text(self.size)}, {self.memory}, {how[self.how]}"


Case = IoCase | MapCase
