#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs the examples of docs/examples that use libdmabuf_rw, and looks at every byte that they moved.

usage: library.py importers FOLDER DRIVE1 DRIVE2    one dma-buf, two processes, two drives; and a drive read whole
       library.py network FOLDER                    a dma-buf sent over a pair of veth
       library.py network-refused FOLDER            the same where the kernel has no such slots

FOLDER has the built examples. Destroys data on the drives, or on $DEV. Each part spoils a byte of its own
and has to notice. Exit status 0 pass, 1 fail, 2 usage.
"""

import fcntl
import mmap
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fio.harness import DEV, Tally, nothing_left
from fio.moves import load

HALF = 8 << 20  # of two_importers.c
NETNS, NEAR, FAR = "library", "10.8.0.1", "10.8.0.2"
TESTEXP = "/dev/dmabuf_testexp"
TESTEXP_CREATE = 0xC040E801  # DMABUF_TESTEXP_IOC_CREATE, struct dmabuf_testexp_create is 64 bytes
NO_CPU, NO_PAGES = 1 << 1, 1 << 2
USED = 4 << 20  # the dma-buf of send_zc.c


def different(found: bytes, wanted: bytes) -> int:
    """How many bytes are not as they should be; a missing or additional one counts."""
    if found == wanted:
        return 0
    both = sum(a != b for a, b in zip(found, wanted, strict=False))
    return both + abs(len(found) - len(wanted))


def run(words: list[str], keep: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """An example, to its end."""
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, pass_fds=keep)


class Drive:
    """A block device, by plain pread and pwrite past the page cache."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.memory = mmap.mmap(-1, HALF)  # O_DIRECT wants it aligned

    def put(self, data: bytes, offset: int) -> None:
        """Writes up to HALF bytes of whole blocks."""
        self.memory[: len(data)] = data
        with memoryview(self.memory) as view:
            assert os.pwritev(self.fd, [view[: len(data)]], offset) == len(data)

    def get(self, size: int, offset: int) -> bytes:
        """Reads them."""
        with memoryview(self.memory) as view:
            assert os.preadv(self.fd, [view[:size]], offset) == size
        return self.memory[:size]

    def spoil(self, offset: int) -> None:
        """Changes one byte."""
        block = bytearray(self.get(4096, offset & ~4095))
        block[offset & 4095] ^= 1
        self.put(bytes(block), offset & ~4095)

    def close(self) -> None:
        """The example opens drives for itself alone."""
        os.close(self.fd)


def importers(tally: Tally, folder: Path, paths: list[str]) -> None:
    """Each drive gets what the other one has, through one dma-buf."""
    dice = random.Random(20261126)
    data = [dice.randbytes(HALF) for _ in paths]
    drives = [Drive(path) for path in paths]
    for drive, own in zip(drives, data, strict=True):
        drive.put(own, 0)
        drive.put(bytes([0xEE]) * HALF, HALF)
        drive.put(bytes([0xDD]) * 4096, 2 * HALF)
        drive.close()
    with nothing_left(tally, "importers"):
        done = run([str(folder / "example_two_importers"), *paths])
    print(done.stdout, end="", flush=True)
    tally.same(done.returncode, 0, f"importers: the example's exit status; it said {done.stderr}")
    for path in paths:
        tally.check(f"{path}: " in done.stdout, f"importers: the process of {path} says what it had", done.stdout)
    drives = [Drive(path) for path in paths]
    for number, drive in enumerate(drives):
        tally.same(different(drive.get(HALF, 0), data[number]), 0, f"importers: bytes that changed on {drive.path}")
        tally.same(different(drive.get(HALF, HALF), data[1 - number]), 0,
                   f"importers: wrong bytes of the other drive's on {drive.path}")
        tally.same(drive.get(4096, 2 * HALF), bytes([0xDD]) * 4096, f"importers: what is behind them on {drive.path}")
        drive.spoil(HALF + 5 * 1048576 + 77)
        tally.same(different(drive.get(HALF, HALF), data[1 - number]), 1, "importers: a byte that was spoilt is seen")
        drive.close()
    # In use by somebody else: nothing is touched.
    holder = os.open(paths[0], os.O_RDWR | os.O_EXCL)
    done = run([str(folder / "example_two_importers"), *paths])
    tally.check(done.returncode == 1 and "busy" in done.stderr, "importers: a drive that is in use is left alone",
                done.stderr)
    os.close(holder)


