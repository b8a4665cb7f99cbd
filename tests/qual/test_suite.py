# SPDX-License-Identifier: GPL-2.0-only
"""A run from case to case: the kernel's log is read after each, and a run that goes on mixes nothing."""

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import kmsg, measuring
from dmabuf_common.drive_guard import Demand, Gone
from dmabuf_common.drive_identity import Identity, Node
from dmabuf_common.nvme import Health
from dmabuf_common.sysfs import System
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS
from dmabuf_qual import cases, cli, environment, judge, judge_steady, requirements, results, rules, suite
from dmabuf_qual.cases import Case
from dmabuf_qual.drive import Drive
from dmabuf_qual.errors import QualError
from dmabuf_qual.execute import Bench
from dmabuf_qual.preflight import Check
from dmabuf_qual.store import Record
from dmabuf_qual.tools import Tools

DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", 10**12,
              512, 0, False, 131072)  # fmt: skip
NEEDS = requirements.load(None)
FACTS = [["kernel", "7.1", "subject"], ["module srcversion", "A", "subject"],
         ["engine", "B", "subject"], ["drive firmware", "F", "subject"], ["fio", "fio-3.41", "key"],
         ["IOMMU", "DMA-FQ", "key"], ["PCIe link", "16.0 GT/s PCIe x4", "key"],
         ["IOMMU group", "3", "state"]]  # fmt: skip


class Machine:
    """What stands for the drive, the kernel's log and the cases of a run."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.log = folder / "kmsg"
        self.log.write_text("")
        self.number = 0
        self.facts = [list(fact) for fact in FACTS]
        self.boot = "boot-1"
        self.done: list[str] = []
        self.during: Callable[[Case], None] = lambda _case: None
        self.iops = 100.0
        self.written = 0

    def say(self, text: str, skip: int = 0) -> None:
        """A message of the kernel's, before which as many others were overwritten."""
        self.number += 1 + skip
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"6,{self.number},1,-;{text}\n")

    def run(self, _bench: Bench, case: Case) -> Record:
        """A case that is right."""
        self.during(case)
        self.done.append(case.id)
        record: Record = {
            "id": case.id, "kind": case.kind, "requirement": case.requirement, "exporter": case.exporter,
            "path": case.path, "test": case.test, "params": case.params, "started": 0.0, "seconds": 1.0,
            "bounces_seen": True, "findings": [],
        }  # fmt: skip
        if case.kind == "integrity":
            return {**record, "compared_bytes": 1, "transfers": 1, "facts": {}}
        figures = {"read_iops": self.iops, "read_mib_s": self.iops, "read_mean_us": 1.0}
        record |= {"figures": figures, "runtime_s": 60.0, "size": "100%", "written_bytes": self.written,
                   "report": {"proven": True, "datapath": case.path, "proof": "counted"}}  # fmt: skip
        if case.kind == "precondition":
            # All of the drive, twice, as fast as all else.
            twice = 2 * DRIVE.bytes
            record |= {"written_bytes": twice, "runtime_s": 60.0 * twice / (self.written or twice)}
        return record


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)

    class Log(kmsg.KernelLog):
        """Reads a file line by line, as the device gives a record each time."""

        def messages(self) -> list[str]:
            found: list[str] = []
            if not self.readable:
                return found
            for line in made.log.read_text().splitlines():
                if int(line.split(",")[1]) > self.newest:
                    self._add(found, line)
            return found

    def newest(_path: str = "") -> int:
        return made.number

    monkeypatch.setattr(measuring, "FOLDERS", (tmp_path,))
    monkeypatch.setattr(kmsg, "PATH", str(made.log))
    monkeypatch.setattr(kmsg, "KernelLog", Log)
    monkeypatch.setattr(kmsg, "newest", newest)
    monkeypatch.setattr(Bench, "run", lambda bench, case: made.run(bench, case))
    monkeypatch.setattr(suite.drives, "health", lambda _drive: None)
    monkeypatch.setattr(environment, "facts", lambda *_: [list(fact) for fact in made.facts])
    works = {"works": True, "name": "", "text": "", "facts": {}}
    monkeypatch.setattr(suite, "probe", lambda _t, _d, _e, path: {**works, "works": path == "premapped"})
    return made


