# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log is read after each case, and what is lost of it is no clean log."""

from collections.abc import Callable

import pytest
from runs import Machine, die, start, stop_after

from dmabuf_common import kmsg
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS
from dmabuf_qual.cases import Case
from dmabuf_qual.execute import Bench
from dmabuf_qual.store import Record


def at(machine: Machine, number: int, act: Callable[[], None]) -> None:
    """Does something while the case with this number, from 1 on, is at work."""
    def during(_case: Case) -> None:
        if len(machine.done) + 1 == number:
            act()

    machine.during = during


def test_a_run_without_a_complaint_has_a_log_that_says_so(machine: Machine) -> None:
    at(machine, 3, lambda: machine.say("eth0: link is up"))
    assert start(machine)["drive.log"].status == PASS


def test_a_complaint_during_a_case_is_kept_with_it(machine: Machine) -> None:
    at(machine, 3, lambda: machine.say("nvme nvme9: I/O tag 5 QID 2 timeout, aborting"))
    judged = start(machine)["drive.log"]
    assert (judged.status, judged.names) == (FAIL, ["KERNEL_LOG"])
    assert machine.done[2] in judged.evidence[0][0]


def test_requests_that_an_iommu_stops_have_their_name_in_the_record(machine: Machine) -> None:
    gpu = machine.folder / "root/sys/bus/pci/devices/0000:0a:00.0"
    gpu.mkdir(parents=True)
    (gpu / "resource").write_text("0x00000000fe200000 0x00000000fe2fffff 0x0000000000040200\n")
    right = machine.run

    def wrong(bench: Bench, case: Case) -> Record:
        record = right(bench, case)
        if case.test == "read" and case.kind == "integrity":
            machine.say("DMAR: [DMA Write NO_PASID] Request device [09:00.0] fault addr 0xfe200000 [fault reason 0x05]")
            record["facts"] = {"memory": "peer", "pci": "0000:0a:00.0"}
            record["findings"] = [{"name": "READ_NOT_LANDED", "text": "t", "count": 1}]
        return record

    machine.patch.setattr(Bench, "run", wrong)
    judged = start(machine)["integrity.read"]
    assert judged.names == ["IOMMU_UNMAPPED_PEER", "READ_NOT_LANDED"]
    assert judged.text.startswith("IOMMU_UNMAPPED_PEER: udmabuf premapped read")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("nvme nvme8: I/O tag 5 QID 2 timeout, aborting", PASS),
        ("nvme8n1: I/O Cmd(0x2) @ LBA 0, 8 blocks, I/O Error (sct 0x2 / sc 0x81)", PASS),
        ("critical medium error, dev nvme8n1, sector 0", PASS),
        ("pcieport 0000:07:00.0: AER: Corrected error received: 0000:08:00.0", PASS),
        ("nvme 0000:08:00.0: frozen state error detected, reset controller", PASS),
        ("nvme nvme8: WARNING: CPU: 0 PID: 7 at drivers/nvme/host/pci.c:1", FAIL),
        ("nvme nvme8: IO_PAGE_FAULT at 0x0", FAIL),
        ("nvme 0000:09:00.0: frozen state error detected, reset controller", FAIL),
        ("nvme nvme9: I/O tag 5 QID 2 timeout, aborting", FAIL),
        ("nvme9n1: I/O Cmd(0x2) @ LBA 0, 8 blocks, I/O Error (sct 0x2 / sc 0x81)", FAIL),
        ("nvme nvme9: Removing after probe failure status: -19", FAIL),
        ("nvme 0000:09:00.0: PCIe Bus Error: severity=Correctable", FAIL),
        ("pcieport 0000:07:00.0: AER: Corrected error received: 0000:09:00.0", FAIL),
        ("DMAR: [DMA Write NO_PASID] Request device [08:00.0] fault addr 0x0", FAIL),
        ("AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:08:00.0 address=0x0]", FAIL),
        ("I/O error, dev dm-3, sector 0", FAIL),
        ("e1000 0000:08:00.0: swiotlb buffer is full (sz: 4096 bytes)", FAIL),
        ("BUG: kernel NULL pointer dereference in nvme8", FAIL),
        ("WARNING: CPU: 1 PID: 1 at drivers/nvme/host/core.c nvme nvme8", FAIL),
    ],
)
def test_another_drive_does_not_fail_this_one(machine: Machine, line: str, status: str) -> None:
    at(machine, 3, lambda: machine.say(line))
    assert start(machine)["drive.log"].status == status


def test_a_log_of_which_a_part_was_overwritten_is_inconclusive(machine: Machine) -> None:
    at(machine, 3, lambda: machine.say("fine", skip=4000))
    judged = start(machine)["drive.log"]
    assert judged.status == INCONCLUSIVE
    assert machine.done[2] in judged.text


def test_a_flood_that_hides_itself_does_not_hide_what_was_read_before(machine: Machine) -> None:
    def during(_case: Case) -> None:
        if len(machine.done) == 2:
            machine.say("nvme 0000:09:00.0: AER: aer_status: 0x00000001")
        if len(machine.done) == 9:
            machine.log.write_text("")
            machine.say("fine", skip=100_000)

    machine.during = during
    assert start(machine)["drive.log"].names == ["KERNEL_LOG"]


def test_a_log_that_cannot_be_read_is_inconclusive(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmsg, "PATH", str(machine.folder / "none"))
    judged = start(machine)["drive.log"]
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert "cannot be read" in judged.text


def test_a_kill_with_its_boot_loses_the_end_of_the_log(machine: Machine) -> None:
    at(machine, 5, die)
    with pytest.raises(SystemExit):
        start(machine)
    machine.during = lambda _case: None
    machine.say("nvme nvme9: controller is down; will reset", skip=0)
    # The same boot: what was said after the kill is still there.
    assert start(machine, resume=True)["drive.log"].status == FAIL


def test_a_crash_of_the_machine_is_no_clean_log(machine: Machine) -> None:
    at(machine, 5, die)
    with pytest.raises(SystemExit):
        start(machine)
    machine.during = lambda _case: None
    machine.boot, machine.number = "boot-2", 0
    machine.log.write_text("")
    judged = start(machine, resume=True)["drive.log"]
    assert judged.status == INCONCLUSIVE and "boot" in judged.text


def test_a_stop_and_another_boot_lose_nothing_of_the_log(machine: Machine) -> None:
    at(machine, 5, lambda: machine.say("nvme nvme9: I/O timeout"))
    machine.during, first = stop_after(machine, 7), machine.during
    both = machine.during
    machine.during = lambda case: (first(case), both(case))[0]
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.during = lambda _case: None
    machine.boot, machine.number = "boot-2", 0
    machine.log.write_text("")
    assert start(machine, resume=True)["drive.log"].names == ["KERNEL_LOG"]
