# SPDX-License-Identifier: GPL-2.0-only
"""A drive is claimed only when nothing is on it, or what is there was consented to."""

from pathlib import Path

import images
import pytest
from drives import Machine
from guarded import MIB, MOUNT, refusal, refused_or_taken, take

from dmabuf_common import drive_guard, drive_signatures
from dmabuf_common.drive_signatures import CannotLook


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
            assert f"/dev/nvme0n1 holds {kind}" in said and "only where nothing of it is needed" in said
            assert "--overwrite-signature" not in said
        images.put(machine.root / "dev/nvme0n1", 0, bytes(MIB))
    images.gpt(machine.root / "dev/nvme0n1")
    take(machine, "/dev/nvme0n1p2").close()


def test_no_refusal_tells_to_destroy_what_nobody_has_looked_at(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds the bytes of a partition may be all that somebody has."""
    images.md(machine.root / "dev/nvme0n1")
    said = refusal(machine, "/dev/nvme0n1p2")
    assert "find out whose that is" in said and "wipe" not in said and "itself" not in said
    images.put(machine.root / "dev/nvme0n1", 0, bytes(MIB))
    images.dos(machine.root / "dev/nvme0n1")
    monkeypatch.setattr(drive_guard, "MOST_PARTITIONS", 1)
    assert "only where none of that is needed" in refusal(machine)
    monkeypatch.setattr(drive_signatures._library(), "blkid_probe_get_partitions", lambda _: None)
    assert "only where nothing of it is needed" in refusal(machine)


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
                         "--overwrite-signature ext4")
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
