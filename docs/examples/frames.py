#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Frames that a device captured into a dma-buf, read with os.read().

usage: frames.py OUTPUT    writes the frames, one after the other

open_rw() is all it takes: from then on the dma-buf is a file. udmabuf stands for the device's
exporter, so that this runs anywhere.
"""

import fcntl
import mmap
import os
import struct
import sys

FRAMES, FRAME_BYTES = 4, 320 * 240 * 2


def _ioctl_number(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


UDMABUF_CREATE = _ioctl_number(1, ord("u"), 0x42, 24)  # struct udmabuf_create
DMABUF_RW_IOC_OPEN = _ioctl_number(3, 0xE7, 0x05, 64)  # struct dmabuf_rw_open
OPEN_LAYOUT = struct.Struct("=6IQ32x")


def make_dmabuf(size: int) -> int:
    """A dma-buf of a memfd's pages."""
    memfd = os.memfd_create("example", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, size)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    device = os.open("/dev/udmabuf", os.O_RDWR | os.O_CLOEXEC)
    # A mutable argument makes ioctl() return what the call returned: the descriptor.
    create = bytearray(struct.pack("=IIQQ", memfd, 1, 0, size))
    dmabuf: int = fcntl.ioctl(device, UDMABUF_CREATE, create, True)
    os.close(device)
    os.close(memfd)
    return dmabuf


def open_rw(dmabuf: int, flags: int) -> int:
    """The dma-buf as a file; flags as for os.open()."""
    session = os.open("/dev/dmabuf_rw", os.O_RDWR | os.O_CLOEXEC)
    argument = bytearray(OPEN_LAYOUT.pack(dmabuf, flags, 0, 0, 0, 0, 0))
    try:
        fcntl.ioctl(session, DMABUF_RW_IOC_OPEN, argument, True)
    except OSError as error:
        reason = OPEN_LAYOUT.unpack(argument)[3]
        raise OSError(error.errno, f"{error.strerror}, reason {reason}") from None
    finally:
        os.close(session)
    fd: int = OPEN_LAYOUT.unpack(argument)[2]
    return fd


def pixel(frame: int, i: int) -> int:
    """Stands for the device: what byte i of a frame is."""
    return (frame * 131 + i * 7 + (i >> 8) * 3) & 0xFF


def capture(dmabuf: int, size: int) -> None:
    """Stands for the camera, which would do this by DMA."""
    with mmap.mmap(dmabuf, size) as memory:
        for frame in range(FRAMES):
            at = frame * FRAME_BYTES
            memory[at : at + FRAME_BYTES] = bytes(pixel(frame, i) for i in range(FRAME_BYTES))


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    size = -(-FRAMES * FRAME_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
    dmabuf = make_dmabuf(size)
    rw = open_rw(dmabuf, os.O_RDONLY | os.O_CLOEXEC)
    capture(dmabuf, size)
    with open(sys.argv[1], "wb") as output:
        for _ in range(FRAMES):
            output.write(os.read(rw, FRAME_BYTES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