class Held:
    """What stands for the guard of a drive that stays where it is."""

    identity = Identity(Node("nvme9n1", "259:9", "nvme9n1", 0, 10**12), serial="S")

    def check(self) -> None:
        """It is."""


FULL = {"scale": cases.Scale(1 << 20, 60, 1, True), "quick": False}


def start(
    machine: Machine, resume: bool = False, said: list[str] | None = None, **changes: Any
) -> dict[str, rules.Judged]:
    """A run to its end; the verdicts. `said`: gets what the run says."""
    boot = machine.folder / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True, exist_ok=True)
    boot.write_text(machine.boot)
    words = {"exporters": ["udmabuf"], "needs": NEEDS, "scale": cases.QUICK, "quick": True, **changes}
    request = suite.Request(DRIVE, machine.folder / "q", resume=resume, guard=Held(), **words)  # type: ignore[arg-type]
    one = suite.Suite(request, Tools("i", "e", machine.folder), System(machine.folder / "root"))
    machine.done.clear()
    if said is not None:
        machine.patch.setattr(suite, "say", said.append)
    try:
        return {judged.id: judged for judged in one.execute()}
    finally:
        one.store.release()


def at(machine: Machine, number: int, act: Callable[[], None]) -> None:
    """Does something while the case with this number, from 1 on, is at work."""
    def during(_case: Case) -> None:
        if len(machine.done) + 1 == number:
            act()

    machine.during = during


def stop() -> None:
    raise KeyboardInterrupt


def die() -> None:
    """As a kill does it: nothing of what a program does at its end is done."""
    raise SystemExit


def leave() -> None:
    """As the drive does it."""
    raise Gone("/dev/nvme9n1 is not used any more: the drive went away")


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


def stop_after(machine: Machine, number: int, end: Callable[[], None] = stop) -> Callable[[Case], None]:
    def during(_case: Case) -> None:
        if len(machine.done) + 1 == number:
            end()

    return during


@pytest.mark.parametrize("name", [fact[0] for fact in FACTS if fact[2] != "state"])
def test_a_run_does_not_go_on_with_something_else(machine: Machine, name: str) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.during = lambda _case: None
    for fact in machine.facts:
        if fact[0] == name:
            fact[1] = "another"
    with pytest.raises(QualError, match=f"its {name} was .* and is 'another'"):
        start(machine, resume=True)
    assert machine.done == []


def test_a_run_does_not_go_on_without_what_was_there(machine: Machine) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.facts = [fact for fact in machine.facts if fact[0] != "module srcversion"]
    with pytest.raises(QualError, match="its module srcversion was 'A' and is None"):
        start(machine, resume=True)


def test_the_state_may_change_between_the_parts_of_a_run(machine: Machine) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.during = lambda _case: None
    machine.facts[-1][1] = "4"
    before = 4
    start(machine, resume=True)
    assert machine.done[0].startswith("integrity/") and len(machine.done) > before


def rounds(machine: Machine) -> list[str]:
    """The parts of the window that were done, in order."""
    return list(dict.fromkeys(one.split("/")[1] for one in machine.done if one.startswith("steady/")))


def test_the_window_and_the_preconditioning_are_of_one_uninterrupted_run(machine: Machine) -> None:
    def during(case: Case) -> None:
        if case.id.startswith("steady/round-04"):
            stop()

    machine.during = during
    with pytest.raises(KeyboardInterrupt):
        start(machine, **FULL)
    assert rounds(machine) == ["precondition", "round-01", "round-02", "round-03"]
    machine.during = lambda _case: None
    # What lay there a week is another drive: 3 old rounds and 2 new ones would be "steady".
    judged = start(machine, resume=True, **FULL)["performance.steady"]
    assert judged.status == PASS
    assert rounds(machine) == ["precondition", *(f"round-{n:02}" for n in range(1, 6))]


