# SPDX-License-Identifier: GPL-2.0-only
"""A drive is claimed only when it is the one that was meant, nobody uses it by any name, and nothing is
on it; and it is given up when it goes away."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import images
import pytest
from drives import Machine

from dmabuf_common import drive_guard, drive_signatures, drive_users
from dmabuf_common.drive_guard import Demand, Gone, Guard, Refused, claim, observe
from dmabuf_common.drive_signatures import CannotLook
from dmabuf_common.sysfs import System

MIB = 1 << 20
S1 = Demand("S1")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.drive()
    made.partition("nvme0n1", 1, "259:1", MIB, 8 * MIB)
    made.partition("nvme0n1", 2, "259:2", 16 * MIB, 8 * MIB)
    return made


def take(
    machine: Machine, path: str = "/dev/nvme0n1", demand: Demand = S1, consent: Iterable[str] = ()
) -> Guard:
    return claim(path, demand, consent, machine.system, machine.devices)


def refusal(machine: Machine, path: str = "/dev/nvme0n1", demand: Demand = S1,
            consent: Iterable[str] = ()) -> str:  # fmt: skip
    """Why it is refused; it must be, and nothing may have been opened for writing then."""
    with pytest.raises(Refused) as caught:
        take(machine, path, demand, consent).close()
    open_now = {os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")}
    assert not [one for one in open_now if one.startswith(str(machine.root))], "left open"
    return str(caught.value)


def test_a_free_drive_that_was_named_is_held_exclusively(machine: Machine) -> None:
    with take(machine) as guard:
        assert guard.identity.serial == "S1"
        assert machine.devices.opened[-1] == ("259:0", os.O_RDWR | os.O_EXCL)
        guard.check()
        with pytest.raises(Refused, match="/dev/nvme0n1 is claimed by something"):
            take(machine)
    take(machine).close()


def test_a_child_gets_the_descriptor_and_not_the_name(machine: Machine) -> None:
    with take(machine) as guard:
        assert guard.pass_fds == (guard.descriptor,)
        assert guard.child_path == f"/proc/self/fd/{guard.descriptor}"
        assert not os.get_inheritable(guard.descriptor)
        os.unlink(machine.root / "dev/nvme0n1")
        Path(machine.root / "dev/nvme0n1").write_bytes(b"another")
        with open(guard.child_path, "rb") as file:
            assert os.fstat(file.fileno()).st_ino == os.fstat(guard.descriptor).st_ino


@pytest.mark.parametrize("demand", [Demand(), Demand("S2"), Demand("S1", "eui.1"), Demand("S1", nsid="2")])
def test_a_drive_that_was_not_named_is_refused_before_anything_else(
    machine: Machine, demand: Demand
) -> None:
    assert "/dev/nvme0n1 is not overwritten: " in refusal(machine, demand=demand)
    assert [flags & os.O_ACCMODE for _, flags in machine.devices.opened] == [os.O_RDONLY]


def test_what_is_no_drive_is_refused(machine: Machine) -> None:
    (machine.root / "dev/file").touch()
    os.mkfifo(machine.root / "dev/fifo")
    assert "/dev/file is no block device" in refusal(machine, "/dev/file")
    assert "/dev/fifo is no block device" in refusal(machine, "/dev/fifo")
    assert "/dev/none cannot be opened (No such file" in refusal(machine, "/dev/none")
    assert not machine.devices.opened, "to open it can do something"


def test_a_drive_without_size_is_not_even_measured(machine: Machine) -> None:
    """A reader of cards without a card has a node."""
    machine.devices.sizes["259:0"] = 0
    assert "/dev/nvme0n1 is gone" in refusal(machine)
    with pytest.raises(Refused, match="/dev/nvme0n1 is gone"):
        observe("/dev/nvme0n1", Demand(), machine.system, machine.devices)


# Mounts, swap, holders

MOUNT = "22 1 {} / {} rw - {} {} rw"


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


def refused_or_taken(machine: Machine, path: str = "/dev/nvme0n1") -> str:
    """"" when it is taken."""
    try:
        take(machine, path).close()
    except Refused as error:
        return str(error)
    return ""


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
)  # fmt: skip
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
)  # fmt: skip
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


def test_a_read_only_drive_is_refused(machine: Machine) -> None:
    machine.put("/sys/block/nvme0n1/ro", "1")
    assert "/dev/nvme0n1 is read-only: blockdev --setrw it first" in refusal(machine)


def test_all_reasons_are_said_at_once(machine: Machine) -> None:
    machine.put("/proc/self/mountinfo", MOUNT.format("259:1", "/a", "xfs", "x"))
    machine.holder("259:2", "md0")
    images.xfs(machine.root / "dev/nvme0n1", MIB)
    said = refusal(machine)
    assert all(one in said for one in ("mounted at /a", "held by md0", "/dev/nvme0n1p1 holds xfs"))


# The same namespace by another name

def twin(machine: Machine, **more: str) -> None:
    machine.drive("nvme1n1", "259:8", **more)
    machine.partition("nvme1n1", 1, "259:9", MIB, 8 * MIB)
    machine.partition("nvme1n1", 2, "259:10", 16 * MIB, 8 * MIB)


AGAIN = ", the same namespace as /dev/nvme0n1, "


def test_the_other_path_mounted_is_refused(machine: Machine) -> None:
    twin(machine)
    machine.put("/proc/self/mountinfo", MOUNT.format("259:8", "/data", "xfs", "/dev/nvme1n1"))
    assert f"/dev/nvme1n1{AGAIN}is mounted at /data" in refusal(machine)
    machine.put("/proc/self/mountinfo", MOUNT.format("259:10", "/data", "xfs", "/dev/nvme1n1p2"))
    assert f"/dev/nvme1n1p2{AGAIN}is mounted at /data" in refusal(machine)


def test_another_drive_mounted_is_none_of_it(machine: Machine) -> None:
    twin(machine, wwid="eui.7", serial="S7")
    machine.put("/proc/self/mountinfo", MOUNT.format("259:8", "/data", "xfs", "/dev/nvme1n1"))
    assert not refused_or_taken(machine)


def test_the_other_path_in_a_raid_is_refused_without_identifiers(machine: Machine) -> None:
    for name in ("nvme2n1", "nvme3n1"):
        machine.drive(name, f"259:{name[4]}0", serial="S2", wwid="", nguid="0" * 32, eui="0" * 16)
    machine.holder("259:30", "md0")
    said = refusal(machine, "/dev/nvme2n1", Demand("S2"))
    assert "/dev/nvme3n1, the same namespace as /dev/nvme2n1, is held by md0" in said


def test_the_other_path_claimed_is_refused(machine: Machine) -> None:
    twin(machine)
    other = machine.devices.open(str(machine.root / "dev/nvme1n1"), os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(Refused, match=f"/dev/nvme1n1{AGAIN}is claimed by something"):
            take(machine)
    finally:
        os.close(other)
    take(machine).close()


def test_the_other_path_is_held_as_long_as_the_drive(machine: Machine) -> None:
    twin(machine)
    with take(machine):
        with pytest.raises(OSError, match="busy"):
            machine.devices.claim(str(machine.root / "dev/nvme1n1"), os.O_RDONLY)
    os.close(machine.devices.claim(str(machine.root / "dev/nvme1n1"), os.O_RDONLY))


def test_a_child_keeps_the_other_path_held_when_the_run_is_killed(machine: Machine) -> None:
    twin(machine)
    other = str(machine.root / "dev/nvme1n1")
    with take(machine) as guard:
        assert guard.pass_fds[0] == guard.descriptor
        assert [machine.devices.number(one) for one in guard.pass_fds] == ["259:0", "259:8"]
        argv = [sys.executable, "-c", "print(flush=True); input()"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              pass_fds=guard.pass_fds) as child:  # fmt: skip
            assert child.stdout is not None
            child.stdout.readline()
            guard.close()
            with pytest.raises(OSError, match="busy"):
                machine.devices.claim(other, os.O_RDONLY)
    os.close(machine.devices.claim(other, os.O_RDONLY))


def test_a_name_that_leads_elsewhere_does_not_stand_for_the_other_path(machine: Machine) -> None:
    twin(machine)
    (machine.root / "dev/nvme1n1").unlink()
    assert f"/dev/nvme1n1{AGAIN}cannot be opened" in refusal(machine)
    machine.drive("nvme4n1", "259:40", serial="S4", wwid="eui.4")
    (machine.root / "dev/nvme1n1").symlink_to(machine.root / "dev/nvme4n1")
    assert f"/dev/nvme1n1{AGAIN}is not what its name in /dev leads to" in refusal(machine)


def test_a_path_that_comes_during_the_run_is_looked_at_and_held(machine: Machine) -> None:
    with take(machine) as guard:
        guard.check()
        twin(machine)
        guard.check()
        with pytest.raises(OSError, match="busy"):
            machine.devices.claim(str(machine.root / "dev/nvme1n1"), os.O_RDONLY)
        machine.put("/proc/self/mountinfo", MOUNT.format("259:10", "/data", "xfs", "/dev/nvme1n1p2"))
        with pytest.raises(Gone, match=f"/dev/nvme1n1p2{AGAIN}is mounted at /data"):
            guard.check()


def test_a_hidden_path_below_a_head_is_nobodys(machine: Machine) -> None:
    machine.drive("nvme0c0n1", "")
    with take(machine) as guard:
        guard.check()


def test_a_partition_is_judged_by_its_own_bytes(machine: Machine) -> None:
    twin(machine)
    machine.put("/proc/self/mountinfo", MOUNT.format("259:2", "/data", "xfs", "/dev/nvme0n1p2"))
    assert not refused_or_taken(machine, "/dev/nvme0n1p1")
    assert "/dev/nvme0n1p2 is mounted" in refusal(machine, "/dev/nvme0n1p2")
    machine.put("/proc/self/mountinfo", MOUNT.format("259:10", "/data", "xfs", "/dev/nvme1n1p2"))
    assert not refused_or_taken(machine, "/dev/nvme0n1p1")
    said = refusal(machine, "/dev/nvme0n1p2")
    assert "/dev/nvme1n1p2, the same namespace as /dev/nvme0n1p2, is mounted" in said
    machine.put("/proc/self/mountinfo", MOUNT.format("259:0", "/data", "xfs", "/dev/nvme0n1"))
    assert "/dev/nvme0n1 is mounted" in refusal(machine, "/dev/nvme0n1p1")


def test_a_path_whose_partitions_are_not_known_is_held_whole(machine: Machine) -> None:
    machine.drive("nvme1n1", "259:8")
    with take(machine, "/dev/nvme0n1p2"):
        with pytest.raises(OSError, match="busy"):
            machine.devices.claim(str(machine.root / "dev/nvme1n1"), os.O_RDONLY)


# What is on it

@pytest.mark.parametrize("kind", images.ALL)
def test_a_signed_drive_is_refused_with_the_type(machine: Machine, kind: str) -> None:
    images.ALL[kind](machine.root / "dev/nvme0n1")
    said = refusal(machine)
    assert f"/dev/nvme0n1 holds {kind}" in said and f"--overwrite-signature {kind}" in said
    take(machine, consent=[kind]).close()


def test_what_begins_in_a_partition_is_found(machine: Machine) -> None:
    images.luks(machine.root / "dev/nvme0n1", 16 * MIB)
    assert "/dev/nvme0n1p2 holds crypto_LUKS" in refusal(machine)
    assert not refused_or_taken(machine, "/dev/nvme0n1p1")


SECTORS = MIB // 512


@pytest.fixture
def unread(tmp_path: Path) -> Machine:
    """A drive whose partition table the kernel has not read."""
    made = Machine(tmp_path)
    made.drive()
    return made


def test_a_partition_that_the_kernel_has_not_read_is_found(unread: Machine) -> None:
    images.gpt(unread.root / "dev/nvme0n1")
    images.ext4(unread.root / "dev/nvme0n1", MIB)
    says = f"a partition of /dev/nvme0n1, from byte {MIB} on, holds ext4"
    assert says in refusal(unread, consent=["gpt"])
    assert "--overwrite-signature ext4 --overwrite-signature gpt" in refusal(unread)
    take(unread, consent=["gpt", "ext4"]).close()


def test_the_partitions_of_each_of_two_tables_are_found(unread: Machine) -> None:
    images.gpt(unread.root / "dev/nvme0n1", protective=False)
    images.dos(unread.root / "dev/nvme0n1", 0, (0x83, 40 * SECTORS, 8 * SECTORS))
    images.xfs(unread.root / "dev/nvme0n1", MIB)
    images.luks(unread.root / "dev/nvme0n1", 40 * MIB)
    said = refusal(unread, consent=["gpt", "dos"])
    assert f"from byte {MIB} on, holds xfs" in said
    assert f"from byte {40 * MIB} on, holds crypto_LUKS" in said


def test_a_partition_of_a_partition_is_found(unread: Machine) -> None:
    """A virtual machine's disk is often a partition with a table of its own."""
    node = unread.root / "dev/nvme0n1"
    images.dos(node, 0, (0x83, 16 * SECTORS, 32 * SECTORS))
    images.dos(node, 16 * MIB, (0x83, 4 * SECTORS, 8 * SECTORS))
    images.lvm(node, 20 * MIB)
    said = refusal(unread, consent=["dos"])
    assert f"from byte {20 * MIB} on, holds LVM2_member" in said


