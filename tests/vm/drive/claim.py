#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-integrity, run by hand, overwrites the drive that it was told, and only one that is free and empty.

Runs in the lab's guest (dmabuf-lab run --paths 2 --append nvme_core.multipath=N), where one namespace has two
names, and destroys the data on it. Each use of the drive is made for real, by both names. Each must be refused by
its name, nothing written, and what was on the drive whole afterwards. Exit status 0 pass, 1 fail.
"""

import fcntl
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from drive.guard import AGAIN, MNT, OTHER, blank, flush, make_ext4, mounted, raid, run
from fio.harness import DEV, ENGINE, Tally, nothing_left
from fio.moves import load

PROGRAM = Path(ENGINE.removeprefix("external:")).parent / "integrity/dmabuf-integrity"
NAME = Path(DEV).name
MINE = ["--device", DEV, "--serial", "lab-nvme"]
GUARD = str(Path(__file__).resolve().parents[3] / "scripts/dmabuf-guard")
WRITING = ("lay", "read", "write", "segments", "roundtrip", "load", "geometry", "size", "close", "liar", "fence",
           "invalidate", "revoke")
REGION = ["--offset", str(64 << 20), "--bytes", str(1 << 20)]
MARK = b"what was there before\0"
BLKBSZSET = 0x40081271


def of_drive(name: str) -> str:
    """What sysfs says of the drive."""
    return Path(f"/sys/block/{NAME}/{name}").read_text().strip()


def integrity(case: str, *words: str, fds: tuple[int, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Its exit status, and what it printed; of a refusal of the guard, as "error", what that said."""
    done = subprocess.run([str(PROGRAM), case, *REGION, *words], capture_output=True, text=True,
                          check=False, pass_fds=fds, timeout=60)
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = {"error": done.stderr}
    return done.returncode, said


def mark() -> None:
    """What any write to the region would destroy."""
    target = os.open(DEV, os.O_RDWR)
    os.pwrite(target, MARK, 64 << 20)
    os.fsync(target)
    os.close(target)


def content() -> bytes:
    """What a file system begins with, and the region of a case with what is behind it, past the page cache."""
    flush()
    with open(DEV, "rb") as file:
        head = file.read(8 << 20)
        file.seek(64 << 20)
        return head + file.read(2 << 20)


def whole() -> bool:
    """Is the mark still there?"""
    return content()[8 << 20 :].startswith(MARK)


def refused(tally: Tally, name: str, words: list[str], *says: str, case: str = "lay",
            fds: tuple[int, ...] = ()) -> None:
    """It must be, by each of the words, and leave all data as it was."""
    before = content()
    status, said = integrity(case, *words, fds=fds)
    tally.same(status, 2, f"{name}: exit status, {said}")
    text = str(said.get("error", ""))
    for one in says:
        tally.check(one in text, f"{name}: says {one!r}", text)
    tally.check(content() == before, f"{name}: the data")


def works(tally: Tally, name: str, words: list[str], case: str = "lay",
          fds: tuple[int, ...] = ()) -> None:
    """It must end well; what writes has written."""
    if case == "lay":
        mark()
    status, said = integrity(case, *words, fds=fds)
    tally.same((status, said.get("findings")), (0, []), f"{name}: exit status and findings, {said}")
    if case == "lay":
        tally.check(not whole(), f"{name}: it wrote")


def identity(tally: Tally) -> None:
    """Without the right one nothing is written."""
    blank()
    refused(tally, "none", ["--device", DEV], f"{DEV} is not overwritten", "give its serial number, lab-nvme")
    refused(tally, "another's", ["--device", DEV, "--serial", "S6"], f"{DEV} is not overwritten", "not S6")
    refused(tally, "another namespace", [*MINE, "--nsid", "2"], "its namespace id is 1, not 2", case="write")
    works(tally, "the serial number", MINE)
    works(tally, "the wwid besides", [*MINE, "--wwid", of_drive("wwid")])
    works(tally, "check needs none", ["--device", DEV], case="check")
    works(tally, "probe needs none", ["--device", DEV], case="probe")
    refused(tally, "another's, for reading", ["--device", DEV, "--serial", "S6"], f"{DEV} is not measured", case="check")
    works(tally, "its own, for reading", MINE, case="check")
    file = Path("/tmp/claim-file")
    file.write_bytes(bytes(80 << 20))
    refused(tally, "a file", ["--device", str(file), "--serial", "lab-nvme"], "no block device")
    loop = run("losetup", "--find", "--show", str(file))
    refused(tally, "a loop device", ["--device", loop, "--serial", "lab-nvme"], "it has no serial number")
    run("losetup", "--detach", loop)
    file.unlink()


def signed(tally: Tally) -> None:
    """What is on it, although nothing uses it: whole, and in a partition."""
    make_ext4(DEV)
    with mounted(DEV):
        (MNT / "file").write_text("data")
    refused(tally, "a file system", MINE, f"{DEV} holds ext4", "--overwrite-signature ext4")
    refused(tally, "another consent", [*MINE, "--overwrite-signature", "xfs"], f"{DEV} holds ext4")
    with mounted(DEV):
        tally.same((MNT / "file").read_text(), "data", "the file system is whole")
    works(tally, "a file system that may be lost", [*MINE, "--overwrite-signature", "ext4"])
    blank()
    run("sfdisk", "--quiet", DEV, stdin="label: gpt\nsize=32M\nsize=32M\n")
    make_ext4(f"{DEV}p2")
    refused(tally, "a partition's file system", [*MINE, "--overwrite-signature", "gpt"], f"{DEV}p2 holds ext4")
    with mounted(f"{DEV}p2"):
        refused(tally, "a mounted partition", MINE, f"{DEV}p2 is mounted at {MNT}")
    run("blockdev", "--rereadpt", OTHER)
    with mounted(f"{OTHER}p2"):
        refused(tally, "a partition mounted by the other name", MINE,
                f"{OTHER}p2, the same namespace as {DEV}, is mounted")
    blank()
    for path in (DEV, OTHER):
        run("blockdev", "--rereadpt", path)


