# SPDX-License-Identifier: GPL-2.0-only
"""A drive is claimed only when nobody uses it: mounts, swap, holders, exports."""

import os
from pathlib import Path

import images
import pytest
from drives import NQN, Machine
from guarded import MIB, MOUNT, refusal, refused_or_taken, take

from dmabuf_common import drive_users
from dmabuf_common.drive_guard import Gone, observe
from dmabuf_common.sysfs import System


@pytest.mark.parametrize(
    ("number", "place", "kind", "source", "says"),
    [
        ("259:0", "/data", "ext4", "/dev/nvme0n1", "/dev/nvme0n1 is mounted at /data: unmount"),
        ("259:2", "/data", "ext4", "/dev/nvme0n1p2", "/dev/nvme0n1p2 is mounted at /data: unmount"),
        ("259:1", "/", "ext4", "/dev/root", "/dev/nvme0n1p1 holds the running system"),
        ("259:1", "/a\\040b", "ext4", "none", "/dev/nvme0n1p1 is mounted at /a b: unmount"),
        # btrfs mounts under a number that is no device's.
        ("0:45", "/pool", "btrfs", "/dev/nvme0n1p1", "/dev/nvme0n1p1 is mounted at /pool: unmount"),
    ],
)
def test_a_mounted_drive_is_refused(
    machine: Machine, number: str, place: str, kind: str, source: str, says: str
) -> None:
    machine.put("/proc/self/mountinfo", MOUNT.format(number, place, kind, source))
    assert says in refusal(machine)


def opens(machine: Machine, place: str) -> None:
    """A process has the drive's character device open for writing; any will do in its place."""
    state = os.stat("/dev/full")
    machine.put("/sys/class/nvme-generic/ng0n1/dev", f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}")
    machine.put("/proc/77/comm", "qemu")
    machine.put(f"/proc/{place}/fdinfo/5", "pos: 0\nflags: 02")
    (machine.root / f"proc/{place}/fd").mkdir()
    (machine.root / f"proc/{place}/fd/5").symlink_to("/dev/full")


@pytest.mark.parametrize("odd", ["\r", "\x0c", "\x1c", "\x85", "\u2028", "\xa0"])
def test_a_mount_point_with_odd_characters_hides_nothing(machine: Machine, odd: str) -> None:
    """The kernel writes blank, tab, newline and backslash as numbers, and what else may part words and lines as
    it is."""
    machine.put("/proc/self/mountinfo", MOUNT.format("259:1", f"/a{odd}b", "ext4", "/dev/root"))
    assert "/dev/nvme0n1p1 is mounted at /a" in refusal(machine)
    machine.put("/proc/self/mountinfo", MOUNT.format("0:45", f"/a{odd}b", "btrfs", f"/dev/nvme{odd}\n/x")
                + "\n" + MOUNT.format("0:46", "/pool", "btrfs", "/dev/nvme0n1p2"))
    assert "/dev/nvme0n1p2 is mounted at /pool" in refusal(machine)
    machine.put("/proc/self/mountinfo", "")
    machine.put("/proc/swaps", f"Filename\t\t\tType\n/a{odd}b   file\t\t1\t0\t-2\n/dev/nvme0n1p2   partition\t1\t0\t-3")
    assert "/dev/nvme0n1p2 is swap space" in refusal(machine)


def test_a_program_does_not_name_itself_this_ones_child(machine: Machine) -> None:
    """The kernel writes a program's name into its status as it is, but for newlines and backslashes."""
    opens(machine, "77")
    machine.put("/proc/77/status", f"Name:\tx\rPPid:\t{os.getpid()}\nPid:\t77\nPPid:\t1")
    assert "is open for writing in process 77" in refusal(machine)
    machine.put("/proc/77/status", f"Name:\tx\nPid:\t77\nPPid:\t{os.getpid()}")
    assert not refused_or_taken(machine)


