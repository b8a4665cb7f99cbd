# SPDX-License-Identifier: GPL-2.0-only
"""The guard on block devices of the kernel: loop devices that sysfs, here, calls NVMe drives. It needs
root and free loop devices, and is skipped without."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from drives import Machine

from dmabuf_common import drive_users
from dmabuf_common.drive_devices import Devices
from dmabuf_common.drive_guard import Demand, Gone, Guard, Refused, claim
from dmabuf_common.drive_signatures import CannotLook, find
from dmabuf_common.sysfs import System

HOLD = "import os, sys; os.open(sys.argv[1], int(sys.argv[2])); print(flush=True); sys.stdin.read()"


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def needs_sight() -> None:
    """Skips where the guard refuses every drive, since it could not see who uses it."""
    blind = drive_users.unseen(System())
    if blind:
        pytest.skip(blind[0])


class Loops:
    """Loop devices of this test, and a machine on which they are drives with an identity."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.system = System(root)
        self.devices: list[str] = []
        (root / "dev").mkdir()
        (root / "proc").symlink_to("/proc")

    def add(self, serial: str, wwid: str, file: str | None = None) -> str:
        """A new drive of 64 MiB; its name, /dev/nvmeNn1 on that machine."""
        path = self.root / (file or f"file{len(self.devices)}")
        if not path.exists():
            path.touch()
            os.truncate(path, images.SIZE)
        device = run("losetup", "--find", "--show", str(path))
        name = f"nvme{len(self.devices)}n1"
        self.devices.append(device)
        state = os.stat(device)
        number = f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}"
        folder = self.root / "sys/devices" / name
        (folder / "device").mkdir(parents=True)
        (folder / "device/serial").write_text(serial)
        real = Path(f"/sys/dev/block/{number}")
        for key, text in (("wwid", wwid), ("dev", number), ("ro", "0"),
                          ("diskseq", System().read(f"{real}/diskseq")),
                          ("size", str(images.SIZE // 512))):
            (folder / key).write_text(text)
        for place in (f"block/{name}", f"class/block/{name}", f"dev/block/{number}"):
            link = self.root / "sys" / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)
        (self.root / "dev" / name).symlink_to(device)
        return f"/dev/{name}"

    def claim(self, path: str, serial: str = "S1", *consent: str) -> Guard:
        needs_sight()
        return claim(path, Demand(serial), consent, self.system)

    def refusal(self, path: str, serial: str = "S1") -> str:
        with pytest.raises(Refused) as caught:
            self.claim(path, serial).close()
        return str(caught.value)

    def content(self, index: int) -> bytes:
        return (self.root / f"file{index}").read_bytes()


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[Loops]:
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    try:
        (tmp_path / "probe").write_bytes(bytes(images.MIB))
        run("losetup", "--detach", run("losetup", "--find", "--show", str(tmp_path / "probe")))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device can be had: {error}")
    made = Loops(tmp_path)
    yield made
    for device in made.devices:
        subprocess.run(["losetup", "--detach", device], check=False)


@pytest.fixture
def mounted(loops: Loops, tmp_path: Path) -> Iterator[tuple[Loops, str, Path]]:
    """A drive with an ext4 that is mounted by a node of another name."""
    path = loops.add("S1", "eui.1")
    mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if mkfs is None:
        pytest.skip("mkfs.ext4 is not installed")
    run(mkfs, "-q", loops.devices[0])
    node = tmp_path / "another name"
    os.mknod(node, 0o600 | stat.S_IFBLK, os.stat(loops.devices[0]).st_rdev)
    place = tmp_path / "mnt"
    place.mkdir()
    try:
        run("mount", str(node), str(place))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"nothing can be mounted here: {error.stderr.strip()}")
    yield loops, path, place
    subprocess.run(["umount", str(place)], check=False, capture_output=True)


def test_a_drive_mounted_by_another_name_is_refused_and_intact(mounted: tuple[Loops, str, Path]) -> None:
    loops, path, place = mounted
    (place / "file").write_text("data")
    assert f"{path} is mounted at {place}: unmount it first" in loops.refusal(path)
    assert (place / "file").read_text() == "data"
    run("umount", str(place))
    assert f"{path} holds ext4" in loops.refusal(path)
    with loops.claim(path, "S1", "ext4"):
        busy = subprocess.run(["mount", loops.devices[0], str(place)], check=False, capture_output=True)
        assert busy.returncode != 0
    run("mount", loops.devices[0], str(place))
    assert (place / "file").read_text() == "data"


def test_fio_writes_to_the_claimed_drive_whatever_its_name_leads_to(loops: Loops) -> None:
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    path = loops.add("S1", "eui.1")
    loops.add("S2", "eui.2")
    node = loops.root / path.lstrip("/")
    with loops.claim(path) as guard:
        guard.check()
        node.unlink()
        node.symlink_to(loops.devices[1])
        argv = ["fio", "--name=t", f"--filename={guard.child_path}", "--rw=write", "--bs=64k",
                "--size=1m", "--direct=1", "--ioengine=psync", "--numjobs=2"]
        subprocess.run(argv, check=True, capture_output=True, pass_fds=guard.pass_fds)
        with pytest.raises(Gone, match="the name leads to another device now"):
            guard.check()
    assert loops.content(0).strip(b"\0") and not loops.content(1).strip(b"\0")


def test_the_same_file_behind_two_devices_is_claimed_by_both_names(loops: Loops) -> None:
    first = loops.add("S1", "eui.1", "file0")
    second = loops.add("S1", "eui.1", "file0")
    with loops.claim(first) as guard:
        guard.check()
        for device in loops.devices:
            with pytest.raises(OSError, match="busy"):
                os.open(device, os.O_RDONLY | os.O_EXCL)
    other = Devices().claim(loops.devices[0], os.O_RDONLY)
    try:
        said = loops.refusal(second)
        assert f"{first}, the same namespace as {second}, is claimed by something" in said
    finally:
        os.close(other)


class Orphan:
    """A program that is none of this process's descendants, since its parent is gone; its id."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv

    def __enter__(self) -> int:
        code = ("import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1); "
                "print(p.pid, flush=True)")
        self.inner = subprocess.Popen(
            [sys.executable, "-c", code, *self.argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.inner.stdout is not None
        # One says its id and the other that it has begun, in either order.
        lines = [self.inner.stdout.readline().strip() for _ in range(2)]
        self.inner.wait()
        return int(next(filter(None, lines)))

    def __exit__(self, *_: object) -> None:
        assert self.inner.stdin is not None and self.inner.stdout is not None
        self.inner.stdin.close()
        self.inner.stdout.read()


@pytest.mark.parametrize(("flags", "refused"), [(os.O_RDWR, True), (os.O_RDONLY, False)])
def test_a_program_that_has_it_open_for_writing_is_named(loops: Loops, flags: int, refused: bool) -> None:
    path = loops.add("S1", "eui.1")
    argv = [sys.executable, "-c", HOLD, loops.devices[0], str(flags)]
    with Orphan(argv) as process:
        if not refused:
            loops.claim(path).close()
            return
        said = loops.refusal(path)
        assert f"{path} is open for writing in process {process} (" in said


# Each has the drive open for writing, and no descriptor of it in the table of its process.
ITS_OWN_THREAD = """
import ctypes, os, sys, threading
ready = threading.Event()
def thread():
    ctypes.CDLL(None).unshare(0x400)  # CLONE_FILES
    os.open(sys.argv[1], os.O_RDWR)
    ready.set()
    sys.stdin.read()
threading.Thread(target=thread).start()
ready.wait()
print(flush=True)
"""
ONLY_MAPPED = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
ours = mmap.mmap(fd, 4096)
os.close(fd)
os.unlink(sys.argv[2])
print(flush=True)
# Python keeps a descriptor of its own for the mapping.
for one in os.listdir("/proc/self/fd"):
    if int(one) > 2:
        try:
            os.close(int(one))
        except OSError:
            pass
sys.stdin.read()
"""


@pytest.mark.parametrize("code", [ITS_OWN_THREAD, ONLY_MAPPED])
def test_a_program_is_named_that_has_it_open_in_no_usual_way(loops: Loops, code: str) -> None:
    path = loops.add("S1", "eui.1")
    node = loops.root / "odd"
    os.mknod(node, 0o600 | stat.S_IFBLK, os.stat(loops.devices[0]).st_rdev)
    with Orphan([sys.executable, "-c", code, str(node), str(node)]) as process:
        assert f"{path} is open for writing in process {process} (" in loops.refusal(path)


def test_the_loop_device_tells_what_is_behind_it_whatever_the_name_leads_to(loops: Loops) -> None:
    path = loops.add("S1", "eui.1")
    node = loops.root / "odd"
    os.mknod(node, 0o600 | stat.S_IFBLK, os.stat(loops.devices[0]).st_rdev)
    upon = run("losetup", "--find", "--show", str(node))
    try:
        node.unlink()
        name = Path(upon).name
        (loops.root / "sys/block" / name).symlink_to(f"/sys/block/{name}")
        (loops.root / "dev" / name).symlink_to(upon)
        assert f"{path} is behind the loop device {name}: losetup --detach" in loops.refusal(path)
        node.symlink_to("/dev/null")
        assert f"{path} is behind the loop device {name}: losetup --detach" in loops.refusal(path)
    finally:
        run("losetup", "--detach", upon)
    loops.claim(path).close()


def test_a_program_that_sends_commands_past_the_block_layer_is_named(tmp_path: Path) -> None:
    needs_sight()
    machine = Machine(tmp_path)
    machine.drive()
    # Any character device will do in the place of ng0n1.
    state = os.stat("/dev/full")
    number = f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}"
    machine.put("/sys/class/nvme-generic/ng0n1/dev", number)
    shutil.rmtree(tmp_path / "proc")
    (tmp_path / "proc").symlink_to("/proc")
    with Orphan([sys.executable, "-c", HOLD, "/dev/full", str(os.O_RDWR)]) as process:
        with pytest.raises(Refused, match=f"by its character device /dev/ng0n1, is open .* process {process} "):
            claim("/dev/nvme0n1", Demand("S1"), (), machine.system, machine.devices)


