#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Looks at the dma-buf that a running fio job reads and writes as a file, from another process.

fio's exec_prerun and exec_postrun start it. It takes the dma-buf from the fio job above it
(pidfd_getfd) and goes at it by mmap alone, so what it says does not depend on the engine, nor on
the module. A memfd that stands in for a dma-buf will do.

    buffer_witness.py fill HEX       every byte of every dma-buf becomes this pattern
    buffer_witness.py check HEX      fails unless that is what they hold
    buffer_witness.py damage OFFSET  one byte of the first dma-buf changes

The job fails with it before the run; after the run fio does not care, and its last line says it.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYS_PIDFD_GETFD = 438
DMA_BUF_IOCTL_SYNC = 0x40086200
SYNC_RW, SYNC_END = 3, 4


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def dmabufs_of(pid: int) -> dict[int, str]:
    """Descriptors of a process that are dma-bufs, one for each of them, with what they are."""
    found: dict[tuple[int, int], tuple[int, str]] = {}
    for entry in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda path: int(path.name)):
        link = os.readlink(entry)
        if link.startswith(("/dmabuf:", "/memfd:libdmabuf")):
            info = os.stat(entry)
            found.setdefault((info.st_dev, info.st_ino), (int(entry.name), link))
    return dict(found.values())


def fetch() -> list[tuple[int, bool]]:
    """The dma-bufs of the nearest process above this one that has any, and which are real."""
    pid = os.getppid()
    while pid > 1 and not dmabufs_of(pid):
        pid = parent(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    fetched = []
    for number, link in dmabufs_of(pid).items():
        fd = libc.syscall(SYS_PIDFD_GETFD, process, number, 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"pidfd_getfd {number} of {pid}")
        fetched.append((fd, link.startswith("/dmabuf:")))
    return fetched


@contextmanager
def view(fd: int, real: bool) -> Iterator[mmap.mmap]:
    """The CPU's view of a dma-buf, open for reading and writing."""
    size = os.lseek(fd, 0, os.SEEK_END)
    with mmap.mmap(fd, size) as memory:
        if real:
            fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, struct.pack("=Q", SYNC_RW))
        yield memory
        if real:
            fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, struct.pack("=Q", SYNC_RW | SYNC_END))


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("fill", "check", "damage"):
        print(__doc__, file=sys.stderr)
        return 2
    action, word = sys.argv[1:]
    buffers = fetch()
    total = 0
    for fd, real in buffers:
        with view(fd, real) as memory:
            total += len(memory)
            if action == "damage":
                memory[int(word)] ^= 1
                break
            pattern = bytes.fromhex(word)
            wanted = (pattern * (len(memory) // len(pattern) + 1))[:len(memory)]
            if action == "fill":
                memory[:] = wanted
            elif memory[:] != wanted:
                first = next(i for i, byte in enumerate(wanted) if memory[i] != byte)
                print(f"witness: WRONG at byte {first} of {len(memory)}")
                return 1
    print(f"witness: {action} {len(buffers)} dma-bufs, {total} bytes")
    return 0 if buffers else 1


if __name__ == "__main__":
    sys.exit(main())
