# SPDX-License-Identifier: GPL-2.0-only
"""What the drive was given: QEMU's log of its writes (dmabuf-lab run --writes FOLDER/writes --share FOLDER), and the
kernel's trace of the commands, which alone says which of them had FUA."""

import re
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fio.harness import Tally

LOG = Path("/share/writes")
MAGIC, SECTOR = 0x6A736677736872, 512
FLUSH, FUA, DISCARD = 1, 2, 4
TRACE = Path("/sys/kernel/tracing/instances/writes")
NVME_FUA = 1 << 14
# nvme_setup_cmd of a command that puts data onto the drive.
COMMAND = re.compile(r"disk=nvme0\S*, .*\(nvme_cmd_(?:write|write_zeroes) slba=(\d+), len=(\d+), ctrl=0x([0-9a-f]+)")


@dataclass(frozen=True)
class Entry:
    """One of the log. data: empty for zeros."""

    offset: int
    length: int
    flags: int
    data: bytes


def entries(begin: int) -> Iterator[Entry]:
    """The log from there on, in order."""
    with LOG.open("rb") as file:
        magic, version, count, size = struct.unpack("<QQQI", file.read(28))
        if (magic, version, size) != (MAGIC, 1, SECTOR):
            sys.exit(f"setup: {LOG} is no log of writes")
        at = SECTOR
        for number in range(count):
            file.seek(at)
            sector, sectors, flags, _ = struct.unpack("<QQQQ", file.read(32))
            length = 0 if flags & DISCARD else sectors * SECTOR
            if number >= begin:
                file.seek(at + SECTOR)
                data = file.read(length)
                yield Entry(sector * SECTOR, length, flags, b"" if data.count(0) == length else data)
            at += SECTOR + length


def logged() -> int:
    """The entries of the log so far."""
    with LOG.open("rb") as file:
        return int.from_bytes(file.read(24)[16:], "little")


@dataclass(frozen=True)
class Command:
    """What the kernel sent: bytes, and whether with FUA."""

    offset: int
    length: int
    fua: bool


@contextmanager
def traced() -> Iterator[None]:
    """The drive's commands are traced."""
    TRACE.mkdir()
    try:
        (TRACE / "buffer_size_kb").write_text("16384")
        (TRACE / "events/nvme/nvme_setup_cmd/filter").write_text("qid > 0 && (opcode == 1 || opcode == 8)")
        (TRACE / "events/nvme/nvme_setup_cmd/enable").write_text("1")
        yield
    finally:
        (TRACE / "events/nvme/nvme_setup_cmd/enable").write_text("0")
        TRACE.rmdir()


def commands(tally: Tally) -> list[Command]:
    """Those that were traced, in order."""
    text = (TRACE / "trace").read_text()
    there = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", text)
    tally.check(there is not None and there[1] == there[2], "the trace is whole", there[0] if there else text[:200])
    return [Command(int(slba) * SECTOR, (int(length) + 1) * SECTOR, bool(int(control, 16) & NVME_FUA))
            for slba, length, control in COMMAND.findall(text)]


def told(log: list[Entry], sent: Iterable[Command], tally: Tally, name: str) -> list[Entry]:
    """The log, each entry with the FUA that its command had: of one place, the first entry is the first command's."""
    queues = defaultdict(list)
    for command in sent:
        queues[command.offset, command.length].append(command.fua)
    made = []
    strangers = 0
    for entry in log:
        flags = entry.flags
        if entry.length and not flags & DISCARD:
            queue = queues[entry.offset, entry.length]
            strangers += not queue
            flags |= FUA if queue and queue.pop(0) else 0
        made.append(replace(entry, flags=flags))
    tally.same((strangers, sum(map(len, queues.values()))), (0, 0), f"{name}: writes without a command, and the other way round")
    return made
