#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What a power cut leaves of a file that is held and written: all that fsync() said, and a whole file system.

usage: power_cut.py FILESYSTEM…, of: ext4 xfs. The drive is one that loses its cache: it holds what came before
its last flush. QEMU's drive ignores FUA, so that such writes are lost as any others. Runs in the lab's guest
(dmabuf-lab run --writes FOLDER/writes --share FOLDER), and destroys the data on $DEV and /dev/vda. Exit status
0 pass, 1 fail, 2 usage.
"""

import array
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fio.harness import Tally

LOG, OTHER, MOUNT = Path("/share/writes"), "/dev/vda", Path("/tmp/power_cut")
PROGRAM = "/src/build/lab/tests/vm/files"
MAGIC, SECTOR = 0x6A736677736872, 512
FLUSH, FUA, DISCARD = 1, 2, 4
FILE_BYTES = 1 << 20


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


def kept(log: list[Entry]) -> list[Entry]:
    """What a drive keeps whose cache is lost after these."""
    last = max((number for number, entry in enumerate(log) if entry.flags & FLUSH), default=-1)
    return log[:last + 1] + [entry for entry in log[last + 1:] if entry.flags & FUA]


def make_drive(log: list[Entry]) -> None:
    """The other drive holds what these wrote, and zeros elsewhere."""
    subprocess.run(["blkdiscard", "-q", "-f", "-z", OTHER], check=True)
    with open(OTHER, "r+b", buffering=0) as target:
        for entry in log:
            data = entry.data or bytes(entry.length)
            if os.pwrite(target.fileno(), data, entry.offset) != entry.length:
                sys.exit("setup: the log cannot be written to the other drive")
        os.fsync(target.fileno())


def pattern(generation: int) -> bytes:
    """What the file holds in a generation."""
    return array.array("Q", ((generation << 44) | at for at in range(FILE_BYTES // 8))).tobytes()


def whole(system: str) -> subprocess.CompletedProcess[str]:
    """Whether the file system is."""
    check = ["xfs_repair", "-n"] if system == "xfs" else ["e2fsck", "-f", "-n"]
    return subprocess.run([*check, OTHER], capture_output=True, text=True)


def left(system: str, name: str, tally: Tally, log: list[Entry]) -> bytes:
    """The file after a cut that these writes came before."""
    make_drive(kept(log))
    # The journal is replayed.
    subprocess.run(["mount", "-t", system, OTHER, str(MOUNT)], check=True)
    try:
        found = (MOUNT / "cut").read_bytes()
    finally:
        subprocess.run(["umount", str(MOUNT)], check=True)
    checked = whole(system)
    tally.check(checked.returncode == 0, f"{name}: the file system is whole", checked.stdout + checked.stderr)
    return found


def on(tally: Tally, system: str) -> None:
    """All of it on one file system."""
    run = subprocess.run([PROGRAM, system, "cut"], stdout=subprocess.PIPE, text=True)
    sys.stdout.write(run.stdout)
    tally.check(run.returncode == 0, f"{system}: it is written", run.stdout)
    said = [line.split() for line in run.stdout.splitlines()]
    marks = [(words[0], int(words[1]), int(words[2])) for words in said
             if words and words[0] in ("begin", "synced", "unsynced")]
    if not tally.same([what for what, _, _ in marks], ["begin"] + ["synced"] * 5 + ["unsynced"] * 2,
                      f"{system}: what was written"):
        return
    begin = marks[0][2]
    log, lost = list(entries(begin)), 0
    for what, generation, end in marks[1:]:
        name = f"{system}, generation {generation}"
        found = left(system, name, tally, log[:end - begin])
        if what == "synced":
            tally.check(found == pattern(generation), f"{name}: what was acknowledged is there")
        else:
            lost += found != pattern(generation)
    tally.check(lost > 0, f"{system}: what was not acknowledged can be lost")
    # In the middle of what was not synced.
    _, _, end = marks[-1]
    left(system, f"{system}, a cut while it is written", tally, log[:end - begin - 5])
    with open(OTHER, "r+b", buffering=0) as target:
        os.pwrite(target.fileno(), b"\xa5" * 65536, 4096)
        os.fsync(target.fileno())
    tally.check(whole(system).returncode != 0, f"{system}: a file system that is not whole is noticed")
    subprocess.run(["wipefs", "-q", "-a", OTHER], check=True)


def main() -> int:
    tally = Tally()
    MOUNT.mkdir(exist_ok=True)
    if not sys.argv[1:]:
        sys.exit(__doc__)
    for system in sys.argv[1:]:
        on(tally, system)
    return tally.finish("power_cut")


if __name__ == "__main__":
    sys.exit(main())
