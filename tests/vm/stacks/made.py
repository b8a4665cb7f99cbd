# SPDX-License-Identifier: GPL-2.0-only
"""What users mount, made of the guest's scratch drives: md raid0 and LVM over two controllers, dm-crypt, btrfs, f2fs,
overlayfs, and NVMe over the loop transport and over TCP."""

import array
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fio import fabric
from fio.harness import DEV, NOT_NVME

MOUNTS = Path("/tmp/stacks")
PCI = Path("/sys/bus/pci")
RAID, GROUP = "/dev/md0", "stacks"
# <linux/blkpg.h>
BLKPG, ADD_PARTITION, DELETE_PARTITION = 0x1269, 1, 2
MIB = 1 << 20
SECTOR = 512
CHUNK_KIB = 64
# LVM's own unit, and how many of them each drive gives the volume that lies on both.
EXTENT, EXTENTS = 4 * MIB, 4
LVM = ["--config", "devices { use_devicesfile=0 hints=\"none\" }"]
# No udevd is in the guest: device-mapper's library makes the nodes itself.
ENVIRONMENT = {**os.environ, "DM_DISABLE_UDEV": "1"}


@dataclass(frozen=True)
class Stack:
    """One target. `kind`: as `targets --described` has it. `refused`: why premapped does not take it; `held`: why
    not either with the consent to hold a file still; `beneath`: what the engine says of it."""

    name: str
    kind: str
    node: str
    base: int
    refused: str
    held: str
    beneath: str = ""
    direct: bool = True
    witness: str = ""

    def line(self) -> str:
        """Its line in the file for `targets --described`."""
        how = "direct" if self.direct else "buffered"
        name = f"{self.name} {how}" if self.kind == "file" else self.name
        return "\t".join([self.kind, name, how, self.node, str(self.base), self.witness or self.node, str(self.base),
                          self.held]) + "\n"


def run(*words: str) -> str:
    """Runs a command; what it says when it fails ends the program."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode:
        raise SystemExit(f"setup: {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def partitions(disk: str, *mib: int) -> list[str]:
    """Partitions of these sizes, in MiB."""
    table = "label: gpt\n" + "".join(f"size={size}MiB\n" for size in mib)
    subprocess.run(["sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", disk], input=table, text=True,
                   check=True)
    infix = "p" if disk[-1].isdigit() else ""
    return [there(f"{disk}{infix}{number}") for number in range(1, len(mib) + 1)]


def there(node: str) -> str:
    """A device node, when it is there."""
    for _ in range(300):
        if Path(node).exists():
            return node
        time.sleep(0.1)
    raise SystemExit(f"setup: there is no {node}")


class SecondDrive:
    """The drive of --errors, where its sectors are good; it can be taken away and comes back."""

    def __init__(self) -> None:
        self.node = os.environ.get("LAB_ERRORS", "")
        if not self.node:
            raise SystemExit("setup: no second drive (dmabuf-lab run --errors)")
        self.function = Path("/sys/block", Path(self.node).name, "device/device").resolve().name

    def parts(self, *mib: int) -> list[str]:
        """Partitions of these sizes, in MiB, which no table has: no program reads the drive's bad sectors for one."""
        bad = [int(word) for name in ("LAB_BAD_READ", "LAB_BAD_WRITE") for word in os.environ[name].split()]
        start, made = max(bad) + 4096, []
        for number, size in enumerate(mib, start=1):
            self._partition(ADD_PARTITION, number, start * SECTOR, size * MIB)
            made.append(there(f"{self.node}p{number}"))
            start += size * MIB // SECTOR
        return made

    def _partition(self, what: int, number: int, start: int = 0, length: int = 0) -> None:
        """BLKPG, with a struct blkpg_partition."""
        part = array.array("B", struct.pack("@qqi132x", start, length, number))
        call = struct.pack("@iiiP", what, 0, len(part), part.buffer_info()[0])
        with open(self.node, "rb", buffering=0) as disk:
            fcntl.ioctl(disk, BLKPG, call)

    def forget(self) -> None:
        """The drive is whole again."""
        for node in sorted(Path("/dev").glob(f"{Path(self.node).name}p*")):
            self._partition(DELETE_PARTITION, int(node.name.rpartition("p")[2]))

    def remove(self) -> None:
        """Takes its PCI function away."""
        (PCI / "devices" / self.function / "remove").write_text("1")

    def come_back(self) -> None:
        """Finds the function again: the controller may have another number."""
        (PCI / "rescan").write_text("1")
        for _ in range(300):
            for place in (PCI / "devices" / self.function).glob("nvme/nvme*/nvme*n1"):
                if Path("/dev", place.name).exists():
                    self.node = f"/dev/{place.name}"
                    return
            time.sleep(0.1)
        raise SystemExit("setup: the second drive does not come back")