def loads(tally: Tally, folder: Path, path: str) -> None:
    """What is in the dma-buf is what is on the drive, whose bytes stay as they are."""
    mib, dice = 9, random.Random(path)
    parts = [dice.randbytes(HALF), dice.randbytes((mib << 20) - HALF)]
    drive = Drive(path)
    for part, offset in zip(parts, (0, HALF), strict=True):
        drive.put(part, offset)
    wanted = b"".join(parts)
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output"
        words = [str(folder / "example_load"), path, str(mib), str(output)]
        for spoilt in (0, 1):
            if spoilt:
                drive.spoil(HALF + 654321)
            with nothing_left(tally, f"load {path}"):
                done = run(words)
            tally.check(done.returncode == 0 and "segments" in done.stdout, f"load {path}: exit status", done.stderr)
            found = output.read_bytes()
            tally.same(different(found, wanted), spoilt, f"load {path}: wrong bytes after {spoilt} were spoilt")
        there = drive.get(HALF, 0) + drive.get((mib << 20) - HALF, HALF)
        tally.same(different(there, found), 0, f"load {path}: bytes that changed on the drive")
    drive.close()
    # The second half of the commands finds nothing.
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as short:
        short.truncate(512 << 10)
        with nothing_left(tally, "load of too little"):
            done = run([words[0], short.name, "1", "/dev/null"])
    tally.check(done.returncode == 1 and "of 262144 bytes" in done.stderr, "load: too little is said in words", done.stderr)
    tally.same(run([*words[:2], "0", "/dev/null"]).returncode, 2, "load: nothing is no size")