def test_the_retention_region_is_looked_at_before_cells_overwrite_it(machine: Machine) -> None:
    start(machine, **FULL, only=["integrity/*", "perf/*"])
    cells = [number for number, name in enumerate(machine.done) if name.startswith("perf/")]
    assert cells and machine.done.index("integrity/lay") < machine.done.index("integrity/check") < min(cells)


def test_rounds_of_another_part_are_not_counted(machine: Machine) -> None:
    start(machine, **FULL)
    store = suite.Store(machine.folder / "q")
    run = store.load()
    records = dict(store.records)
    assert verdict_of(records, run).status == PASS
    for key, record in records.items():
        if key.startswith("steady/round-0") and key.split("/")[1] in ("round-01", "round-02"):
            records[key] = {**record, "part": record["part"] - 1}
    assert verdict_of(records, run).status == INCONCLUSIVE
    pre = records["steady/precondition"]
    records["steady/precondition"] = {**pre, "part": 7}
    assert verdict_of(records, run).status == INCONCLUSIVE


def verdict_of(records: dict[str, Record], run: dict[str, Any]) -> rules.Judged:
    return next(v for v in judge.judge(records, run, NEEDS) if v.id == "performance.steady")


def test_a_steady_state_that_was_reached_is_not_done_again(machine: Machine) -> None:
    def during(case: Case) -> None:
        if case.kind == "cell":
            stop()

    machine.during = during
    with pytest.raises(KeyboardInterrupt):
        start(machine, **FULL)
    machine.during = lambda _case: None
    assert start(machine, resume=True, **FULL)["performance.steady"].status == PASS
    assert rounds(machine) == []


def test_whether_swiotlb_copied_is_told_of_all_parts(machine: Machine) -> None:
    good = start(machine, **FULL)["path.proven"]
    assert good.status == PASS and "could not be seen" not in good.text
    store = suite.Store(machine.folder / "q")
    run = store.load()
    records = dict(store.records)
    key = next(key for key in records if key.startswith("perf/"))
    records[key] = {**records[key], "bounces_seen": False}
    judged = next(v for v in judge.judge(records, run, NEEDS) if v.id == "path.proven")
    assert "could not be seen" in judged.text


def test_what_preflight_found_goes_with_each_part(machine: Machine) -> None:
    slow = Check("LINK_DOWNTRAINED", "warn", "x4 of x8", "reseat it")
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, preflight=[slow])
    machine.during = lambda _case: None
    well = Check("link", "ok", "x8")
    judged = start(machine, resume=True, preflight=[well])["machine.ready"]
    assert judged.status == INCONCLUSIVE and "x4 of x8" in judged.text


def test_two_runs_on_one_machine_do_not_measure_each_other(machine: Machine) -> None:
    order: list[str] = []

    def first() -> None:
        with measuring.alone([measuring.LOCAL], "another", order.append):
            began.set()
            end = time.monotonic() + 60
            while not any("another" in text for text in said) and time.monotonic() < end:
                time.sleep(0.01)
            order.append(f"the other ends before {len(machine.done)} cases")

    said: list[str] = []
    began = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    began.wait(60)
    start(machine, said=said)
    thread.join()
    assert order == ["the other ends before 0 cases"]
    assert "another" in said[0] and "waits" in said[0]


def test_the_tests_that_were_asked_for_are_done_in_their_order(machine: Machine) -> None:
    scale = cases.Scale(1 << 20, 60, 1, True, tests="iops,throughput,latency,saturation")
    machine.written = DRIVE.bytes
    judged = start(machine, scale=scale, quick=False)
    done = list(dict.fromkeys(one.split("/")[0] for one in machine.done))
    assert done == ["integrity", "saturation", "steady", "throughput-128k", "throughput-1m", "latency", "perf",
                    "integrity-after"]  # fmt: skip
    # Four times the drive, and then five rounds each, every one with a preconditioning of its own.
    assert sum(one.startswith("saturation/") for one in machine.done) == 4
    assert sum(one.endswith("/precondition") for one in machine.done) == 4
    for name in ("steady", "throughput", "latency", "saturation"):
        assert judged[f"performance.{name}"].status == PASS, judged[f"performance.{name}"]