@contextmanager
def raid(first: str, second: str) -> Iterator[str]:
    """md raid0 of two partitions."""
    run("modprobe", "raid0")
    run("mdadm", "--create", RAID, "--run", "--level=0", "--raid-devices=2", f"--chunk={CHUNK_KIB}", first, second)
    try:
        yield RAID
    finally:
        run("mdadm", "--stop", RAID)


@contextmanager
def volumes(first: str, second: str) -> Iterator[tuple[str, str]]:
    """Two volumes of LVM: one that lies on both partitions, and one on the first alone."""
    run("modprobe", "dm-mod")
    run("wipefs", "-q", "-a", first, second)
    run("vgcreate", *LVM, "--yes", "-ff", "-s", f"{EXTENT >> 20}m", GROUP, first, second)
    part = f":0-{EXTENTS - 1}"
    run("lvcreate", *LVM, "--yes", "-Zn", "-Wn", "-n", "both", "-l", str(2 * EXTENTS), GROUP, first + part, second + part)
    run("lvcreate", *LVM, "--yes", "-Zn", "-Wn", "-n", "one", "-l", str(2 * EXTENTS), GROUP, first)
    try:
        yield f"/dev/{GROUP}/both", f"/dev/{GROUP}/one"
    finally:
        # By device-mapper, since LVM does not touch a group one of whose drives is gone.
        for name in ("both", "one"):
            run("dmsetup", "remove", f"{GROUP}-{name}")
        # LVM made its links there, and makes no group while they are there.
        shutil.rmtree(f"/dev/{GROUP}")


@contextmanager
def crypt(node: str, name: str) -> Iterator[str]:
    """dm-crypt, by its table."""
    run("modprobe", "dm-crypt")
    sectors = int(Path("/sys/class/block", Path(node).name, "size").read_text())
    key = bytes(range(64)).hex()
    run("dmsetup", "create", name, "--table", f"0 {sectors} crypt aes-xts-plain64 {key} 0 {node} 0")
    try:
        yield f"/dev/mapper/{name}"
    finally:
        run("dmsetup", "remove", name)


