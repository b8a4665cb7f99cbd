# SPDX-License-Identifier: GPL-2.0-only
"""A plan says hours and bytes of all that a run does, and at the most what it may become."""

import dataclasses
from pathlib import Path

import pytest
from dmabuf_qual import cases, plan, requirements
from dmabuf_qual.drive import Drive

NEEDS = requirements.load(None)
BYTES = 4 * 10**12
DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", BYTES, 512, 0,
              False, 131072)
FULL = cases.Scale(16 << 30, 60, 5, True)
SPEED = 2e9


def parts(tests: str) -> dict[str, plan.Part]:
    made = plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, tests=tests), SPEED)
    return {part.name: part for part in made}


def test_each_test_has_its_preconditioning_and_its_rounds() -> None:
    alone, every = parts("iops"), parts("iops,throughput,latency,saturation")
    assert set(every) - set(alone) == {
        "write saturation", "preconditioning, throughput-128k", "rounds to the steady state, throughput-128k",
        "preconditioning, throughput-1m", "rounds to the steady state, throughput-1m",
        "preconditioning, latency", "rounds to the steady state, latency"}
    assert every["preconditioning, latency"].written == (2 * BYTES, 2 * BYTES)
    assert every["preconditioning, latency"].seconds[0] == pytest.approx(2 * BYTES / SPEED)
    # 9 cells of 61.5 s, five rounds of them to 25.
    assert every["rounds to the steady state, latency"].seconds == pytest.approx((5 * 9 * 61.5, 25 * 9 * 61.5))
    # Three mixes: none, a third and all of it writes.
    assert every["rounds to the steady state, latency"].written[1] == pytest.approx(25 * 60 * SPEED * 3 * 1.35)
    assert every["rounds to the steady state, throughput-1m"].written[1] == pytest.approx(25 * 60 * SPEED)


def test_the_iops_test_writes_what_its_mixes_do_not_read() -> None:
    rounds = parts("iops")["rounds to the steady state"]
    assert rounds.seconds == pytest.approx((5 * 56 * 61.5, 25 * 56 * 61.5))
    assert rounds.written[1] == pytest.approx(25 * 60 * SPEED * 8 * 3.5)


def test_saturation_writes_the_drive_four_times_or_takes_a_day() -> None:
    most = parts("saturation")["write saturation"]
    assert most.written[1] == pytest.approx(4 * BYTES + 60 * SPEED)
    assert most.seconds[0] == pytest.approx((4 * BYTES / SPEED + 60) / 60 * 61.5)
    assert most.seconds[1] == pytest.approx(1440 * 61.5)


def test_without_the_iops_test_nothing_of_it_is_planned() -> None:
    assert "preconditioning" not in parts("latency")


def test_a_night_is_long_enough_for_what_is_advised() -> None:
    made = plan.parts(DRIVE, 1, NEEDS, FULL, SPEED)
    lines = plan.advice(DRIVE, 1, NEEDS, FULL, SPEED)
    assert plan.total(made).seconds[1] > plan.NIGHT_S
    seconds = int(next(word for word in lines[0].split() if word.isdecimal()))
    assert f"--cell-seconds {seconds}" in lines[0] and "not SNIA's" in lines[0]
    fits = plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, cell_seconds=seconds), SPEED)
    more = plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, cell_seconds=seconds + 1), SPEED)
    assert plan.total(fits).seconds[1] <= plan.NIGHT_S < plan.total(more).seconds[1]
    assert "--resume" in lines[1] and "in one piece" in lines[1]


def test_a_drive_that_takes_a_night_to_fill_is_measured_in_part() -> None:
    slow = plan.advice(DRIVE, 1, NEEDS, FULL, 1e8)
    assert "--size" in slow[0]
    size = next(word for word in slow[0].split() if word.endswith("%"))
    words = {"cell_seconds": plan.LEAST_CELL_S, "size": size}
    assert plan.total(plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, **words), 1e8)).seconds[1] <= plan.NIGHT_S


def test_what_fits_needs_no_advice() -> None:
    assert plan.advice(DRIVE, 1, NEEDS, cases.QUICK, SPEED) == []


def test_hours_and_bytes_in_a_sentence() -> None:
    text = plan.sentence(plan.parts(DRIVE, 1, NEEDS, FULL, SPEED))
    assert " to " in text and " h" in text and "at least 8." in text and " TB" in text and "up to" in text
    quick = plan.sentence(plan.parts(DRIVE, 1, NEEDS, cases.QUICK, SPEED))
    assert "min" in quick or " s" in quick


def test_a_part_of_the_drive_is_filled_in_part() -> None:
    half = plan.parts(DRIVE, 1, NEEDS, dataclasses.replace(FULL, size="50%"), SPEED)
    assert {p.name: p for p in half}["preconditioning"].written == (BYTES, BYTES)


@pytest.mark.parametrize("speed", [1000, 3000, 7000])
def test_the_documentation_has_the_figures_of_the_plan(speed: int) -> None:
    text = (Path(__file__).parents[2] / "docs/qualification.md").read_text()
    usual = cases.usual(NEEDS, False)
    whole = plan.total(plan.parts(DRIVE, 2, NEEDS, usual, speed * 1e6))
    row = (f"| 4 TB, {speed} MB/s | {plan.span(whole.seconds)} | {plan.amount(whole.written[0])} | "
           f"{plan.amount(whole.written[1])} |")
    assert row in text, row
    if speed == 3000:
        short = next(word for word in plan.advice(DRIVE, 2, NEEDS, usual, speed * 1e6)[0].split() if word.isdecimal())
        fast = plan.total(plan.parts(DRIVE, 2, NEEDS, dataclasses.replace(usual, cell_seconds=int(short)), speed * 1e6))
        assert f"`--cell-seconds {short}` makes it {plan.span(fast.seconds)}" in text


def test_a_plug_in_is_asked_to_disturb_its_memory_where_that_may_be_premapped() -> None:
    paths = {"udmabuf": ["premapped"], "plugin:/a.so": ["premapped", "bvec"], "plugin:/b.so": ["bvec"], "fd:/s": ["premapped"]}
    listed = cases.before_measuring(list(paths), paths, NEEDS)
    faults = [(case.exporter, case.path, case.test) for case in listed if case.test in cases.FAULTS]
    assert faults == [*(("", "premapped", test) for test in cases.FAULTS),
                      ("plugin:/a.so", "premapped", "invalidate"), ("plugin:/a.so", "premapped", "revoke")]
    assert {case.requirement for case in listed if case.test == "revoke"} == {"faults.revoke"}
    assert len({case.id for case in listed}) == len(listed)