def test_a_latency_test_that_was_interrupted_begins_anew_and_the_iops_test_does_not(machine: Machine) -> None:
    scale = cases.Scale(1 << 20, 60, 1, True, tests="iops,latency")

    def during(case: Case) -> None:
        if case.id.startswith("latency/round-03"):
            stop()

    machine.during = during
    with pytest.raises(KeyboardInterrupt):
        start(machine, scale=scale, quick=False)
    machine.during = lambda _case: None
    judged = start(machine, resume=True, scale=scale, quick=False)
    assert not rounds(machine)
    assert machine.done[0] == "latency/precondition"
    assert judged["performance.latency"].status == judged["performance.steady"].status == PASS


class Counter:
    """A drive's SMART log that counts what was written."""

    def __init__(self, machine: Machine, each: int = 0) -> None:
        self.written, self.each, self.machine = 10**12, each, machine
        machine.patch.setattr(suite.drives, "health", lambda _drive: self.health())
        machine.during = self.during

    def during(self, _case: Case) -> None:
        self.written += self.each

    def health(self) -> Health:
        return Health(critical=0, temperature_c=30, used_percent=1, written_bytes=self.written, media_errors=0,
                      spare_threshold=10)  # fmt: skip


def test_a_run_ends_before_more_is_written_than_was_allowed(machine: Machine) -> None:
    counter = Counter(machine, each=100 << 20)
    limit = 1 << 30
    start(machine, most_written=limit)
    assert counter.written - 10**12 <= limit
    assert 3 <= len(machine.done) <= 10
    run = suite.Store(machine.folder / "q").load()
    assert run["ended"].startswith("MOST_WRITTEN: ") and "finished" not in run
    # The drive is still there, and its health is looked at.
    assert run["health_after"]["written_bytes"] == counter.written
    assert results.summary([], run).status == INCONCLUSIVE
    # The same limit lets nothing more be done, a larger one all the rest.
    before = len(machine.done)
    start(machine, resume=True, most_written=limit)
    assert machine.done == []
    start(machine, resume=True, most_written=1 << 40)
    assert len(machine.done) > before and "ended" not in suite.Store(machine.folder / "q").load()


def test_a_counter_that_stands_still_lets_no_more_be_written(machine: Machine) -> None:
    Counter(machine)
    # Each of the first cases may write 256 MiB: four fit exactly.
    start(machine, most_written=1 << 30)
    assert len(machine.done) == 4
    ended = suite.Store(machine.folder / "q").load()["ended"]
    assert ended.startswith("MOST_WRITTEN: 1.1 GB of 1.1 GB are written") and "was not begun" in ended


def test_the_health_of_an_earlier_part_is_not_that_of_the_end(machine: Machine) -> None:
    counter = Counter(machine)
    assert start(machine, most_written=1 << 30)["drive.health"].status == PASS
    for end in (stop, die, leave):
        machine.during = stop_after(machine, 2, end)
        try:
            start(machine, resume=True)
        except (KeyboardInterrupt, SystemExit):
            pass
        assert "health_after" not in suite.Store(machine.folder / "q").load()
    run, records = results.load(machine.folder / "q")
    judged = next(one for one in judge.judge(records, run, NEEDS) if one.id == "drive.health")
    assert judged.status == INCONCLUSIVE
    del counter


def test_what_was_written_before_rounds_began_anew_counts_too(machine: Machine) -> None:
    def during(case: Case) -> None:
        if case.id.startswith("steady/round-02"):
            stop()

    Counter(machine)
    machine.during, machine.written = during, 10**12
    with pytest.raises(KeyboardInterrupt):
        start(machine, **FULL)
    machine.during = lambda _case: None
    # 57 TB so far, and each case writes one more.
    start(machine, resume=True, most_written=100 * 10**12, **FULL)
    assert 30 < len(machine.done) <= 43