def test_the_runs_own_children_are_not_in_the_way(loops: Loops) -> None:
    path = loops.add("S1", "eui.1")
    argv = [sys.executable, "-c", HOLD, loops.devices[0], str(os.O_RDWR)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        loops.claim(path).close()


def test_a_drive_of_another_size_ends_the_run(loops: Loops) -> None:
    path = loops.add("S1", "eui.1")
    with loops.claim(path) as guard:
        os.truncate(loops.root / "file0", images.SIZE // 2)
        run("losetup", "--set-capacity", loops.devices[0])
        with pytest.raises(Gone, match=f"had {images.SIZE} bytes, and has {images.SIZE // 2} now"):
            guard.check()


def test_a_device_that_fails_to_read_is_not_taken_for_empty(loops: Loops) -> None:
    loops.add("S1", "eui.1")
    os.truncate(loops.root / "file0", 0)
    descriptor = os.open(loops.devices[0], os.O_RDONLY)
    try:
        with pytest.raises(CannotLook, match="Input/output error"):
            find(descriptor)
    finally:
        os.close(descriptor)


def test_what_another_name_wrote_is_seen_in_spite_of_the_page_cache(loops: Loops) -> None:
    loops.add("S1", "eui.1", "file0")
    loops.add("S1", "eui.1", "file0")
    descriptor = os.open(loops.devices[0], os.O_RDONLY)
    try:
        # This fills the first device's page cache with what is there now: nothing.
        assert not os.pread(descriptor, images.MIB, 0).strip(b"\0")
        images.xfs(Path(loops.devices[1]))
        run("blockdev", "--flushbufs", loops.devices[1])
        assert [one.type for one in find(descriptor)] == ["xfs"]
    finally:
        os.close(descriptor)


def test_what_another_name_has_yet_to_write_is_seen(loops: Loops) -> None:
    """The kernel writes it when the last one closes that name, which here reads."""
    path = loops.add("S1", "eui.1", "file0")
    loops.add("S1", "eui.1", "file0")
    reader = os.open(loops.devices[1], os.O_RDONLY)
    try:
        images.xfs(Path(loops.devices[1]))
        assert f"{path} holds xfs" in loops.refusal(path)
    finally:
        os.close(reader)


def test_a_loop_device_itself_has_no_identity(loops: Loops) -> None:
    loops.add("S1", "eui.1")
    with pytest.raises(Refused, match=f"{loops.devices[0]} is not overwritten: it has no serial number"):
        claim(loops.devices[0], Demand("S1"))