@contextmanager
def cable() -> Iterator[None]:
    """A network namespace at the other end of a pair of veth."""
    for words in (
        ["netns", "add", NETNS],
        ["link", "add", "to-library", "type", "veth", "peer", "name", "eth0", "netns", NETNS],
        ["addr", "add", f"{NEAR}/24", "dev", "to-library"],
        ["link", "set", "to-library", "up"],
        ["-n", NETNS, "addr", "add", f"{FAR}/24", "dev", "eth0"],
        ["-n", NETNS, "link", "set", "eth0", "up"],
    ):
        subprocess.run(["ip", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", "to-library"], check=True)
        subprocess.run(["ip", "netns", "del", NETNS], check=True)


def receive() -> int:
    """The other end: says its port, takes one connection, and prints all that comes."""
    with socket.create_server((FAR, 0)) as server:
        print(server.getsockname()[1], flush=True)
        server.settimeout(100)
        parts = []
        with server.accept()[0] as peer:
            while part := peer.recv(1 << 20):
                parts.append(part)
    # Not before the end: who reads it waits for the example first.
    sys.stdout.buffer.write(b"".join(parts))
    sys.stdout.buffer.flush()
    return 0


def sent(folder: Path, file: Path, dmabuf: int | None = None) -> tuple[subprocess.CompletedProcess[str], bytes]:
    """What the example said, and what came out at the other end."""
    argv = ["ip", "netns", "exec", NETNS, sys.executable, "-B", __file__, "--receive"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        assert other.stdout
        port = other.stdout.readline().decode().strip()
        words = [str(folder / "example_send_zc"), FAR, port, str(file)]
        done = run(words + ([str(dmabuf)] if dmabuf is not None else []), () if dmabuf is None else (dmabuf,))
        if done.returncode != 0 and "sent" not in done.stdout:
            # It may not have connected, which the other end waits for.
            hang_up(port)
        return done, other.stdout.read()


def hang_up(port: str) -> None:
    """Connects and says nothing, if anybody still listens."""
    try:
        socket.create_connection((FAR, int(port)), timeout=5).close()
    except OSError:
        pass


def file_of(place: Path, data: bytes) -> Path:
    """A file, on the medium."""
    with place.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return place


@contextmanager
def filesystem() -> Iterator[Path]:
    """ext4 on the drive."""
    subprocess.run(["mkfs.ext4", "-q", "-F", DEV, "128m"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", DEV, folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def network(tally: Tally, folder: Path) -> None:
    """Files by way of a dma-buf to the other end, byte for byte."""
    dice = random.Random(1126)
    # Less than the dma-buf, several times the dma-buf and a rest, nothing left over.
    files = {"short": dice.randbytes(777), "long": dice.randbytes(3 * USED + 12345), "whole": dice.randbytes(2 * USED)}
    with filesystem() as place:
        for name, data in files.items():
            file = file_of(place / name, data)
            with nothing_left(tally, f"network {name}"):
                done, got = sent(folder, file)
            print(done.stdout, end="", flush=True)
            tally.same(done.returncode, 0, f"network {name}: the example's exit status; it said {done.stderr}")
            tally.check(f"{len(data)} bytes sent from system memory" in done.stdout, f"network {name}: what it says",
                        done.stdout)
            tally.same(different(got, data), 0, f"network {name}: wrong bytes of {len(data)}")
        # One byte of the file is spoilt, and one is missing: both are seen.
        spoilt = bytearray(files["long"])
        spoilt[2 * USED + 4321] ^= 1
        _, got = sent(folder, file_of(place / "spoilt", bytes(spoilt)))
        tally.same(different(got, files["long"]), 1, "network: a byte that was spoilt is seen")
        _, got = sent(folder, file_of(place / "missing", files["short"][:-1]))
        tally.same(different(got, files["short"]), 1, "network: a byte that is missing is seen")
    device_memory(tally, folder)


def test_buffer(session: int, flags: int) -> int:
    """A dma-buf of the test exporter."""
    request = bytearray(struct.pack("=QQ9IIQ", USED, 7, flags, 4096, 65536, 0, 0, 0, 0, 0, 0, 0, 0))
    fcntl.ioctl(session, TESTEXP_CREATE, request)
    return int(struct.unpack_from("=I", request, 36)[0])


def device_memory(tally: Tally, folder: Path) -> None:
    """Memory without pages is refused by name, and nothing is sent; the same exporter's other memory is."""
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    data = random.Random(5).randbytes(USED)
    with tempfile.TemporaryDirectory() as place:
        file = file_of(Path(place) / "file", data)
        session = os.open(TESTEXP, os.O_RDWR)
        device = test_buffer(session, NO_CPU | NO_PAGES)
        done, got = sent(folder, file, device)
        tally.check(done.returncode == 1 and "NO_CPU_VIEW" in done.stderr and "registered" in done.stderr,
                    "device memory: refused by name", f"status {done.returncode}, {done.stderr}")
        tally.same(len(got), 0, "device memory: bytes that were sent")
        ordinary = test_buffer(session, 0)
        done, got = sent(folder, file, ordinary)
        tally.same((done.returncode, different(got, data)), (0, 0),
                   f"memory of the same exporter with pages: exit status, wrong bytes; it said {done.stderr}")
        for fd in (device, ordinary, session):
            os.close(fd)


def network_refused(tally: Tally, folder: Path) -> None:
    """A kernel that lets no module register buffers: said by name."""
    with tempfile.TemporaryDirectory() as place:
        done, got = sent(folder, file_of(Path(place) / "file", bytes(4096)))
    tally.check(done.returncode == 1 and "(KERNEL, " in done.stderr, "network: refused by name", done.stderr)
    tally.same(len(got), 0, "network: bytes that were sent")


def main() -> int:
    words = sys.argv[1:]
    if words == ["--receive"]:
        return receive()
    tally = Tally()
    match words:
        case ["importers", folder, first, second]:
            importers(tally, Path(folder), [first, second])
            for path in (first, second):
                loads(tally, Path(folder), path)
        case ["network", folder]:
            with cable():
                network(tally, Path(folder))
        case ["network-refused", folder]:
            with cable():
                network_refused(tally, Path(folder))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return tally.finish(f"library {words[0]}")


if __name__ == "__main__":
    sys.exit(main())