@pytest.mark.parametrize("end", [stop, die, leave])
def test_a_case_that_was_stopped_may_have_written_all_of_its_own(machine: Machine, end: Callable[[], None]) -> None:
    counter = Counter(machine)

    def during(case: Case) -> None:
        if case.kind == "precondition":
            # As far as it came; the drive's own counter does not show it.
            end()

    machine.during = during
    for part in range(3):
        try:
            start(machine, resume=part > 0, most_written=5 * 10**12, **FULL)
        except (KeyboardInterrupt, SystemExit):
            pass
        run = suite.Store(machine.folder / "q").load()
        # Two whole preconditionings of 2 TB each, and no third.
        assert run.get("ended", "").startswith("MOST_WRITTEN") == (part == 2), run.get("ended")
    del counter


def test_a_case_that_was_done_after_all_counts_once(machine: Machine) -> None:
    Counter(machine)
    machine.during = stop_after(machine, 2)
    with pytest.raises(KeyboardInterrupt):
        start(machine, most_written=1 << 40)
    machine.during = lambda _case: None
    # Three cases and the stopped one: 256 MiB each.
    start(machine, resume=True, most_written=1 << 30)
    assert machine.done == ["integrity/udmabuf/premapped/read", "integrity/udmabuf/premapped/write"]


def test_what_was_begun_is_read_with_care(machine: Machine) -> None:
    start(machine)
    with open(machine.folder / "q" / "begun.jsonl", "a", encoding="utf-8") as file:
        file.write('{"id": "integrity/lay", "part": 1, "may_write": NaN}\n')
    with pytest.raises(QualError, match="no case that began"):
        suite.Store(machine.folder / "q").load()


def test_a_case_that_wrote_more_than_was_thought_possible_is_told(machine: Machine) -> None:
    counter = Counter(machine)
    last = cases.planned(["udmabuf"], {"udmabuf": ["premapped"]}, NEEDS, cases.QUICK)[-1]

    def during(case: Case) -> None:
        counter.written += (1 << 50) if case.id == last.id else 0

    machine.during = during
    start(machine, most_written=1 << 40)
    assert "more than was thought possible" in suite.Store(machine.folder / "q").load()["ended"]


def test_a_smart_log_that_is_gone_ends_a_run_that_counts_by_it(machine: Machine) -> None:
    counter = Counter(machine)
    machine.during = lambda case: machine.patch.setattr(suite.drives, "health", lambda _drive: None)
    del counter
    start(machine, most_written=1 << 40)
    assert len(machine.done) == 1
    assert "cannot be read any more" in suite.Store(machine.folder / "q").load()["ended"]


def test_data_is_looked_at_again_after_the_load(machine: Machine) -> None:
    judged = start(machine, **FULL)
    late = [name for name in machine.done if name.startswith("integrity-after/")]
    assert late == ["integrity-after/lay", "integrity-after/udmabuf/premapped/read",
                    "integrity-after/udmabuf/premapped/write", "integrity-after/udmabuf/premapped/load",
                    "integrity-after/check"]  # fmt: skip
    assert machine.done[-len(late) :] == late and machine.done[-len(late) - 1].startswith("perf/")
    # The made-up load compares one byte.
    assert judged["integrity.after"].status == INCONCLUSIVE and "load did too little" in judged["integrity.after"].text


def test_a_quick_run_does_not_look_again(machine: Machine) -> None:
    start(machine)
    assert not any(name.startswith("integrity-after/") for name in machine.done)


def test_a_run_among_others_does_not_wait_and_is_comparable_with_its_like(machine: Machine) -> None:
    with measuring.alone([measuring.LOCAL], "dmabuf-qual of 2 drives", lambda _text: None):
        start(machine, among=("S", "T"))
    run = suite.Store(machine.folder / "q").load()
    assert run["among"] == ["S", "T"] and len(machine.done) > 3
    with pytest.raises(QualError, match="its among was"):
        start(machine, resume=True)
    machine.folder = machine.folder / "alone"
    machine.folder.mkdir()
    start(machine)
    other = suite.Store(machine.folder / "q").load()
    assert "among" not in other and other["comparability_key"] != run["comparability_key"]


