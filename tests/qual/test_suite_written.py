# SPDX-License-Identifier: GPL-2.0-only
"""How much a run may write, what it counts, and when it ends for it."""

from collections.abc import Callable

import pytest
from runs import FULL, Machine, NEEDS, die, start, stop, stop_after

from dmabuf_common.drive_guard import Gone
from dmabuf_common.nvme import Health
from dmabuf_common.verdict import INCONCLUSIVE, PASS
from dmabuf_qual import cases, judge, results, suite
from dmabuf_qual.cases import Case
from dmabuf_qual.errors import QualError
from dmabuf_qual.execute import Bench
from dmabuf_qual.store import Record


def leave() -> None:
    """As the drive does it."""
    raise Gone("/dev/nvme9n1 is not used any more: the drive went away")


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
                      spare_threshold=10)


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


def test_the_drives_health_is_kept_after_each_case(machine: Machine) -> None:
    Counter(machine)
    start(machine)
    records = suite.Store(machine.folder / "q")
    records.load()
    assert all(r["health"] == {"critical": 0, "temperature_c": 30} for r in records.records.values())


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
