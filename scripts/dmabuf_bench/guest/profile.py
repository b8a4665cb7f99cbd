#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The guest's half of dmabuf-bench profile: where the CPU is while a plan is measured.

usage: profile.py PROGRAM PLAN REPEATS

Takes the instruction pointer every 10 µs of the CPU's clock: with -icount every 5000 instructions.
Prints a line of JSON: how many samples each function of the kernel got, and user space as a whole.
Code that runs with interrupts off is seen where it lets them in again.

Needs only the standard library.
"""

import bisect
import collections
import ctypes
import json
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

PERF_EVENT_OPEN = 298  # the system call's number on x86-64
TYPE_SOFTWARE, CPU_CLOCK, SAMPLE_IP = 1, 0, 1
PERIOD_NS = 10000  # the shortest the kernel takes
RECORD_SAMPLE, RECORD_LOST = 9, 2
PAGES = 4096  # of the ring of samples
DATA_HEAD, DATA_TAIL = 1024, 1032  # offsets in its first page


def open_sampler() -> int:
    """A file descriptor of a sampler of CPU 0; not yet counting anything but all tasks."""
    attr = struct.pack(
        "=IIQQQQQIIQ", TYPE_SOFTWARE, 112, CPU_CLOCK, PERIOD_NS, SAMPLE_IP, 0, 0, 0, 0, 0
    ).ljust(112, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(PERF_EVENT_OPEN, attr, -1, 0, -1, 8)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return int(fd)


def samples(ring: mmap.mmap) -> list[int]:
    """The instruction pointers in the ring; OSError when some were lost."""
    size = PAGES * mmap.PAGESIZE
    head = struct.unpack_from("=Q", ring, DATA_HEAD)[0]
    tail = struct.unpack_from("=Q", ring, DATA_TAIL)[0]
    data = ring[mmap.PAGESIZE :]
    found = []
    while tail < head:
        kind, _, length = struct.unpack_from("=IHH", data, tail % size)
        if kind == RECORD_SAMPLE:
            found.append(struct.unpack_from("=Q", data, (tail + 8) % size)[0])
        elif kind == RECORD_LOST:
            raise OSError("the ring of samples was too small")
        tail += length
    return found


class Symbols:
    """Functions of the kernel and its modules by address."""

    def __init__(self) -> None:
        rows = []
        for line in Path("/proc/kallsyms").read_text().splitlines():
            address, kind, name, *module = line.split()
            if kind in "tTwW":
                rows.append((int(address, 16), " ".join([name, *module])))
        rows.sort()
        self.addresses = [row[0] for row in rows]
        self.names = [row[1] for row in rows]

    def name(self, address: int) -> str:
        """The function at an address."""
        if address < 1 << 63:
            return "user space"
        return self.names[bisect.bisect_right(self.addresses, address) - 1]


def main() -> int:
    """Exit status of the program."""
    fd = open_sampler()
    ring = mmap.mmap(fd, (PAGES + 1) * mmap.PAGESIZE)
    status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
    os.close(fd)
    found = samples(ring)
    symbols = Symbols()
    counts = collections.Counter(symbols.name(address) for address in found)
    print(json.dumps({"samples": len(found), "functions": dict(counts.most_common(60))}))
    return status


if __name__ == "__main__":
    sys.exit(main())