def test_logical_partitions_are_found_and_no_others(unread: Machine) -> None:
    node = unread.root / "dev/nvme0n1"
    images.dos(node, 0, (0x05, 16 * SECTORS, 32 * SECTORS))
    images.dos(node, 16 * MIB, (0x83, SECTORS, 4 * SECTORS), (0x05, 8 * SECTORS, 8 * SECTORS))
    images.dos(node, 24 * MIB, (0x83, SECTORS, 4 * SECTORS), (0x05, 16 * SECTORS, 8 * SECTORS))
    images.dos(node, 32 * MIB, (0x83, SECTORS, 4 * SECTORS))
    images.swap(node, 17 * MIB)
    images.xfs(node, 25 * MIB)
    images.ext4(node, 33 * MIB)
    # Where the link of the second table led, were it counted from there.
    images.btrfs(node, 40 * MIB)
    # The kernel shows an extended partition as two sectors.
    unread.partition("nvme0n1", 1, "259:1", 16 * MIB, 1024)
    take(unread, consent=["dos", "swap", "xfs", "ext4"]).close()
    said = refusal(unread, consent=["dos"])
    for at, kind in ((17, "swap"), (25, "xfs"), (33, "ext4")):
        assert f"from byte {at * MIB} on, holds {kind}" in said