class Others:
    """What stands for the other drives of a run: it is asked whether they are ready."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.asked = machine, False

    def ready(self) -> None:
        self.asked = True
        raise QualError("another drive was refused")

    def qualify(self, *words: str, drive: Drive = DRIVE, needs: requirements.Requirements = NEEDS) -> None:
        """As the program does it, up to the first case."""
        patch, exists = self.machine.patch, Path.exists
        patch.setattr(cli.execute, "need_root", lambda: None)
        patch.setattr(cli.tools, "find", lambda: Tools("i", "e", self.machine.folder))
        patch.setattr(cli, "_examine", lambda *_: [])
        patch.setattr(cli.drive, "health", lambda _drive: None)
        patch.setattr(cli.Path, "exists", lambda path: str(path) == "/dev/dmabuf_rw" or exists(path))
        args = cli.parser().parse_args(["run", "--erase", "--quick", "--output", "o", *words, "/dev/nvme9n1"])
        target = cli.Target("/dev/nvme9n1", Demand("S"), self.machine.folder / "q", "S", ("S", "T"))
        cli._qualify(args, needs, drive, Held(), target, self.ready)  # type: ignore[arg-type]


def stopped_among(machine: Machine) -> None:
    """A run of two drives that was stopped; its folder."""
    machine.during = stop_after(machine, 2)
    with pytest.raises(KeyboardInterrupt):
        start(machine, among=("S", "T"))
    machine.during = lambda _case: None
    machine.done.clear()


def test_what_is_against_a_folder_is_found_before_any_drive_begins(machine: Machine) -> None:
    others = Others(machine)
    with pytest.raises(QualError, match="smaller than"):
        others.qualify(drive=dataclasses.replace(DRIVE, bytes=1 << 20))
    stopped_among(machine)
    with pytest.raises(QualError, match="say --resume"):
        others.qualify()
    with pytest.raises(QualError, match="its requirements was"):
        others.qualify("--resume", needs={**NEEDS, "most_moves": 7})
    holder = suite.Store(machine.folder / "q")
    holder.lock()
    with pytest.raises(QualError, match="another dmabuf-qual"):
        others.qualify("--resume")
    assert not others.asked
    holder.release()


def test_a_drive_that_waits_for_the_others_has_written_nothing(machine: Machine) -> None:
    others = Others(machine)
    with pytest.raises(QualError, match="another drive was refused"):
        others.qualify()
    assert others.asked and machine.done == []
    # So that the same command line begins once the other one is mended.
    assert not (machine.folder / "q" / "run.json").exists()


def test_a_part_that_never_began_is_none(machine: Machine) -> None:
    stopped_among(machine)
    before = (machine.folder / "q" / "run.json").read_text()
    with pytest.raises(QualError, match="another drive was refused"):
        Others(machine).qualify("--resume")
    assert (machine.folder / "q" / "run.json").read_text() == before


def test_the_drives_health_is_kept_after_each_case(machine: Machine) -> None:
    Counter(machine)
    start(machine)
    records = suite.Store(machine.folder / "q")
    records.load()
    assert all(r["health"] == {"critical": 0, "temperature_c": 30} for r in records.records.values())


def test_how_much_the_rounds_will_write_is_said_when_the_drives_speed_is_known(machine: Machine) -> None:
    said: list[str] = []
    machine.written = 180 * 10**9
    start(machine, said=said, **FULL)
    line = next(text for text in said if "MB/s" in text)
    # 180 GB in 60 s; 25 rounds of 28 minutes' worth of writes.
    assert "3000 MB/s" in line and "126.00 TB" in line


def test_where_the_memory_is_is_said_as_the_run_begins(machine: Machine) -> None:
    facts = {"memory": "system", "exporter_device": "/dev/dri/card1"}
    machine.patch.setattr(suite, "probe", lambda _t, _d, _e, path: {
        "works": path == "premapped", "name": "", "text": "", "facts": facts})  # fmt: skip
    device = machine.folder / "root/sys/devices/pci0000:00/0000:02:00.0"
    device.mkdir(parents=True)
    (machine.folder / "root/sys/class/drm/card1").mkdir(parents=True)
    (machine.folder / "root/sys/class/drm/card1/device").symlink_to(device)
    said: list[str] = []
    start(machine, said=said, exporters=["udmabuf", "drm:/dev/dri/card1"])
    assert any("NOT device memory of 0000:02:00.0" in text for text in said)
    run = suite.Store(machine.folder / "q").load()
    assert run["devices"]["drm:/dev/dri/card1"] == "0000:02:00.0"


SPEC = "drm:/dev/dri/card1"


class Card:
    """What stands for an exporter of a device's memory: where it lies, and which device it is."""

    def __init__(self, machine: Machine) -> None:
        self.memory, self.device, self.works = "peer", "0000:41:00.0", True
        machine.patch.setattr(suite, "probe", lambda _t, _d, spec, path: self.probe(spec, path))
        machine.patch.setattr(suite.whereabouts, "address", lambda _s, spec, _f: self.device if spec == SPEC else "")

    def probe(self, spec: str, path: str) -> dict[str, Any]:
        if path != "premapped" or (spec == SPEC and not self.works):
            return {"works": False, "name": "NOT_AVAILABLE", "text": "no"}
        return {"works": True, "name": "", "text": "", "facts": {"memory": self.memory if spec == SPEC else "system"}}


