#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The guard of drives on real NVMe namespaces, one of them by two names.

Runs in the lab's guest (dmabuf-lab run --paths 2 --append nvme_core.multipath=N) and destroys the data on $DEV. Each
use of the drive is made for real: mounts, swap, device mapper, RAID, a loop device. Each must be
refused before the first byte, and what was there must be whole afterwards. With the argument `head` (dmabuf-lab
run --paths 2) the drive is a multipath head, which loses its paths one by one. Exit status 0 pass, 1 fail.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fio.harness import DEV, Tally, engine, need_engine, nothing_left

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
sys.path.insert(0, str(SCRIPTS))
# pylint: disable=wrong-import-position
from dmabuf_common import drive_guard  # noqa: E402
from dmabuf_common.drive_guard import Demand, Gone, Refused  # noqa: E402
from dmabuf_qual import tools  # noqa: E402

OTHER = "/dev/nvme1n1"
S = Demand(serial="lab-nvme")
AGAIN = f"{OTHER}, the same namespace as {DEV}, "
MNT = Path("/tmp/mnt")


def run(*argv: str, stdin: str = "") -> str:
    """A program that must succeed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def flush() -> None:
    """What is in memory goes to the drive, and is forgotten by both names."""
    os.sync()
    for path in filter(os.path.exists, (DEV, OTHER)):
        run("blockdev", "--flushbufs", path)


def content() -> str:
    """A digest of the first 80 MiB of the namespace, past the page cache."""
    flush()
    with open(DEV, "rb") as file:
        return hashlib.sha256(file.read(80 << 20)).hexdigest()


def blank() -> None:
    """Nothing on the drive that anything could take for something."""
    run("wipefs", "--all", "--force", DEV)
    run("sh", "-c", f"head -c 8388608 /dev/zero > {DEV}")
    flush()


def refused(tally: Tally, name: str, says: str, consent: tuple[str, ...] = ()) -> None:
    """It must be, with this reason, and nothing written."""
    before = content()
    try:
        drive_guard.claim(DEV, S, consent).close()
        tally.check(False, name, "it was not refused")
    except Refused as error:
        tally.check(says in str(error), name, f"the reason is: {error}")
    tally.same(content(), before, f"{name}: the data")


@contextmanager
def mounted(device: str) -> Iterator[None]:
    """A file system that is mounted."""
    MNT.mkdir(exist_ok=True)
    run("mount", "-o", "noatime", device, str(MNT))
    try:
        yield
    finally:
        run("umount", str(MNT))


def identity(tally: Tally) -> None:
    """What the drive says of itself, and that the other name is known for the same."""
    with drive_guard.observe(DEV) as guard:
        found = guard.identity
        tally.same((found.serial, found.nsid, found.nqn != ""), ("lab-nvme", "1", True), "identity")
    with drive_guard.observe(OTHER) as other:
        tally.check(found.same_namespace(other.identity), "the other name",
                    f"{found} and {other.identity}")
    blank()
    with drive_guard.claim(DEV, S) as guard:
        guard.check()
        for path in (DEV, OTHER):
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
                tally.check(False, f"{path} is held", "somebody else could claim it")
            except OSError as error:
                tally.same(error.strerror, "Device or resource busy", f"{path} is held")
    for demand in (Demand(), Demand("lab-other"), Demand("lab-nvme", nsid="2"), Demand("lab-nvme", "eui.1")):
        try:
            drive_guard.claim(DEV, demand).close()
            tally.check(False, f"{demand}", "was taken")
        except Refused:
            tally.check(True, f"{demand}")


def make_ext4(path: str) -> None:
    """A file system that writes nothing by itself once it is mounted."""
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)


def file_systems(tally: Tally) -> None:
    """Mounted by the one name and by the other, whole and in a partition; and not mounted."""
    make_ext4(DEV)
    refused(tally, "ext4", f"{DEV} holds ext4")
    refused(tally, "ext4, the wrong consent", f"{DEV} holds ext4", ("xfs",))
    with mounted(DEV):
        (MNT / "file").write_text("data")
        refused(tally, "mounted", f"{DEV} is mounted at {MNT}", ("ext4",))
    with mounted(OTHER):
        tally.same((MNT / "file").read_text(), "data", "the file by the other name")
        refused(tally, "mounted by the other name", f"{AGAIN}is mounted at {MNT}", ("ext4",))
    with drive_guard.claim(DEV, S, ("ext4",)):
        for path in (DEV, OTHER):
            done = subprocess.run(["mount", path, str(MNT)], capture_output=True, check=False)
            tally.check(done.returncode != 0, f"{path} is mounted while it is held", "it was")
    blank()
    run("sfdisk", "--quiet", DEV, stdin="label: gpt\nsize=32M\nsize=32M\n")
    refused(tally, "gpt", f"{DEV} holds gpt")
    make_ext4(f"{DEV}p2")
    refused(tally, "a partition's ext4", f"{DEV}p2 holds ext4", ("gpt",))
    with mounted(f"{DEV}p2"):
        refused(tally, "a mounted partition", f"{DEV}p2 is mounted at {MNT}", ("gpt", "ext4"))
        with drive_guard.claim(f"{DEV}p1", S) as guard:
            guard.check()
        tally.check(True, "the partition beside it")
    run("blockdev", "--rereadpt", OTHER)
    with mounted(f"{OTHER}p2"):
        refused(tally, "a partition mounted by the other name",
                f"{OTHER}p2, the same namespace as {DEV}, is mounted", ("gpt", "ext4"))
    drive_guard.claim(DEV, S, ("gpt", "ext4")).close()
    blank()
    for path in (DEV, OTHER):
        run("blockdev", "--rereadpt", path)


def users(tally: Tally) -> None:
    """Swap, device mapper, RAID, loop device, the NVMe target, a program that writes."""
    run("mkswap", OTHER)
    refused(tally, "swap signature", f"{DEV} holds swap")
    run("swapon", OTHER)
    refused(tally, "swap by the other name", f"{AGAIN}is swap space", ("swap",))
    run("swapoff", OTHER)
    blank()
    for path, words in ((DEV, f"{DEV} "), (OTHER, AGAIN)):
        run("modprobe", "--all", "dm-mod", "loop")
        run("dmsetup", "create", "guarded", "--uuid", "LVM-x", "--table", f"0 8192 linear {path} 0")
        refused(tally, f"device mapper on {path}", f"{words}is held by dm-0 (guarded; LVM, by device mapper)")
        run("dmsetup", "remove", "guarded")
        loop = run("losetup", "--find", "--show", path)
        refused(tally, f"{loop} on {path}", f"{words}is behind the loop device {Path(loop).name}")
        run("losetup", "--detach", loop)
        with raid(path):
            refused(tally, f"RAID on {path}", f"{words}is held by md_{Path(path).name} (a RAID, raid1)")
    with target(DEV):
        refused(tally, "exported", f"{DEV} is exported by the NVMe target as namespace 1 of guarded")
    drive_guard.claim(DEV, S).close()


@contextmanager
def raid(path: str) -> Iterator[None]:
    """An active RAID of one drive, made by sysfs, for there is no mdadm."""
    run("modprobe", "raid1")
    # One of its own for each: the kernel takes its time to forget an array.
    array = f"md_{Path(path).name}"
    Path("/sys/module/md_mod/parameters/new_array").write_text(array)
    md = Path(f"/sys/block/{array}/md")
    number = Path(f"/sys/class/block/{Path(path).name}/dev").read_text().strip()
    for name, text in (("metadata_version", "none"), ("level", "raid1"), ("raid_disks", "1"),
                       ("new_dev", number), (f"dev-{Path(path).name}/slot", "0"),
                       (f"dev-{Path(path).name}/size", "8192"), ("component_size", "8192"),
                       ("array_state", "active")):
        (md / name).write_text(text)
    try:
        yield
    finally:
        (md / "array_state").write_text("clear")


@contextmanager
def target(path: str) -> Iterator[None]:
    """The drive exported as NVMe over fabrics."""
    run("modprobe", "nvmet")
    top = Path("/sys/kernel/config")
    if not (top / "nvmet").exists():
        run("mount", "-t", "configfs", "none", str(top))
    subsystem = top / "nvmet/subsystems/guarded"
    space = subsystem / "namespaces/1"
    subsystem.mkdir()
    space.mkdir()
    (space / "device_path").write_text(path)
    (space / "enable").write_text("1")
    try:
        yield
    finally:
        (space / "enable").write_text("0")
        space.rmdir()
        subsystem.rmdir()


def children(tally: Tally) -> None:
    """fio on every datapath and dmabuf-integrity use the descriptor, although it is held."""
    have = tools.find()
    blank()
    with drive_guard.claim(DEV, S) as guard:
        # The children of this program inherit it whoever starts them.
        os.set_inheritable(guard.descriptor, True)
        for datapath in ("premapped", "registered", "bvec", "host"):
            exporter = [] if datapath == "host" else ["--dmabuf_exporter=udmabuf"]
            done = child_fio(guard, [*engine(exporter, datapath), "--name=held", "--direct=1",
                                     f"--filename={guard.child_path}", "--rw=randwrite", "--bs=16k",
                                     "--iodepth=8", "--size=8m", "--verify=crc32c"])
            tally.check(done == 0, f"fio, {datapath}", f"status {done}")
            guard.check()
        argv = [have.integrity, "write", "--device-fd", str(guard.descriptor), "--bytes", str(1 << 20)]
        said = subprocess.run(argv, capture_output=True, text=True, check=False,
                              pass_fds=guard.pass_fds)
        tally.check(said.returncode == 0, "dmabuf-integrity", said.stdout + said.stderr)


def child_fio(guard: drive_guard.Guard, words: list[str]) -> int:
    """fio with the descriptor passed on."""
    argv = ["fio", "--output-format=json", "--output=/tmp/fio.json"]
    argv += [word.replace("REPORT", "/tmp/report.json") for word in words]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, pass_fds=guard.pass_fds)
    if done.returncode:
        print(done.stderr[-600:], flush=True)
    return done.returncode


def wait(condition: Callable[[], bool]) -> bool:
    """Looks until it holds, for a minute."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def gone(tally: Tally) -> None:
    """Both controllers are removed and come back; the run has ended, whatever has the name."""
    blank()
    guard = drive_guard.claim(DEV, S)
    functions = [Path(f"/sys/block/{name}/device/device").resolve() for name in ("nvme0n1", "nvme1n1")]
    first = Path(f"/sys/dev/block/{guard.identity.node.number}")
    guard.check()
    (functions[0] / "remove").write_text("1")
    tally.check(wait(lambda: not first.exists()), "the drive is gone from sysfs")
    ended(tally, guard, "the drive went away")
    Path("/sys/bus/pci/rescan").write_text("1")
    tally.check(wait(lambda: len(list(Path("/sys/block").glob("nvme*n1"))) == 2), "it comes back")
    names = {path.name: path.read_text() for path in Path("/sys/block").glob("nvme*n1/dev")}
    tally.check(guard.identity.node.number not in names.values(),
                "its number is nobody's while it is held", f"{names}")
    ended(tally, guard, "the drive went away")
    try:
        os.close(os.open(guard.child_path, os.O_RDWR))
        tally.check(False, "the descriptor opened again", "it led to something")
    except OSError as error:
        tally.check(True, f"the descriptor opened again: {error.strerror}")
    guard.close()