@contextmanager
def mounted(system: str, node: str) -> Iterator[Path]:
    """A new file system; its folder is called as the device."""
    folder = MOUNTS / Path(node).name
    folder.mkdir(parents=True, exist_ok=True)
    run(f"mkfs.{system}", "-q", "-F" if system == "ext4" else "-f", node)
    run("mount", "-t", system, node, str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


@contextmanager
def overlay(node: str) -> Iterator[tuple[Path, Path]]:
    """overlayfs on ext4, with files that the lower folder has: the merged folder, and that in which copies come up."""
    merged = MOUNTS / "overlay"
    merged.mkdir(parents=True, exist_ok=True)
    with mounted("ext4", node) as folder:
        lower, upper, work = (folder / name for name in ("lower", "upper", "work"))
        for each in (lower, upper, work):
            each.mkdir()
        for how in ("direct", "buffered"):
            (lower / how).write_bytes(b"below")
        run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", str(merged))
        try:
            yield merged, upper
        finally:
            run("umount", str(merged))


def files(name: str, folder: Path, refused: str, held: str, beneath: str = "", witness: Path | None = None) -> list[Stack]:
    """Two files of a file system: one to be opened with O_DIRECT, one through the page cache."""
    made = []
    for how in ("direct", "buffered"):
        node = folder / how
        with node.open("ab"):  # overlayfs brings its copy up now
            pass
        made.append(Stack(name, "file", str(node), 128 << 10, refused, held, beneath, how == "direct",
                          str((witness or folder) / how)))
    return made


class Stacks:
    """All of them, for the length of a scope. What lies on two drives can be made anew. transports: the ways to an
    NVMe drive that are tried, other than PCI."""

    def __init__(self, transports: tuple[str, ...]) -> None:
        self.transports = transports
        self.second = SecondDrive()
        self.scope = ExitStack()
        self.two = ExitStack()
        self.all: list[Stack] = []
        self.legs: list[str] = []

    def __enter__(self) -> "Stacks":
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes all of it down."""
        self.two.close()
        self.scope.close()

    def over_two_again(self) -> list[Stack]:
        """The same when the second drive was removed. While a volume holds its old disk, Linux takes the drive that
        comes back for a double of it."""
        self.two.close()
        self.second.come_back()
        return self._over_two()[:2]

    def _over_two(self) -> list[Stack]:
        """md raid0 and LVM on both drives; the last one is a volume for a file system."""
        legs = self.second.parts(16, 24)
        self.two.callback(self.second.forget)
        node = self.two.enter_context(raid(self.legs[0], legs[0]))
        both, one = self.two.enter_context(volumes(self.legs[1], legs[1]))
        return [Stack("md raid0", "block", node, 3 * MIB + 5 * SECTOR, "NOT_NVME", "NOT_FILE", "md raid0"),
                Stack("LVM", "block", both, EXTENTS * EXTENT - MIB + SECTOR, "NOT_NVME", "NOT_FILE", "LVM volume"),
                Stack("", "block", one, 0, "", "")]

    def _make(self) -> None:
        enter = self.scope.enter_context
        *self.legs, secret, secret_files, btrfs, f2fs, upper = partitions(DEV, 16, 64, 16, 64, 160, 128, 64)
        by_loop, by_tcp = partitions(NOT_NVME, 32, 32)
        *over_two, one = self._over_two()
        self.all += over_two
        self.all.append(Stack("dm-crypt", "block", enter(crypt(secret, "secret")), MIB + 3 * SECTOR, "NOT_NVME", "NOT_FILE",
                              "device-mapper"))
        multipath = Path("/sys/module/nvme_core/parameters/multipath").read_text().strip() == "Y"
        for transport in self.transports:
            disk = {"loop": by_loop, "tcp": by_tcp}[transport]
            self.all.append(Stack(f"nvme-{transport}", "fabric" if multipath else "block",
                                  enter(fabric.taken(disk, transport)), 4 * MIB + 3 * SECTOR,
                                  "MULTIPATH" if multipath else "NOT_NVME", "NOT_FILE",
                                  f"an NVMe namespace over {transport}" if multipath else transport, witness=disk))
        folder = enter(mounted("ext4", enter(crypt(secret_files, "files"))))
        self.all += files("ext4 on dm-crypt", folder, "NOT_BLOCK", "NOT_NVME", "device-mapper")
        self.all += files("btrfs", enter(mounted("btrfs", btrfs)), "NOT_BLOCK", "FILE_SYSTEM", "it lies on btrfs")
        # f2fs has blocks of a page, and its mkfs blocks of 4 KiB.
        if os.sysconf("SC_PAGESIZE") == 4096:
            self.all += files("f2fs", enter(mounted("f2fs", f2fs)), "NOT_BLOCK", "FILE_SYSTEM", "it lies on f2fs")
        merged, copies = enter(overlay(upper))
        self.all += files("overlayfs", merged, "NOT_BLOCK", "FILE_SYSTEM", "it lies on overlay", witness=copies)
        folder = self.two.enter_context(mounted("ext4", one.node))
        self.all += files("ext4 on LVM", folder, "NOT_BLOCK", "NOT_NVME", "it lies on ext4 on the LVM volume")