@pytest.mark.parametrize(("change", "says"), [
    ({"memory": "system"}, "its memory of drm:/dev/dri/card1 was .*peer.* and is .*system"),
    ({"device": "0000:02:00.0"}, "its device of drm:/dev/dri/card1 was '0000:41:00.0' and is '0000:02:00.0'"),
])  # fmt: skip
def test_a_run_does_not_go_on_with_another_memory(machine: Machine, change: dict[str, str], says: str) -> None:
    card = Card(machine)
    both = ["udmabuf", SPEC]
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, exporters=both)
    machine.during = lambda _case: None
    # After the next boot card1 is the card of the management controller.
    machine.boot = "boot-2"
    for name, value in change.items():
        setattr(card, name, value)
    with pytest.raises(QualError, match=says):
        start(machine, resume=True, exporters=both)
    assert machine.done == []
    card.memory, card.device = "peer", "0000:41:00.0"
    start(machine, resume=True, exporters=both)
    assert machine.done


def test_an_exporter_that_does_not_work_any_more_is_left_to_its_cases(machine: Machine) -> None:
    card = Card(machine)
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, exporters=["udmabuf", SPEC])
    machine.during = lambda _case: None
    card.works = False
    start(machine, resume=True, exporters=["udmabuf", SPEC])
    assert any(SPEC.replace("/", "_") in name for name in machine.done)


@pytest.mark.parametrize("end", [stop, die])
@pytest.mark.parametrize("number", [1, 3])
def test_a_saturation_that_was_stopped_saw_the_drive_fresh_and_no_other_does(
    machine: Machine, end: Callable[[], None], number: int
) -> None:
    scale = cases.Scale(1 << 20, 60, 1, True, tests="iops,saturation")
    machine.written = DRIVE.bytes

    def during(case: Case) -> None:
        if case.id.startswith(f"saturation/round-{number:02}"):
            end()

    machine.during = during
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        start(machine, scale=scale, quick=False)
    machine.during = lambda _case: None
    said: list[str] = []
    judged = start(machine, resume=True, said=said, scale=scale, quick=False)["performance.saturation"]
    assert judged.status == INCONCLUSIVE
    # Nor are four drives' worth written for that.
    assert not any(name.startswith("saturation/") for name in machine.done)
    assert any("purge" in text for text in said)


