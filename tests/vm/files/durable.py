#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What a power cut leaves of writes with O_DSYNC and RWF_DSYNC: each of them, from the moment on at which it ended.

usage: durable.py TARGET…, of: ext4 xfs raw. `raw` is the drive without a file system. The drive loses its cache: it
holds what came before its last flush, and what came later as FUA. QEMU's log does not know FUA, so the kernel's trace says
which commands had it. The power is cut after each entry of the log. Runs in the lab's guest (dmabuf-lab run
--writes FOLDER/writes --share FOLDER), and destroys the data on $DEV and /dev/vda. Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, field

from files.power_cut import FILE_BYTES, MOUNT, OTHER, PROGRAM, kept, left, pattern
from files.writes import DISCARD, FLUSH, FUA, SECTOR, Entry, commands, entries, logged, told, traced
from fio.harness import Tally

PIECE = 64 << 10
KEPT_BY_FUA = ("premapped-ring", "premapped-ioctl")


@dataclass
class Round:
    """One writing of all, by one datapath. ends: of each piece, how long the log was when its write had ended."""

    name: str
    durable: bool
    generation: int
    ends: list[int] = field(default_factory=list)


@dataclass
class Said:
    """What the program that wrote has said."""

    extents: list[tuple[int, int, int]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    ready: int = 0
    end: int = 0


class Cut:
    """What of the file is on the drive when the power goes: what was flushed or written through."""

    def __init__(self, extents: list[tuple[int, int, int]], fua: bool) -> None:
        """fua: whether the drive knows what that is."""
        self.extents = extents
        self.fua = fua
        self.cache = bytearray(FILE_BYTES)
        self.medium = bytearray(FILE_BYTES)

    def take(self, entry: Entry) -> None:
        """The next entry of the log."""
        if entry.flags & FLUSH:
            self.medium[:] = self.cache
        if entry.flags & DISCARD:
            return
        for place, disk, length in self.extents:
            begin, end = max(disk, entry.offset), min(disk + length, entry.offset + entry.length)
            if begin >= end:
                continue
            here = slice(place + begin - disk, place + end - disk)
            data = entry.data[begin - entry.offset:end - entry.offset] or bytes(end - begin)
            self.cache[here] = data
            if self.fua and entry.flags & FUA:
                self.medium[here] = data

    def holds(self, number: int, generation: int) -> bool:
        """Whether one piece is of a generation."""
        here = slice(number * PIECE, (number + 1) * PIECE)
        return self.medium[here] == patterns(generation)[here]

    def strange(self, number: int, allowed: range) -> bool:
        """Whether a sector of a piece is of none of these generations."""
        if any(self.holds(number, generation) for generation in allowed):
            return False
        return any(all(self.medium[at:at + SECTOR] != patterns(generation)[at:at + SECTOR] for generation in allowed)
                   for at in range(number * PIECE, (number + 1) * PIECE, SECTOR))


PATTERNS: dict[int, bytes] = {}


def patterns(generation: int) -> bytes:
    """pattern(), once for each."""
    if generation not in PATTERNS:
        PATTERNS[generation] = pattern(generation)
    return PATTERNS[generation]


def parsed(text: str) -> Said:
    """What the program said."""
    said = Said()
    for words in map(str.split, text.splitlines()):
        match words:
            case ["extent", place, disk, length]:
                said.extents.append((int(place), int(disk), int(length)))
            case ["ready", at]:
                said.ready = int(at)
            case ["way", name, kind, generation]:
                said.rounds.append(Round(name, kind == "durable", int(generation)))
            case ["piece", _, at]:
                said.rounds[-1].ends.append(int(at))
            case ["end", at]:
                said.end = int(at)
    return said


def every_cut(tally: Tally, target: str, log: list[Entry], said: Said) -> None:
    """The power goes after each entry. A piece is of what was acknowledged last with O_DSYNC, or written since."""
    cut = Cut(said.extents, fua=True)
    for entry in log[:said.ready]:
        cut.take(entry)
    tally.check(cut.medium == patterns(1), f"{target}: what was there before")
    least = [1] * (FILE_BYTES // PIECE)
    ends = sorted((end, one.generation, number, one.durable) for one in said.rounds for number, end in enumerate(one.ends))
    wrong, cuts, checked = [], 0, 0
    for count in range(said.ready, said.end + 1):
        if count > said.ready:
            cut.take(log[count - 1])
        cuts += 1
        while ends and ends[0][0] <= count:
            _, generation, number, durable = ends.pop(0)
            if durable:
                least[number] = generation
        # The next write may be under way.
        most = ends[0][1] if ends else said.rounds[-1].generation
        for number, generation in enumerate(least):
            checked += 1
            if cut.strange(number, range(generation, most + 1)):
                wrong.append(f"after {count} entries: piece {number} is none of {generation}…{most}")
    tally.check(not wrong, f"{target}: what was acknowledged with O_DSYNC is there ({cuts} cuts)", "; ".join(wrong[:3]))
    tally.check(cuts > len(said.rounds) * FILE_BYTES // PIECE, f"{target}: cuts", str(cuts))
    print(f"{target}: {cuts} cuts, {checked} pieces looked at", flush=True)


def lost(log: list[Entry], said: Said, fua: bool) -> dict[tuple[str, bool], int]:
    """Of each way, with O_DSYNC and without, how many pieces are not there when the power goes as their write ends."""
    cut = Cut(said.extents, fua)
    missed, at = {}, 0
    for one in said.rounds:
        missed[one.name, one.durable] = 0
        for number, end in enumerate(one.ends):
            for entry in log[at:end]:
                cut.take(entry)
            at = end
            missed[one.name, one.durable] += not cut.holds(number, one.generation)
    return missed


def noticed(tally: Tally, target: str, log: list[Entry], said: Said) -> None:
    """Without O_DSYNC, and by a drive that does not know FUA, something is lost: else nothing is shown here."""
    with_fua, without = lost(log, said, True), lost(log, said, False)
    for one in said.rounds:
        missed = with_fua[one.name, one.durable]
        if one.durable:
            tally.same(missed, 0, f"{target}, {one.name}: pieces that were to be durable and are lost")
        else:
            tally.check(missed > 0, f"{target}, {one.name}: without O_DSYNC a piece can be lost")
        if one.durable and one.name in KEPT_BY_FUA:
            tally.check(without[one.name, True] > 0, f"{target}, {one.name}: on a drive without FUA a piece is lost")
    print(f"{target}: lost {with_fua}, without FUA {without}", flush=True)


def mounted(tally: Tally, system: str, log: list[Entry], said: Said) -> None:
    """The file, by its file system, after cuts at the ends of what was durable."""
    MOUNT.mkdir(exist_ok=True)
    for one in said.rounds:
        if one.durable and one.name in KEPT_BY_FUA:
            name = f"{system}, {one.name}, mounted again"
            tally.check(left(system, name, tally, kept(log[:one.ends[-1]])) == patterns(one.generation),
                        f"{name}: every byte is there")
    subprocess.run(["wipefs", "-q", "-a", OTHER], check=True)


def on(tally: Tally, target: str) -> None:
    """All of it on one target."""
    begin = logged()
    with traced():
        run = subprocess.run([PROGRAM, target, "durable"], stdout=subprocess.PIPE, text=True)
        sent = commands(tally)
    sys.stdout.write("".join(line + "\n" for line in run.stdout.splitlines() if not line.startswith("piece ")))
    said = parsed(run.stdout)
    pieces = FILE_BYTES // PIECE
    if not tally.check(run.returncode == 0 and bool(said.rounds) and all(len(one.ends) == pieces for one in said.rounds)
                       and said.end > said.ready > begin, f"{target}: it is written", f"status {run.returncode}"):
        return
    said.ready, said.end = said.ready - begin, said.end - begin
    for one in said.rounds:
        one.ends = [end - begin for end in one.ends]
    log = told(list(entries(begin)), sent, tally, target)
    every_cut(tally, target, log, said)
    noticed(tally, target, log, said)
    if target != "raw":
        mounted(tally, target, log, said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", choices=("ext4", "xfs", "raw"), metavar="TARGET")
    options = parser.parse_args()
    tally = Tally()
    for target in options.targets:
        on(tally, target)
    return tally.finish("durable")


if __name__ == "__main__":
    sys.exit(main())