def test_a_table_of_a_larger_drive_is_no_hindrance(unread: Machine) -> None:
    node = unread.root / "dev/nvme0n1"
    images.dos(node, 0, (0x83, SECTORS, 1 << 31), (0x83, 1 << 31, SECTORS))
    images.ext4(node, MIB)
    assert "holds ext4" in refusal(unread, consent=["dos"])
    take(unread, consent=["dos", "ext4"]).close()


def test_tables_within_tables_have_an_end(unread: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    node = unread.root / "dev/nvme0n1"
    for at in range(20):
        images.dos(node, at * MIB, (0x83, SECTORS, 40 * SECTORS))
    monkeypatch.setattr(drive_guard, "MOST_PARTITIONS", 30)
    take(unread, consent=["dos"]).close()
    monkeypatch.setattr(drive_guard, "MOST_PARTITIONS", 10)
    assert "more than 10 partitions" in refusal(unread, consent=["dos"])


def test_a_partition_table_that_cannot_be_read_is_not_taken_for_empty(
    unread: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.dos(unread.root / "dev/nvme0n1")
    monkeypatch.setattr(drive_signatures._library(), "blkid_probe_get_partitions", lambda _: None)
    assert "does not list the partitions of a dos" in refusal(unread, consent=["dos"])


def test_a_partition_of_what_is_no_table_is_refused(machine: Machine) -> None:
    """The whole drive is a member of a RAID, or a file system with the leftovers of a table in it."""
    take(machine, "/dev/nvme0n1p2").close()
    for make, kind in ((images.md, "linux_raid_member"), (images.ext4, "ext4")):
        make(machine.root / "dev/nvme0n1")
        for consent in ((), (kind,)):
            said = refusal(machine, "/dev/nvme0n1p2", consent=consent)
            assert f"/dev/nvme0n1 holds {kind}" in said and "give /dev/nvme0n1 itself" in said
            assert "--overwrite-signature" not in said
        images.put(machine.root / "dev/nvme0n1", 0, bytes(MIB))
    images.gpt(machine.root / "dev/nvme0n1")
    take(machine, "/dev/nvme0n1p2").close()


def test_a_partition_that_overlaps_another_is_refused_by_what_that_holds(machine: Machine) -> None:
    disk = machine.root / "dev/nvme0n1"
    machine.partition("nvme0n1", 3, "259:3", 20 * MIB, 30 * MIB)
    images.ext4(disk, 20 * MIB)
    assert "/dev/nvme0n1p3 holds ext4" in refusal(machine, "/dev/nvme0n1p2", consent=("ext4",))
    take(machine, "/dev/nvme0n1p1").close()
    # One that only the table names.
    images.put(disk, 20 * MIB, bytes(4096))
    images.dos(disk, 0, (0x83, 22 * MIB // 512, 16 * MIB // 512))
    images.xfs(disk, 22 * MIB)
    assert f"from byte {22 * MIB} on, holds xfs" in refusal(machine, "/dev/nvme0n1p2")
    take(machine, "/dev/nvme0n1p1").close()


def test_a_partition_whose_drive_cannot_be_looked_at_is_refused(machine: Machine) -> None:
    node = machine.root / "dev/nvme0n1"
    node.rename(machine.root / "dev/moved")
    assert "/dev/nvme0n1, of which it is a part, cannot be opened" in refusal(machine, "/dev/nvme0n1p2")
    node.touch()
    assert "is not what its name in /dev leads to" in refusal(machine, "/dev/nvme0n1p2")


def test_consent_names_all_that_is_there_and_nothing_else(machine: Machine) -> None:
    images.gpt(machine.root / "dev/nvme0n1")
    images.ext4(machine.root / "dev/nvme0n1", MIB)
    assert "--overwrite-signature ext4 --overwrite-signature gpt" in refusal(machine)
    assert "/dev/nvme0n1p1 holds ext4" in refusal(machine, consent=["gpt"])
    said = refusal(machine, consent=["gpt", "ext4", "xfs"])
    assert "--overwrite-signature xfs names what is not there: look again" in said
    take(machine, consent=["gpt", "ext4"]).close()


def test_several_things_of_a_type_are_counted_before_one_consent_is_for_all(machine: Machine) -> None:
    for at in (MIB, 16 * MIB):
        images.ext4(machine.root / "dev/nvme0n1", at)
    said = refusal(machine)
    assert said.endswith("if all that may be lost (2 times ext4, on /dev/nvme0n1p1, /dev/nvme0n1p2): "
                         "--overwrite-signature ext4")  # fmt: skip
    take(machine, consent=["ext4"]).close()


def test_an_empty_consent_is_none_and_one_that_is_not_needed_is_known(machine: Machine) -> None:
    for consent in ([""], ["ext4", " "]):
        assert "an empty --overwrite-signature says nothing" in refusal(machine, consent=consent)
    with take(machine, consent=["xfs"]) as guard:
        assert guard.unneeded == ["xfs"]
    images.xfs(machine.root / "dev/nvme0n1")
    with take(machine, consent=["xfs"]) as guard:
        assert guard.unneeded == []


def test_consent_is_no_consent_to_anything_in_use(machine: Machine) -> None:
    images.xfs(machine.root / "dev/nvme0n1")
    machine.put("/proc/self/mountinfo", MOUNT.format("259:0", "/data", "xfs", "/dev/nvme0n1"))
    assert "mounted at /data" in refusal(machine, consent=["xfs"])
    # Nor is it offered where it would not help.
    said = refusal(machine)
    assert "holds xfs" in said and "--overwrite-signature" not in said


def test_a_drive_that_was_overwritten_once_needs_no_other_command(machine: Machine) -> None:
    take(machine, consent=["xfs"]).close()


def test_a_drive_that_cannot_be_looked_at_is_refused_consent_or_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise CannotLook("libblkid.so.1 is missing: apt install libblkid1")

    monkeypatch.setattr(drive_signatures, "_library", fail)
    assert "/dev/nvme0n1: libblkid.so.1 is missing: apt install libblkid1" in refusal(machine)
    assert "libblkid1" in refusal(machine, consent=["ext4"])


# The drive goes away

def test_a_drive_that_goes_away_ends_the_run_whatever_comes_back(machine: Machine) -> None:
    with take(machine) as guard:
        guard.check()
        machine.pull("nvme0n1")
        with pytest.raises(Gone, match="/dev/nvme0n1 is not used any more: the drive went away"):
            guard.check()
        machine.drive()
        machine.devices.sizes["259:0"] = images.SIZE
        with pytest.raises(Gone, match="went away"):
            guard.check()


def test_a_drive_without_size_or_without_sysfs_is_gone(machine: Machine) -> None:
    with take(machine) as guard:
        machine.devices.sizes["259:0"] = 0
        with pytest.raises(Gone, match="went away"):
            guard.check()
    machine.devices.sizes["259:0"] = images.SIZE
    with take(machine) as guard:
        (machine.root / "sys/dev/block/259:0").unlink()
        with pytest.raises(Gone, match="went away"):
            guard.check()
    assert "/dev/nvme0n1 is gone" in refusal(machine)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("device/serial", "S9", "serial changed"), ("wwid", "eui.9", "wwid changed"),
        ("nsid", "3", "nsid changed"), ("diskseq", "8", "diskseq changed"),
        ("size", "4096", "67108864 bytes"),
    ],
)  # fmt: skip
def test_another_drive_under_its_number_ends_the_run(
    machine: Machine, file: str, text: str, says: str
) -> None:
    with take(machine) as guard:
        machine.put(f"/sys/block/nvme0n1/{file}", text)
        with pytest.raises(Gone, match=says):
            guard.check()


def test_a_disk_that_the_kernel_counts_anew_ends_the_run(machine: Machine) -> None:
    machine.devices.sequences["259:0"] = "7"
    with take(machine) as guard:
        guard.check()
        machine.devices.sequences["259:0"] = "9"
        with pytest.raises(Gone, match="diskseq changed"):
            guard.check()


def test_a_drive_of_another_size_ends_the_run(machine: Machine) -> None:
    with take(machine) as guard:
        machine.devices.sizes["259:0"] = MIB
        with pytest.raises(Gone, match=f"it had {images.SIZE} bytes, and has {MIB} now"):
            guard.check()


def test_a_drive_that_goes_away_while_it_is_claimed_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claimed(path: str, flags: int) -> int:
        descriptor = machine.devices.open(path, flags | os.O_EXCL)
        machine.put("/sys/block/nvme0n1/wwid", "eui.9")
        return descriptor

    monkeypatch.setattr(machine.devices, "claim", claimed)
    assert "wwid changed" in refusal(machine)


# Reading only

def test_a_run_that_reads_knows_the_drive_and_claims_nothing(machine: Machine) -> None:
    machine.put("/proc/self/mountinfo", MOUNT.format("259:1", "/a", "xfs", "x"))
    images.xfs(machine.root / "dev/nvme0n1", MIB)
    with observe("/dev/nvme0n1", system=machine.system, devices=machine.devices) as guard:
        assert guard.identity.record()["serial"] == "S1"
        guard.check()
        assert not [flags for _, flags in machine.devices.opened if flags & (os.O_EXCL | os.O_RDWR)]
        machine.pull("nvme0n1")
        with pytest.raises(Gone):
            guard.check()


def test_a_name_that_leads_to_another_drive_ends_the_run(machine: Machine) -> None:
    machine.drive("nvme5n1", "259:9", serial="S5", wwid="eui.5")
    with take(machine) as guard:
        guard.check()
        (machine.root / "sys/class/block/nvme0n1").unlink()
        machine.link("/sys/class/block/nvme0n1", "/sys/class/block/nvme5n1")
        with pytest.raises(Gone, match="the name leads to another device now, 259:9"):
            guard.check()
        assert guard.descriptor >= 0


def test_a_run_that_reads_wants_the_drive_that_was_named(machine: Machine) -> None:
    for demand in (Demand("S2"), Demand(wwid="eui.1"), Demand(nsid="9")):
        with pytest.raises(Refused, match="/dev/nvme0n1 is not measured: its"):
            observe("/dev/nvme0n1", demand, machine.system, machine.devices)
    observe("/dev/nvme0n1", Demand("S1", nsid="1"), machine.system, machine.devices).close()


def test_a_claim_is_tried_for_a_while(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks what a new drive is claims it for a moment."""
    other = machine.devices.open(str(machine.root / "dev/nvme0n1"), os.O_RDONLY | os.O_EXCL)
    machine.devices.patience_s = 60
    monkeypatch.setattr("dmabuf_common.drive_devices.time.sleep", lambda _: os.close(other))
    take(machine).close()