def head(tally: Tally) -> None:
    """A path below a multipath head is no name of its own, and the head lives as long as one does."""
    hidden = sorted(path.name for path in Path("/sys/block").glob("nvme0c*n1"))
    tally.same(len(hidden), 2, "hidden paths")
    blank()
    guard = drive_guard.claim(DEV, S)
    gone_node = Path(f"/sys/dev/block/{guard.identity.node.number}")
    functions = [Path(f"/sys/block/{name}/device/device").resolve() for name in hidden]
    for left, function in ((1, functions[0]), (0, functions[1])):
        guard.check()
        (function / "remove").write_text("1")
        there = wait(lambda left=left: len(list(Path("/sys/block").glob("nvme0c*n1"))) == left)
        tally.check(there, f"{left} paths are left")
    tally.check(wait(lambda: not gone_node.exists()), "the head is gone from sysfs")
    ended(tally, guard, "the drive went away")
    guard.close()


def ended(tally: Tally, guard: drive_guard.Guard, says: str) -> None:
    """The guard must say so."""
    try:
        guard.check()
        tally.check(False, says, "the guard holds it for the same drive")
    except Gone as error:
        tally.check(says in str(error), says, str(error))


def main() -> int:
    """All parts."""
    need_engine()
    tally = Tally()
    with nothing_left(tally, "drive_guard"):
        parts = (children, head) if "head" in sys.argv else (identity, file_systems, users, children, gone)
        for part in parts:
            part(tally)
    return tally.finish("drive_guard")


if __name__ == "__main__":
    sys.exit(main())
