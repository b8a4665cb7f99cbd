#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-integrity overwrites the drive that it was told by its identity, and only while nobody else
has it.

Runs in the lab's guest (dmabuf-lab run) and destroys the data on $DEV. Each use of the drive is made for
real: a mount, a mounted partition, swap, device mapper, a claim. Each must be refused by its name, and
nothing written. Exit status 0 pass, 1 fail.
"""

import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fio_harness import DEV, ENGINE, Tally, nothing_left

PROGRAM = Path(ENGINE.removeprefix("external:")).parent / "integrity/dmabuf-integrity"
NAME = Path(DEV).name
MNT = Path("/tmp/claim-mnt")
REGION = ["--offset", str(64 << 20), "--bytes", str(1 << 20)]
MARK = b"what was there before\0"
BLKBSZSET = 0x40081271


def of_drive(name: str) -> str:
    """What sysfs says of the drive."""
    return Path(f"/sys/block/{NAME}/{name}").read_text().strip()


def run(*argv: str, stdin: str = "") -> str:
    """A program that must succeed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def integrity(case: str, *words: str, fds: tuple[int, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Its exit status, and what it printed."""
    done = subprocess.run([str(PROGRAM), case, *REGION, *words], capture_output=True, text=True,
                          check=False, pass_fds=fds, timeout=60)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = {"error": f"no JSON: {done.stdout}{done.stderr}"}
    return done.returncode, said


def mark() -> None:
    """What any write to the region would destroy."""
    target = os.open(DEV, os.O_RDWR)
    os.pwrite(target, MARK, 64 << 20)
    os.fsync(target)
    os.close(target)


def whole() -> bool:
    """Is it still there? By a read past the page cache of others."""
    run("blockdev", "--flushbufs", DEV)
    with open(DEV, "rb") as file:
        file.seek(64 << 20)
        return file.read(len(MARK)) == MARK


def refused(tally: Tally, name: str, words: list[str], *says: str, case: str = "lay",
            fds: tuple[int, ...] = ()) -> None:
    """It must be, by each of the words, and leave the data as it was."""
    status, said = integrity(case, *words, fds=fds)
    tally.same(status, 2, f"{name}: exit status, {said}")
    text = str(said.get("error", ""))
    for one in says:
        tally.check(one in text, f"{name}: says {one!r}", text)
    tally.check(whole(), f"{name}: the data is there")


def works(tally: Tally, name: str, words: list[str], case: str = "lay",
          fds: tuple[int, ...] = ()) -> None:
    """It must end well; what writes has written."""
    if case == "lay":
        mark()
    status, said = integrity(case, *words, fds=fds)
    tally.same((status, said.get("findings")), (0, []), f"{name}: exit status and findings, {said}")
    if case == "lay":
        tally.check(not whole(), f"{name}: it wrote")


@contextmanager
def mounted(device: str) -> Iterator[None]:
    """A file system that is mounted, and writes nothing by itself."""
    MNT.mkdir(exist_ok=True)
    run("mount", "-o", "ro", device, str(MNT))
    try:
        yield
    finally:
        run("umount", str(MNT))


def identity(tally: Tally) -> None:
    """Without the right one nothing is written; the serial number and the wwid are right ones."""
    serial, wwid = of_drive("device/serial"), of_drive("wwid")
    mark()
    refused(tally, "none", ["--device", DEV], f"{DEV} is not overwritten", "--identity", serial)
    refused(tally, "another's", ["--device", DEV, "--identity", "S6"], f"{DEV} is not overwritten", serial)
    for case in ("read", "write", "segments", "roundtrip", "load", "geometry", "size", "close"):
        refused(tally, f"none, {case}", ["--device", DEV], "--identity", case=case)
    works(tally, "the serial number", ["--device", DEV, "--identity", serial])
    works(tally, "the wwid", ["--device", DEV, "--identity", wwid])
    works(tally, "check needs none", ["--device", DEV], case="check")
    works(tally, "probe needs none", ["--device", DEV], case="probe")
    mark()
    file = Path("/tmp/claim-file")
    file.write_bytes(bytes(80 << 20))
    refused(tally, "a file", ["--device", str(file), "--identity", serial], "no block device")
    loop = run("losetup", "--find", "--show", str(file))
    refused(tally, "a loop device", ["--device", loop, "--identity", serial], "neither serial")
    run("losetup", "--detach", loop)
    file.unlink()


def uses(tally: Tally, mine: list[str]) -> None:
    """Each use is refused with its name."""
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", DEV)
    mark()
    with mounted(DEV):
        refused(tally, "mounted", mine, f"{DEV} is in use", f"{DEV} is mounted at {MNT}")
    run("mkswap", "--force", DEV)
    mark()
    run("swapon", DEV)
    refused(tally, "swap", mine, f"{DEV} is swap space")
    run("swapoff", DEV)
    run("dmsetup", "create", "claim", "--noudevsync", "--table", f"0 2048 linear {DEV} 0")
    refused(tally, "device mapper", mine, "is held by dm-", "(claim)")
    run("dmsetup", "remove", "--noudevsync", "claim")
    run("sfdisk", "--quiet", "--wipe=always", DEV, stdin="2048,32M\n")
    part = f"{DEV}p1"
    tally.check(Path(part).exists(), "there is a partition")
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", part)
    mark()
    with mounted(part):
        refused(tally, "a mounted partition", mine, f"{part} is mounted at {MNT}")
    run("sfdisk", "--quiet", "--delete", DEV)
    run("wipefs", "--all", "--force", DEV)


def claims(tally: Tally, mine: list[str]) -> None:
    """Somebody else's claim is in the way; the claim of whoever passes a descriptor is not."""
    serial = of_drive("device/serial")
    mark()
    claim = os.open(DEV, os.O_RDWR | os.O_EXCL)
    refused(tally, "a claim", mine, f"process {os.getpid()} (", "has " + DEV + " open")
    by_path = ["--device", f"/dev/fd/{claim}", "--identity", serial]
    refused(tally, "its path", by_path, "in use", "--device-fd", fds=(claim,))
    by_fd = ["--device-fd", str(claim), "--identity", serial]
    works(tally, "its descriptor", by_fd, fds=(claim,))
    for case in ("read", "write", "close"):
        works(tally, f"its descriptor, {case}", by_fd, case=case, fds=(claim,))
    works(tally, "its descriptor, probe", by_fd[:2], case="probe", fds=(claim,))
    mark()
    other = os.open(DEV, os.O_RDONLY)
    refused(tally, "a descriptor without the claim", ["--device-fd", str(other), "--identity", serial],
            "in use", fds=(other,))
    refused(tally, "without identity", by_fd[:2], "--identity", fds=(claim,))
    refused(tally, "a closed one", ["--device-fd", "77", "--identity", serial], "descriptor 77")
    try:
        fcntl.ioctl(other, BLKBSZSET, struct.pack("q", 4096))
        tally.check(False, "the claim is still there", "another descriptor sets the block size")
    except OSError as error:
        tally.same(error.strerror, "Device or resource busy", "the claim is still there")
    os.close(claim)
    works(tally, "nobody's claim", ["--device-fd", str(other), "--identity", serial], fds=(other,))
    os.close(other)


def held(tally: Tally, mine: list[str]) -> None:
    """While it runs nobody else gets the drive."""
    with subprocess.Popen([str(PROGRAM), "load", *REGION, *mine, "--load", str(8 << 30)],
                          stdout=subprocess.DEVNULL) as load:
        busy = False
        while not busy and load.poll() is None:
            try:
                os.close(os.open(DEV, os.O_RDONLY | os.O_EXCL))
            except OSError as error:
                busy = error.strerror == "Device or resource busy"
        tally.check(busy, "it holds the drive", f"it ended with {load.poll()}")
        load.terminate()
    works(tally, "and lets go", mine)


def main() -> int:
    if not PROGRAM.is_file():
        sys.exit(f"setup: no {PROGRAM}")
    run("modprobe", "--all", "loop", "dm_mod")
    tally = Tally()
    mine = ["--device", DEV, "--identity", of_drive("device/serial")]
    with nothing_left(tally, "all of it"):
        identity(tally)
        uses(tally, mine)
        claims(tally, mine)
        held(tally, mine)
    return tally.finish("drive_claim")


if __name__ == "__main__":
    sys.exit(main())
