#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What a power cut leaves of a file that is held and written: all that fsync() said, and a whole file system.

usage: power_cut.py [--cuts N] [--seed N] FILESYSTEM…, of: ext4 xfs. The drive is one that loses its cache. It holds
what came before its last flush, and of what came later nothing, or, in N cuts at any time, whichever sectors it
had put down by then, in any order. What had FUA is put down at its end (writes.py). Runs in the lab's
guest (dmabuf-lab run --writes FOLDER/writes --share FOLDER), and destroys the data on $DEV and /dev/vda. Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import array
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from files.writes import FLUSH, FUA, SECTOR, Entry, commands, entries, logged, told, traced
from fio.harness import Tally

OTHER, MOUNT = "/dev/vda", Path("/tmp/power_cut")
PROGRAM = "/src/build/lab/tests/vm/files"
FILE_BYTES = 1 << 20


def pieces(entry: Entry, chance: random.Random) -> Iterator[Entry]:
    """The sectors of a write that the drive had put down when the power went."""
    share = chance.choice((0.0, 0.5, 1.0))
    for at in range(0, entry.length, SECTOR):
        if chance.random() < share:
            yield Entry(entry.offset + at, min(SECTOR, entry.length - at), 0, entry.data[at:at + SECTOR])


def kept(log: list[Entry], chance: random.Random | None = None) -> list[Entry]:
    """What a drive keeps whose cache is lost after these: all of it, or what chance has not put down yet."""
    last = max((number for number, entry in enumerate(log) if entry.flags & FLUSH), default=-1)
    later = log[last + 1:]
    held = log[:last + 1]
    for entry in later:
        if entry.flags & FUA:
            held.append(entry)
        elif chance:
            held += pieces(entry, chance)
    return held


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


def left(system: str, name: str, tally: Tally, held: list[Entry]) -> bytes:
    """The file on a drive that holds these writes."""
    make_drive(held)
    # The journal is replayed.
    subprocess.run(["mount", "-t", system, OTHER, str(MOUNT)], check=True)
    try:
        found = (MOUNT / "cut").read_bytes()
    finally:
        subprocess.run(["umount", str(MOUNT)], check=True)
    checked = whole(system)
    tally.check(checked.returncode == 0, f"{name}: the file system is whole", checked.stdout + checked.stderr)
    return found


@dataclass(frozen=True)
class Mark:
    """A generation of the file: whether fsync() came back, and how long the log was then."""

    synced: bool
    generation: int
    end: int


def generations(marks: list[Mark], cut: int) -> range:
    """What a sector of the file may hold when the power goes after so many writes: what was acknowledged last, and
    what was written since."""
    least = max((mark.generation for mark in marks if mark.synced and mark.end <= cut), default=marks[0].generation)
    return range(least, next(mark.generation for mark in marks if mark.end >= cut) + 1)


def strange(found: bytes, allowed: range) -> list[str]:
    """Sectors of the file that hold none of these generations."""
    patterns = [pattern(generation) for generation in allowed]
    at = (at for at in range(0, FILE_BYTES, SECTOR)
          if all(found[at:at + SECTOR] != whole_file[at:at + SECTOR] for whole_file in patterns))
    return [f"at {offset}: {found[offset:offset + 16].hex()}" for offset in at]


def at_any_time(tally: Tally, system: str, log: list[Entry], marks: list[Mark], chance: random.Random, cuts: int) -> None:
    """Cuts that leave a part of the cache. The file is made before the first mark, and held from there on."""
    mixed, allowed = 0, range(1, 2)
    for _ in range(cuts):
        cut = chance.randint(marks[0].end, marks[-1].end)
        allowed = generations(marks, cut)
        name = f"{system}, a cut after {cut} writes that leaves a part of the cache"
        held = kept(log[:cut], chance)
        mixed += held != kept(log[:cut])
        wrong = strange(left(system, name, tally, held), allowed)
        tally.check(not wrong, f"{name}: each sector is of generation {allowed}", "; ".join(wrong[:3]))
    tally.check(mixed > 0, f"{system}: cuts that left a part of the cache")
    last = pattern(allowed[-1])
    tally.same(len(strange(pattern(allowed[0] - 1)[:SECTOR] + last[SECTOR:], allowed)), 1,
               f"{system}: one sector of an older generation is noticed")


def on(tally: Tally, system: str, chance: random.Random, cuts: int) -> None:
    """All of it on one file system."""
    before = logged()
    with traced():
        run = subprocess.run([PROGRAM, system, "cut"], stdout=subprocess.PIPE, text=True)
        sent = commands(tally)
    sys.stdout.write(run.stdout)
    tally.check(run.returncode == 0, f"{system}: it is written", run.stdout)
    said = [line.split() for line in run.stdout.splitlines()]
    marks = [(words[0], int(words[1]), int(words[2])) for words in said
             if words and words[0] in ("begin", "synced", "unsynced")]
    if not tally.same([what for what, _, _ in marks], ["begin"] + ["synced"] * 5 + ["unsynced"] * 2,
                      f"{system}: what was written"):
        return
    begin = marks[0][2]
    tally.same(begin, before, f"{system}: nothing was written before")
    log, lost = told(list(entries(begin)), sent, tally, system), 0
    tally.check(any(entry.flags & FUA for entry in log), f"{system}: some writes have FUA")
    for what, generation, end in marks[1:]:
        name = f"{system}, generation {generation}"
        found = left(system, name, tally, kept(log[:end - begin]))
        if what == "synced":
            tally.check(found == pattern(generation), f"{name}: what was acknowledged is there")
        else:
            lost += found != pattern(generation)
    tally.check(lost > 0, f"{system}: what was not acknowledged can be lost")
    # In the middle of what was not synced.
    _, _, end = marks[-1]
    left(system, f"{system}, a cut while it is written", tally, kept(log[:end - begin - 5]))
    at_any_time(tally, system, log, [Mark(what == "synced", generation, end - begin) for what, generation, end in marks[1:]],
                chance, cuts)
    with open(OTHER, "r+b", buffering=0) as target:
        os.pwrite(target.fileno(), b"\xa5" * 65536, 4096)
        os.fsync(target.fileno())
    tally.check(whole(system).returncode != 0, f"{system}: a file system that is not whole is noticed")
    subprocess.run(["wipefs", "-q", "-a", OTHER], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=6, metavar="N", help="that leave a part of the cache, for each file system")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of those (default: any)")
    parser.add_argument("systems", nargs="+", choices=("ext4", "xfs"), metavar="FILESYSTEM")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    tally, chance = Tally(), random.Random(options.seed)
    MOUNT.mkdir(exist_ok=True)
    for system in options.systems:
        on(tally, system, chance, options.cuts)
    return tally.finish("power_cut")


if __name__ == "__main__":
    sys.exit(main())
