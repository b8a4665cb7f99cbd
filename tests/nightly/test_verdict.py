# SPDX-License-Identifier: GPL-2.0-only
"""Nights that must not be green, whatever their valid runs say."""

from pathlib import Path

import pytest
from dmabuf_nightly import analyse, fio, results, runner
from dmabuf_report import model
from made import KEY, SUBJECT, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Six good nights, of which three are pinned."""
    found = Made(tmp_path / "s.db")
    for _ in range(6):
        found.night(1000)
    assert found.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    assert found.call("analyze") == 0
    return found


def judged(made: Made, night: int) -> model.Results:
    """What a night comes to."""
    return results.build(analyse.judge_night(made.store, made.store.night(night)))


def spoil(made: Made, run: int, outcome: fio.Outcome) -> None:
    """A run gave this instead."""
    made.store.db.execute("DELETE FROM metric WHERE run = ?", (run,))
    made.store.complete(run, outcome, 1, KEY, SUBJECT, {}, {})


def test_a_rerun_that_failed_fails_the_night(made: Made) -> None:
    night = made.night(940)
    made.rerun(night, 1000)
    for run in made.store.runs(night, 2):
        outcome = fio.Outcome()
        outcome.fail("Input/output error")
        spoil(made, run.id, outcome)
    assert made.call("analyze") == 1
    found = judged(made, night)
    runs = next(r for r in found.requirements if r.id == "c.local.runs")
    assert (runs.status, runs.text) == ("fail", "10 of 30 runs failed: Input/output error")
    assert found.measurements[0].status == "fail"


def test_an_abandoned_night_is_inconclusive_with_its_reason(made: Made) -> None:
    night = made.night(1000, status=None, done=6)
    made.store.finish(night, "inconclusive", "abandoned: the drive went away")
    assert made.call("analyze") == 77
    assert "abandoned: the drive went away" in judged(made, night).verdict.text
    # One that was run whole and was given up when it was to go on is no night either.
    night = made.night(1000, status=None)
    made.store.finish(night, "inconclusive", "abandoned: booted again")
    assert [made.call("analyze") for _ in range(2)] == [77, 77]
    assert made.store.night(night).abandoned


def test_an_interrupted_night_is_inconclusive(made: Made) -> None:
    night = made.night(1000, status=None, done=8)
    assert made.call("analyze") == 77
    assert "2 of 10 runs are missing" in judged(made, night).verdict.text


@pytest.mark.parametrize(("unclear", "status"), [(2, "pass"), (3, "inconclusive")])
def test_what_is_left_of_many_unclear_runs_is_a_choice(made: Made, unclear: int, status: str) -> None:
    night = made.night(1000)
    for run in made.store.runs(night)[:unclear]:
        outcome = fio.Outcome(metrics={"read_iops": 100.0})
        outcome.unclear("the datapath is not proven")
        spoil(made, run.id, outcome)
    found = judged(made, night)
    assert found.verdict.status == status
    assert status == "pass" or "7 of 10 runs are valid, and at least 80 % of them" in found.verdict.text
    plan = analyse.plan_of(made.store, made.store.night(night))
    assert runner.measured(made.store, plan, night)[0] == status