def uses(tally: Tally) -> None:
    """Each use is refused with its name, by the name of the drive that it has."""
    make_ext4(DEV)
    for path, says in ((DEV, f"{DEV} is mounted at {MNT}"), (OTHER, f"{AGAIN}is mounted at {MNT}")):
        with mounted(path):
            refused(tally, f"{path} is mounted", [*MINE, "--overwrite-signature", "ext4"], says)
    run("mkswap", OTHER)
    run("swapon", OTHER)
    refused(tally, "swap by the other name", MINE, f"{AGAIN}is swap space")
    run("swapoff", OTHER)
    blank()
    run("dmsetup", "create", "claim", "--noudevsync", "--table", f"0 2048 linear {OTHER} 0")
    refused(tally, "device mapper", MINE, f"{AGAIN}is held by dm-", "(claim; ")
    run("dmsetup", "remove", "--noudevsync", "claim")
    with raid(DEV):
        refused(tally, "a RAID", MINE, f"{DEV} is held by md_{NAME} (a RAID, raid1)")
    loop = run("losetup", "--find", "--show", DEV)
    refused(tally, "a loop device upon it", MINE, f"{DEV} is behind the loop device {Path(loop).name}")
    run("losetup", "--detach", loop)
    for path, says in ((DEV, f"{DEV} is open for writing in process {os.getpid()} ("),
                       (OTHER, f"{AGAIN}is open for writing in process {os.getpid()} (")):
        held = os.open(path, os.O_RDWR)
        refused(tally, f"{path} is open in a program", MINE, says)
        os.close(held)
    claim = os.open(OTHER, os.O_RDONLY | os.O_EXCL)
    refused(tally, "a claim by the other name", MINE, f"{AGAIN}is claimed by something")
    os.close(claim)
    works(tally, "when all is over", MINE)


def descriptors(tally: Tally) -> None:
    """The claim of whoever passes a descriptor counts; nobody else's does, and none is none."""
    mark()
    claim = os.open(DEV, os.O_RDWR | os.O_EXCL)
    by_path = ["--device", f"/dev/fd/{claim}", "--serial", "lab-nvme"]
    refused(tally, "its path", by_path, "is open for writing in process", fds=(claim,))
    by_fd = ["--device-fd", str(claim)]
    for case in ("lay", "read", "write", "close", "probe"):
        works(tally, f"its descriptor, {case}", by_fd, case=case, fds=(claim,))
    mark()
    other = os.open(DEV, os.O_RDONLY)
    refused(tally, "a descriptor without the claim", ["--device-fd", str(other)], "somebody else claims", fds=(other,))
    refused(tally, "a closed one", ["--device-fd", "77"], "descriptor 77")
    refused(tally, "options for the guard", [*by_fd, "--serial", "lab-nvme"], "go with --device", fds=(claim,))
    try:
        fcntl.ioctl(other, BLKBSZSET, struct.pack("q", 4096))
        tally.check(False, "the claim is still there", "another descriptor sets the block size")
    except OSError as error:
        tally.same(error.strerror, "Device or resource busy", "the claim is still there")
    os.close(claim)
    # As a shell would pass it.
    writable = os.open(DEV, os.O_RDWR)
    before = content()
    for case in WRITING:
        status, said = integrity(case, "--device-fd", str(writable), fds=(writable,))
        tally.check(status == 2 and "does not claim its drive" in said.get("error", ""),
                    f"{case}: a descriptor that claims nothing", f"{status}: {said}")
    tally.check(content() == before, "a descriptor that claims nothing: the data")
    for fd in (writable, other):
        os.close(fd)


def held(tally: Tally) -> None:
    """While it runs nobody else gets the drive, by no name. So does what dmabuf-guard starts."""
    def claimed(path: str) -> bool:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
        except OSError as error:
            return error.strerror == "Device or resource busy"
        return False

    with subprocess.Popen([str(PROGRAM), "load", *REGION, *MINE, "--load", str(8 << 30)],
                          stdout=subprocess.DEVNULL) as load:
        busy = False
        while not busy and load.poll() is None:
            busy = claimed(DEV) and claimed(OTHER)
            # To ask is to claim it for a moment.
            time.sleep(0.02)
        tally.check(busy, "it holds the drive by both names", f"it ended with {load.poll()}")
        load.terminate()
    works(tally, "and lets go", MINE)
    mark()
    fio = ["fio", "--name=g", "--filename={path}", "--rw=write", "--bs=64k", "--offset=64m", "--size=1m", "--direct=1"]
    done = subprocess.run([GUARD, "--serial", "lab-nvme", DEV, "--", *fio], capture_output=True, text=True, check=False)
    tally.same((done.returncode, whole()), (0, False), f"fio by dmabuf-guard: status, untouched, {done.stderr}")


def main() -> int:
    if not PROGRAM.is_file():
        sys.exit(f"setup: no {PROGRAM}")
    run("modprobe", "--all", "loop", "dm_mod")
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    tally = Tally()
    with nothing_left(tally, "all of it"):
        for part in (identity, signed, uses, descriptors, held):
            begin = time.monotonic()
            part(tally)
            print(f"      {part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
    return tally.finish("drive_claim")


if __name__ == "__main__":
    sys.exit(main())
