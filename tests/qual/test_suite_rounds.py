# SPDX-License-Identifier: GPL-2.0-only
"""The tests of SNIA: which are done, what of them is done again, and when the data is looked at."""

from collections.abc import Callable
from typing import Any

import pytest
from runs import DRIVE, FULL, Machine, NEEDS, die, start, stop

from dmabuf_common.verdict import INCONCLUSIVE, PASS
from dmabuf_qual import cases, judge, results, rules, suite
from dmabuf_qual.cases import Case
from dmabuf_qual.execute import Bench
from dmabuf_qual.store import Record


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


def test_the_tests_that_were_asked_for_are_done_in_their_order(machine: Machine) -> None:
    scale = cases.Scale(1 << 20, 60, 1, True, tests="iops,throughput,latency,saturation")
    machine.written = DRIVE.bytes
    judged = start(machine, scale=scale, quick=False)
    done = list(dict.fromkeys(one.split("/")[0] for one in machine.done))
    assert done == ["integrity", "saturation", "steady", "throughput-128k", "throughput-1m", "latency", "perf",
                    "integrity-after"]
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


def test_data_is_looked_at_again_after_the_load(machine: Machine) -> None:
    judged = start(machine, **FULL)
    late = [name for name in machine.done if name.startswith("integrity-after/")]
    assert late == ["integrity-after/lay", "integrity-after/udmabuf/premapped/read",
                    "integrity-after/udmabuf/premapped/write", "integrity-after/udmabuf/premapped/load",
                    "integrity-after/check"]
    assert machine.done[-len(late) :] == late and machine.done[-len(late) - 1].startswith("perf/")
    # The made-up load compares one byte.
    assert judged["integrity.after"].status == INCONCLUSIVE and "load did too little" in judged["integrity.after"].text


def test_a_quick_run_does_not_look_again(machine: Machine) -> None:
    start(machine)
    assert not any(name.startswith("integrity-after/") for name in machine.done)


def test_how_much_the_rounds_will_write_is_said_when_the_drives_speed_is_known(machine: Machine) -> None:
    said: list[str] = []
    machine.written = 180 * 10**9
    start(machine, said=said, **FULL)
    line = next(text for text in said if "MB/s" in text)
    # 180 GB in 60 s; 25 rounds of 28 minutes' worth of writes.
    assert "3000 MB/s" in line and "126.00 TB" in line


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