def test_a_thread_may_have_descriptors_of_its_own(machine: Machine) -> None:
    """Also where the first thread has ended, which has none then."""
    opens(machine, "77/task/79")
    (machine.root / "proc/77/task/77").mkdir()
    assert "by its character device /dev/ng0n1, is open for writing in process 77 (qemu)" in refusal(machine)


@pytest.mark.parametrize(("rights", "refused"), [("rw-s", True), ("-w-s", True), ("r--s", False), ("rw-p", False)])
def test_a_mapping_outlives_its_descriptor(machine: Machine, rights: str, refused: bool) -> None:
    machine.put("/proc/77/comm", "db")
    machine.put("/proc/77/maps", f"55d0c0000000-55d0c0001000 r-xp 00000000 00:05 12                         /bin/db\n"
                f"7f6c00000000-7f6c00100000 {rights} 00000000 00:05 94                         /dev/nvme0n1p2\n"
                "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]")
    said = refused_or_taken(machine)
    assert said.startswith("/dev/nvme0n1 is not overwritten: /dev/nvme0n1p2 is open for writing in process 77 (db)"
                           ) if refused else not said


def test_a_file_that_only_an_io_uring_has_open_is_seen(machine: Machine) -> None:
    (machine.root / "proc/77/fd").mkdir(parents=True)
    (machine.root / "proc/77/fd/4").symlink_to("anon_inode:[io_uring]")
    machine.put("/proc/77/fdinfo/4", "pos:\t0\nUserFiles:\t2\n    0: /some/file\n    1: /dev/nvme0n1\nUserBufs:\t0")
    assert "/dev/nvme0n1 is open for writing in process 77 (?)" in refusal(machine)
    machine.put("/proc/77/fdinfo/4", "pos:\t0\nUserFiles:\t1\n    0: /some/file\nUserBufs:\t0")
    assert not refused_or_taken(machine)


