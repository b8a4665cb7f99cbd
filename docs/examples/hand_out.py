#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Hands dma-bufs to fio and its like over a UNIX socket: the other side of dmabuf_exporter=fd.

usage: hand_out.py SOCKET

    hand_out.py /run/frames.sock &
    fio ... --dmabuf_exporter=fd --dmabuf_device=/run/frames.sock

make_dmabuf() stands for your program's own memory. The protocol is in docs/exporters.md.
"""

import fcntl
import os
import re
import selectors
import socket
import struct
import sys

QUESTION = re.compile(rb"libdmabuf 1 buffers=(\d+) bytes=(\d+)")
UDMABUF_CREATE = 0x40187542
PAGE = 4096
MOST_BYTES = 1 << 30


def make_dmabuf(size: int) -> int:
    """A dma-buf of a memfd's pages."""
    memfd = os.memfd_create("hand_out", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memfd, size)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with open("/dev/udmabuf", "rb+", buffering=0) as device:
            create = bytearray(struct.pack("=IIQQ", memfd, 1, 0, size))
            # A mutable argument makes ioctl() return what the call returned: the descriptor.
            dmabuf: int = fcntl.ioctl(device, UDMABUF_CREATE, create, True)
            return dmabuf
    finally:
        os.close(memfd)


def answer(peer: socket.socket, question: bytes) -> None:
    """One packet for one packet: descriptors and a text, or a text alone."""
    asked = QUESTION.fullmatch(question)
    if not asked:
        peer.send(b"no this is no question of version 1")
        return
    buffers, size = int(asked[1]), -(-int(asked[2]) // PAGE) * PAGE
    if buffers * size > MOST_BYTES:
        peer.send(b"no more than 1 GiB is not handed out at once")
        return
    dmabufs: list[int] = []
    try:
        while len(dmabufs) < buffers:
            dmabufs.append(make_dmabuf(size))
        socket.send_fds(peer, [b"ok memory of hand_out.py"], dmabufs)
    except OSError as error:
        peer.send(f"no {error}".encode())
    finally:
        # The other side has descriptors of its own now.
        for dmabuf in dmabufs:
            os.close(dmabuf)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(sys.argv[1])
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}; where nobody listens any more, remove it", file=sys.stderr)
        return 1
    os.chmod(sys.argv[1], 0o600)  # whoever may connect gets memory
    listener.listen()
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    print(f"handing out on {sys.argv[1]}", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                waiting.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            peer = key.fileobj
            assert isinstance(peer, socket.socket)
            try:
                question = peer.recv(256)
                if question:
                    answer(peer, question)
            except OSError:
                question = b""
            if not question:
                # The other side has closed: it does not use the memory any more.
                waiting.unregister(peer)
                peer.close()


if __name__ == "__main__":
    sys.exit(main())
