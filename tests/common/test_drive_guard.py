# SPDX-License-Identifier: GPL-2.0-only
"""A drive is claimed only when it is the one that was meant; and it is given up when it goes away."""

import os
from pathlib import Path

import images
import pytest
from drives import Machine
from guarded import MIB, MOUNT, refusal, take

from dmabuf_common.drive_guard import Demand, Gone, Refused, observe


def test_a_free_drive_that_was_named_is_held_exclusively(machine: Machine) -> None:
    with take(machine) as guard:
        assert guard.identity.serial == "S1"
        assert [one for one in machine.devices.opened if one[1] & os.O_EXCL] == [("259:0", os.O_RDWR | os.O_EXCL)]
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
)
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


def test_where_sysfs_is_not_mounted_that_is_said(machine: Machine) -> None:
    (machine.root / "sys").rename(machine.root / "not-mounted")
    assert "it cannot be seen which drive /dev/nvme0n1 is: mount sysfs at /sys" in refusal(machine)