@pytest.mark.parametrize("folder", ["/proc/77/fd", "/proc/77/task"])
def test_a_process_that_hides_what_it_has_open_may_be_who_writes(
    machine: Machine, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.put("/proc/77/comm", "secret")
    hidden, listed = machine.system.path(folder), os.listdir

    def deny(path: Path | str) -> list[str]:
        if path == hidden:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", deny)
    assert "it cannot be seen what process 77 (secret) has open: run as root, with all" in refusal(machine)


def test_the_running_system_is_called_so_whatever_is_mounted_besides(machine: Machine) -> None:
    places = ("/srv", "/", "/var/lib")
    lines = "\n".join(MOUNT.format("259:1", place, "ext4", "/dev/root").strip() for place in places)
    machine.put("/proc/self/mountinfo", lines)
    assert "/dev/nvme0n1p1 holds the running system" in refusal(machine)


def test_the_table_of_a_mount_namespace_is_read_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of processes share a few of them."""
    for process in range(40, 60):
        machine.name_space(str(process), "mnt", "mnt:[2]")
        machine.put(f"/proc/{process}/mountinfo", "")
    asked: list[str] = []
    read = type(machine.system).read

    def count(system: System, name: str) -> str:
        asked.append(name)
        return read(system, name)

    monkeypatch.setattr(type(machine.system), "read", count)
    drive_users.mounts(machine.system)
    assert [name for name in asked if name.endswith("/mountinfo")] == ["/proc/self/mountinfo", "/proc/40/mountinfo"]


def test_the_other_drive_of_a_btrfs_of_several_is_refused(machine: Machine) -> None:
    machine.drive("nvme5n1", "259:9", serial="S5", wwid="eui.5")
    machine.put("/proc/self/mountinfo", MOUNT.format("0:45", "/pool", "btrfs", "/dev/nvme5n1"))
    assert not refused_or_taken(machine)
    for name in ("nvme5n1", "nvme0n1p2"):
        machine.link(f"/sys/fs/btrfs/6d/devices/{name}", f"/sys/class/block/{name}")
    assert "/dev/nvme0n1p2 is mounted at /pool" in refusal(machine)
    machine.put("/proc/self/mountinfo", "")
    assert "/dev/nvme0n1p2 belongs to the active btrfs 6d" in refusal(machine)


def test_a_mount_of_another_mount_namespace_is_seen(machine: Machine) -> None:
    for process, space in (("self", "mnt:[1]"), ("41", "mnt:[1]"), ("42", "mnt:[2]")):
        machine.name_space(process, "mnt", space)
    machine.put("/proc/41/mountinfo", MOUNT.format("259:1", "/seen-before", "xfs", "/dev/x"))
    machine.put("/proc/42/comm", "pod")
    machine.put("/proc/42/mountinfo", MOUNT.format("259:2", "/", "xfs", "/dev/x"))
    said = refusal(machine)
    assert "/dev/nvme0n1p2 is mounted at / in the mount namespace of process 42 (pod)" in said
    assert "seen-before" not in said


@pytest.mark.parametrize(
    ("disk", "place", "says"),
    [
        ("nvme0n1", "/sys/class/nvme-generic/ng0n1", "/dev/ng0n1"),
        ("sda", "/sys/block/sda/device/scsi_generic/sg3", "/dev/sg3"),
        ("sda", "/sys/block/sda/device/bsg/0:0:1:0", "/dev/bsg/0:0:1:0"),
    ],
)
@pytest.mark.parametrize(("flags", "refused"), [(os.O_RDWR, True), (os.O_RDONLY, False)])
def test_a_character_device_is_a_name_of_the_drive(
    tmp_path: Path, disk: str, place: str, says: str, flags: int, refused: bool
) -> None:
    machine = Machine(tmp_path)
    machine.drive(disk, "259:0")
    # Any character device will do in its place.
    state = os.stat("/dev/full")
    machine.put(f"{place}/dev", f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}")
    machine.put("/proc/77/comm", "qemu")
    machine.put("/proc/77/fdinfo/5", f"pos: 0\nflags: {flags:#o}".replace("0o", "0"))
    (machine.root / "proc/77/fd").mkdir()
    (machine.root / "proc/77/fd/5").symlink_to("/dev/full")
    said = refused_or_taken(machine, f"/dev/{disk}")
    wanted = f"/dev/{disk}, by its character device {says}, is open for writing in process 77 (qemu)"
    assert wanted in said if refused else not said


UNSEEN = "it cannot be seen who has it open: run as root, outside of containers"


@pytest.mark.parametrize("kind", ["pid", "user"])
def test_where_other_processes_are_not_seen_nothing_is_written(machine: Machine, kind: str) -> None:
    machine.name_space("self", kind, f"{kind}:[4026532999]")
    assert UNSEEN in refusal(machine)
    with observe("/dev/nvme0n1", system=machine.system, devices=machine.devices) as guard:
        assert UNSEEN in guard.against()[0]
        guard.check()


ALL = "\nCapEff:\t000001ffffffffff"


@pytest.mark.parametrize(
    "status",
    [
        f"Uid:\t0\t1000\t0\t0{ALL}", f"Uid:\t1000\t1000\t1000\t1000{ALL}", "",
        # All capabilities but CAP_SYS_PTRACE, as in a container that shares the PID namespace.
        "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffff7ffff", "Uid:\t0\t0\t0\t0",
    ],
)
def test_without_roots_rights_nothing_is_written(machine: Machine, status: str) -> None:
    machine.put("/proc/self/status", status)
    assert UNSEEN in refusal(machine)


def test_a_program_that_became_root_may_look(machine: Machine) -> None:
    machine.put("/proc/self/status", f"Uid:\t1000\t0\t0\t0{ALL}")
    assert not refused_or_taken(machine)


def test_a_kernel_without_these_namespaces_hides_nothing(machine: Machine) -> None:
    machine.name_space("self", "mnt", "mnt:[4026531841]")
    for kind in ("pid", "user"):
        (machine.root / f"proc/self/ns/{kind}").unlink()
    assert not refused_or_taken(machine)
    (machine.root / "proc/self/ns/mnt").unlink()
    assert UNSEEN in refusal(machine)


@pytest.mark.parametrize(("module", "folder"), [("nvmet", "nvmet"), ("target_core_mod", "target")])
def test_where_exports_are_not_seen_nothing_is_written(
    machine: Machine, module: str, folder: str
) -> None:
    machine.put(f"/sys/module/{module}/refcnt", "0")
    says = f"it cannot be seen whether {module} exports it: mount configfs at /sys/kernel/config"
    assert says in refusal(machine)
    (machine.root / "sys/kernel/config").mkdir(parents=True)
    assert says in refusal(machine)
    (machine.root / "sys/kernel/config" / folder).mkdir()
    with take(machine) as guard:
        guard.check()
        (machine.root / "sys/kernel/config" / folder).rmdir()
        with pytest.raises(Gone, match=says):
            guard.check()


def test_swap_is_refused(machine: Machine) -> None:
    machine.put("/proc/swaps", "Filename Type\n/dev/nvme0n1p2 partition 1 0 -2")
    assert "/dev/nvme0n1p2 is swap space: swapoff it first" in refusal(machine)
    machine.put("/proc/swaps", "Filename Type\n/dev/nvme0n1\\040(deleted) partition 1 0 -2")
    assert "/dev/nvme0n1 is swap space" in refusal(machine)


@pytest.mark.parametrize(
    ("number", "name", "attributes", "says"),
    [
        ("259:0", "md0", {"md_level": "raid1"}, "/dev/nvme0n1 is held by md0 (a RAID, raid1)"),
        ("259:2", "dm-3", {"dm_name": "vg-lv", "dm_uuid": "LVM-a1"},
         "/dev/nvme0n1p2 is held by dm-3 (vg-lv; LVM, by device mapper)"),
        ("259:1", "dm-4", {"dm_name": "safe", "dm_uuid": "CRYPT-LUKS2-1-safe"},
         "held by dm-4 (safe; encryption, by device mapper)"),
        ("259:0", "dm-5", {"dm_name": "mpatha", "dm_uuid": "mpath-36"}, "(mpatha; multipath, by"),
        ("259:0", "dm-6", {"dm_name": "odd", "dm_uuid": ""}, "held by dm-6 (odd; device mapper)"),
        ("259:0", "bcache0", {}, "/dev/nvme0n1 is held by bcache0 (bcache)"),
    ],
)
def test_a_held_drive_is_refused(
    machine: Machine, number: str, name: str, attributes: dict[str, str], says: str
) -> None:
    machine.holder(number, name, **attributes)
    assert says in refusal(machine)


def test_a_drive_behind_a_loop_device_is_refused(machine: Machine) -> None:
    machine.put("/sys/block/loop3/loop/backing_file", "/dev/nvme0n1p1")
    assert "/dev/nvme0n1p1 is behind the loop device loop3" in refusal(machine)


def test_an_exported_drive_is_refused(machine: Machine) -> None:
    folder = "/sys/kernel/config/nvmet/subsystems/nqn/namespaces/4"
    machine.put(f"{folder}/device_path", "/dev/nvme0n1")
    machine.put(f"{folder}/enable", "0")
    assert not refused_or_taken(machine)
    machine.put(f"{folder}/enable", "1")
    assert "/dev/nvme0n1 is exported by the NVMe target as namespace 4 of nqn" in refusal(machine)
    machine.put(f"{folder}/enable", "0")
    machine.put("/sys/kernel/config/target/core/iblock_0/disk/udev_path", "/dev/nvme0n1p1")
    assert "/dev/nvme0n1p1 is exported by the SCSI target as iblock_0/disk" in refusal(machine)


def test_an_exported_drive_whose_name_leads_nowhere_may_be_any(machine: Machine) -> None:
    folder = "/sys/kernel/config/nvmet/subsystems/nqn/namespaces/4"
    machine.put(f"{folder}/device_path", "/container/disk")
    machine.put(f"{folder}/enable", "1")
    says = "it cannot be seen which drive is exported by the NVMe target as namespace 4 of nqn, as /container/disk"
    assert says in refusal(machine)
    machine.put("/container/disk", "a regular file")
    assert not refused_or_taken(machine)
    machine.put("/container/disk", "a regular file")
    machine.put(f"{folder}/enable", "0")
    assert not refused_or_taken(machine)


@pytest.mark.parametrize("controller", ["nvme0", "nvme7"])
def test_a_controller_that_is_exported_whole_exports_the_drive(machine: Machine, controller: str) -> None:
    """By another controller of the same subsystem, too."""
    machine.link("/sys/class/nvme/nvme0", "/sys/devices/pci0000:00/nvme0")
    machine.put("/sys/devices/pci0000:00/nvme7/subsysnqn", NQN)
    machine.link("/sys/class/nvme/nvme7", "/sys/devices/pci0000:00/nvme7")
    machine.put("/sys/devices/pci0000:00/nvme8/subsysnqn", "nqn.other")
    machine.link("/sys/class/nvme/nvme8", "/sys/devices/pci0000:00/nvme8")
    folder = "/sys/kernel/config/nvmet/subsystems/nqn/passthru"
    machine.put(f"{folder}/device_path", f"/dev/{controller}")
    machine.put(f"{folder}/enable", "0")
    assert not refused_or_taken(machine)
    machine.put(f"{folder}/enable", "1")
    assert "/dev/nvme0n1 is exported by the NVMe target as a controller of nqn" in refusal(machine)
    machine.put(f"{folder}/device_path", "/dev/nvme8")
    assert not refused_or_taken(machine)
    machine.put(f"{folder}/device_path", "/dev/nvme9")
    assert "it cannot be seen which drives are exported by the NVMe target as a controller of nqn" in refusal(machine)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"/sys/kernel/config/target/core/fileio_0/disk/info":
          "TCM FILEIO ID: 0        File: /dev/nvme0n1p1  Size: 1  Mode: O_DSYNC Async: 0"},
         "/dev/nvme0n1p1 is exported by the SCSI target as fileio_0/disk"),
        ({"/sys/kernel/config/usb_gadget/g1/functions/mass_storage.0/lun.0/file": "/dev/nvme0n1"},
         "/dev/nvme0n1 is exported by the USB gadget g1 as mass_storage.0/lun.0"),
        ({"/sys/class/rnbd-server/ctl/devices/!dev!nvme0n1/block_dev/dev": "259:0"},
         "/dev/nvme0n1 is exported by the RNBD server as !dev!nvme0n1"),
        ({"/sys/bus/xen-backend/devices/vbd-3-51712/physical_device": "103:2"},
         "/dev/nvme0n1p2 is exported by Xen as vbd-3-51712"),
    ],
)
def test_whoever_exports_it_without_a_claim_is_named(machine: Machine, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        machine.put(name, text)
    assert says in refusal(machine)


def test_a_read_only_drive_is_refused(machine: Machine) -> None:
    machine.put("/sys/block/nvme0n1/ro", "1")
    assert "/dev/nvme0n1 is read-only, which somebody or the drive itself wanted: find out why" in refusal(machine)


def test_all_reasons_are_said_at_once(machine: Machine) -> None:
    machine.put("/proc/self/mountinfo", MOUNT.format("259:1", "/a", "xfs", "x"))
    machine.holder("259:2", "md0")
    images.xfs(machine.root / "dev/nvme0n1", MIB)
    said = refusal(machine)
    assert all(one in said for one in ("mounted at /a", "held by md0", "/dev/nvme0n1p1 holds xfs"))
