# SPDX-License-Identifier: GPL-2.0-only
"""What can be measured: a case is one datapath with one kind of load on one kind of memory."""

from dataclasses import dataclass

from dmabuf_common import sizes

# In the order of tables. host is what fio's own io_uring engine does: registered host memory.
PATHS = ("host", "passthrough", "registered", "bvec", "premapped", "bounce")
MEMORIES = ("scattered", "huge", "contiguous", "plain")
# Besides, of the test exporter and for premapped only: unfenced, and signalled, which has fences.
IOMMUS = ("off", "lazy", "strict")
# How the guest's block layer schedules. Linux gives a drive with several queues none, and one with a
# single queue, as the guest's with its one CPU, mq-deadline.
SCHEDULERS = ("none", "mq-deadline")
SCHEDULER = SCHEDULERS[0]

# The longest command of the lab's drive when it is measured: 4 KiB << MDTS.
MDTS = 9
LONGEST_COMMAND = 4096 << MDTS
LONGEST_BLOCK = 1 << 30
# Batches of a repeat on a polled ring, whose batches have two levels, 4 % apart; the program's own number is 40.
POLLED_BATCHES = 160
# Words of a case that are said or not.
FLAGS = ("writes", "polled", "free", "each")


def parse_size(text: str) -> int:
    """Bytes of "512", "4k" or "1m"; ValueError for anything else and for what a block is not."""
    value = sizes.parse(text) or 0
    if not 512 <= value <= LONGEST_BLOCK or value % 512:
        raise ValueError(f"{text!r} is not a size in blocks of 512 bytes, like 512, 4k or 1m")
    return value


@dataclass(frozen=True)
class IoCase:
    """One datapath in the guest's loop. bs in bytes; free: not held, see docs/performance.md.

    each: every entry is submitted by a call of its own; ranges: so many I/Os in one command, depth
    counts I/Os all the same; command: bytes that one of premapped moves at most; file: "one", a file
    of ext4 in one piece, "many", one in a thousand, or "", the drive itself.
    """

    path: str
    memory: str = "scattered"
    bs: int = 4096
    depth: int = 32
    writes: bool = False
    polled: bool = False
    free: bool = False
    each: bool = False
    ranges: int = 1
    command: int = LONGEST_COMMAND
    file: str = ""

    def line(self) -> str:
        """The line for the guest's program."""
        words = [f"io path={self.path} memory={self.memory} bs={self.bs} depth={self.depth}"]
        words += [f"{name}=1" for name in FLAGS if getattr(self, name)]
        if self.ranges > 1:
            words.append(f"ranges={self.ranges}")
        if self.file:
            words.append(f"file={self.file}")
        if self.polled:
            words.append(f"batches={POLLED_BATCHES}")
        if self.path == "premapped":
            # The drive's limit, which the block layer hides behind an IOMMU.
            words.append(f"hint={self.command}")
        return " ".join(words)

    def label(self) -> str:
        """What a table shows."""
        extra = [name for name in FLAGS if getattr(self, name)]
        if self.ranges > 1:
            extra.append(f"{self.ranges} ranges")
        if self.command != LONGEST_COMMAND:
            extra.append(f"commands of {sizes.size_text(self.command)}")
        if self.file:
            extra.append("a file" if self.file == "one" else "a file in 1000 pieces")
        words = [self.path, sizes.size_text(self.bs), self.memory, f"QD {self.depth}", *extra]
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
        return f"MAP of {self.count} x {sizes.size_text(self.size)}, {self.memory}, {how[self.how]}"


Case = IoCase | MapCase
