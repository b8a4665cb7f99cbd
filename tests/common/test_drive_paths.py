# SPDX-License-Identifier: GPL-2.0-only
"""A drive that has two names is claimed by both, and refused where the other one is used."""

import os
import subprocess
import sys

import pytest
from drives import Machine
from guarded import MIB, MOUNT, refusal, refused_or_taken, take

from dmabuf_common.drive_guard import Demand, Gone, Refused


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
                              pass_fds=guard.pass_fds) as child:
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