def test_a_saturation_of_a_used_drive_does_not_pass(machine: Machine) -> None:
    scale = cases.Scale(1 << 20, 60, 1, True, tests="iops,saturation")
    machine.written = DRIVE.bytes
    assert start(machine, scale=scale, quick=False)["performance.saturation"].status == PASS
    store = suite.Store(machine.folder / "q")
    store.load()
    lines = [r for r in store.all if r["id"].startswith("saturation/")]
    for record in lines:
        # As an earlier release did it.
        store.add({**record, "part": 2})
    run, records = results.load(machine.folder / "q")
    judged = next(v for v in judge.judge(records, run, NEEDS) if v.id == "performance.saturation")
    assert judged.status == INCONCLUSIVE and "not fresh" in judged.text and "purge" in judged.remedy


def test_a_pause_ends_the_rounds(machine: Machine) -> None:
    right, clock = machine.run, [1e9]

    def slow(bench: Bench, case: Case) -> Record:
        clock[0] += 12 * 3600 if case.id == "steady/round-05/100-1m" else 0
        record = {**right(bench, case), "started": clock[0]}
        record["seconds"] = record.get("runtime_s", 1.0)
        clock[0] += record["seconds"] + 1
        return record

    machine.patch.setattr(Bench, "run", slow)
    assert start(machine, **FULL)["performance.steady"].status == INCONCLUSIVE
    assert rounds(machine)[-1] == "round-05"
    assert start(machine, resume=True, **FULL)["performance.steady"].status == INCONCLUSIVE
    assert rounds(machine)[0] == "precondition"


WRITES = {"only": ["perf/*/write-1m-8/*"], "most_written": 100 * 10**9, **FULL}


class Fast:
    """A drive that writes 12 GB in each second of a measurement, while --write-speed says 1 GB."""

    def __init__(self, machine: Machine, smart: bool, layer: bool) -> None:
        self.counter, self.sectors, self.seconds = Counter(machine), 0, 0
        self.stat = machine.folder / "root/sys/block/nvme9n1/stat"
        self.stat.parent.mkdir(parents=True)
        self.stat.write_text("0 0 0 0 0 0 0")
        self.smart, self.layer, right = smart, layer, machine.run

        def run(bench: Bench, case: Case) -> Record:
            for _ in range(60):
                self.second()
                bench.tick()
            return {**right(bench, case), "written_bytes": 60 * 12 * 10**9}

        machine.patch.setattr(Bench, "run", run)
        machine.patch.setattr(suite.budget, "LOOK_S", 0.0)

    def second(self) -> None:
        self.seconds += 1
        self.counter.written += 12 * 10**9 if self.smart else 0
        self.sectors += 12 * 10**9 // 512 if self.layer else 0
        self.stat.write_text(f"0 0 0 0 0 0 {self.sectors}")


@pytest.mark.parametrize(("smart", "layer"), [(True, False), (False, True), (True, True)])
def test_a_drive_faster_than_it_was_thought_to_be_is_stopped_in_time(machine: Machine, smart: bool, layer: bool) -> None:
    fast = Fast(machine, smart, layer)
    judged = start(machine, **WRITES)
    run = suite.Store(machine.folder / "q").load()
    assert 2 * 12 < fast.seconds * 12 <= 100
    assert run["ended"].startswith("MOST_WRITTEN: ") and "in the middle" in run["ended"]
    assert judged["performance.paths"].status == INCONCLUSIVE
    # The case has no record, and is done anew when more may be written.
    fast.seconds = 0
    start(machine, resume=True, **{**WRITES, "most_written": 10**13})
    assert fast.seconds >= 60
    assert "ended" not in suite.Store(machine.folder / "q").load()


def test_without_a_limit_no_counter_is_read_in_the_middle(machine: Machine) -> None:
    fast = Fast(machine, True, True)
    looked: list[int] = []
    right = fast.counter.health
    machine.patch.setattr(suite.drives, "health", lambda _drive: (looked.append(fast.seconds), right())[1])
    start(machine, **{**WRITES, "most_written": None})
    assert fast.seconds and not [one for one in looked if one % 60]
    # Nor where a case writes nothing.
    looked.clear()
    machine.folder = machine.folder / "reads"
    machine.folder.mkdir()
    fast.smart = fast.layer = False
    start(machine, **{**WRITES, "only": ["perf/*/read-1m-8/*"]})
    assert fast.seconds and not [one for one in looked if one % 60]
