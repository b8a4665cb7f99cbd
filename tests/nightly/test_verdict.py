# SPDX-License-Identifier: GPL-2.0-only
"""Nights that must not be green, whatever their valid runs say."""

import math
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, fio, results, runner
from dmabuf_nightly.store import Series
from dmabuf_report import model
from made import KEY, PLAN, SUBJECT, Made


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


def test_an_abandoned_night_is_inconclusive_with_its_reason(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    night = made.night(1000, status=None, done=6)
    made.store.finish(night, "inconclusive", "abandoned: the drive went away")
    assert made.call("analyze") == 77
    assert "abandoned: the drive went away" in judged(made, night).verdict.text
    assert "--resume" not in "".join(capsys.readouterr())
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


@pytest.mark.parametrize("level", [1000, 300, 10])
def test_nights_that_differ_by_half_show_nothing(tmp_path: Path, level: int) -> None:
    made = Made(tmp_path / "s.db")
    for number in range(12):
        made.night([1000, 300][number % 2], status="pass")
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,3,5") == 0
    night = made.night(level)
    found = judged(made, night)
    assert found.verdict.status == "inconclusive"
    assert "nights differ so much that nothing can be shown" in found.verdict.text


def test_rules_of_the_plans_own_are_in_the_sentence(made: Made) -> None:
    text = PLAN.format(plan="p").replace(
        "[parameters]", "[rules]\nmad_factor = 5\n[rules.floors]\niops = 0.04\n[parameters]"
    )
    found = judged(made, made.night(1000, text=text))
    assert found.verdict.text.endswith("Rules of this plan: mad_factor 5.0 (usual: 3.0), floor of iops 0.04.")
    assert "Rules" not in judged(made, made.night(1000)).verdict.text


def test_a_metric_that_the_baseline_lacks_is_not_good(made: Made) -> None:
    text = PLAN.format(plan="p").replace('"read_iops"', '"read_iops", "read_clat_p99"')
    night = made.night(1000, text=text)
    for run in made.store.runs(night):
        spoil(made, run.id, fio.Outcome(metrics={**run.metrics, "read_clat_p99": 1e9}))
    assert made.call("analyze", "--need-baseline") == 77
    assert "has no read_clat_p99" in judged(made, night).verdict.text


def test_a_metric_that_vanished_is_not_good(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    text = PLAN.format(plan="p").replace('metrics = ["read_iops"]\n', "")
    for number in range(4):
        night = made.night(1000, text=text, status="pass")
        if number < 3:
            for run in made.store.runs(night):
                spoil(made, run.id, fio.Outcome(metrics={**run.metrics, "write_iops": 1000.0}))
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    found = judged(made, night)
    assert found.verdict.status == "inconclusive"
    assert "no run of this night has write_iops" in found.verdict.text


def test_a_night_is_not_compared_with_itself(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    night = made.night(500)
    assert made.call("baseline", "pin", "--plan", "p", "--nights", str(night)) == 0
    assert made.call("analyze") == 77
    assert "holds no night but this one" in judged(made, night).verdict.text


def test_a_night_of_the_baseline_is_compared_with_the_others_of_it(made: Made) -> None:
    question = analyse.judge_night(made.store, made.store.night(2)).findings[0].question
    others = [run.metrics["read_iops"] for n in (1, 3) for run in made.store.runs(n)]
    assert (list(question.old), question.old_nights) == (others, 2)


def test_sides_on_a_machine_that_changed_are_not_compared(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    text = PLAN.format(plan="p") + '[sides.A]\n[sides.B]\n[compare]\nold = "A"\nnew = "B"\n'
    with made.store.transaction():
        night = made.store.add_night("night", "p", text, "h", 1, "")
        for phase in (0, 1, 2):
            made.store.add_runs(night, phase, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
    for run in made.store.runs(night):
        fast = run.repeat == 1 or (run.series.side == "A" and run.phase < 2)
        made.complete(run.id, made.runs(1000 if fast else 500, 1)[0], {**KEY, "governor": str(fast)})
    assert made.call("analyze") == 77
    found = {r.id: r for r in judged(made, night).requirements}
    compared = found["c.B.local.read_iops.against-side-A"]
    assert (compared.status, compared.text) == (
        "inconclusive", "the machine changed during the night: governor"
    )


def test_what_is_no_number_makes_its_run_unclear(made: Made) -> None:
    night = made.night(1000)
    for run, value in zip(made.store.runs(night), [math.nan] * 5 + [math.inf] * 5, strict=True):
        spoil(made, run.id, fio.Outcome(metrics={"read_iops": value}))
    found = judged(made, night)
    assert found.verdict.status == "inconclusive" and "read_iops is no number" in found.verdict.text
    # An earlier release stored what is not finite.
    night = made.night(1000)
    made.store.db.execute("UPDATE metric SET value = 9e999 WHERE run IN (SELECT id FROM run WHERE night = ?)",
                          (night,))
    found = judged(made, night)
    assert found.verdict.status == "inconclusive" and "is no number" in found.verdict.text


@pytest.mark.parametrize("column", ["outcome", "conditions", "reasons", "files"])
def test_a_damaged_run_is_named(made: Made, capsys: pytest.CaptureFixture[str], column: str) -> None:
    made.store.db.execute(f"UPDATE run SET {column} = '{{' WHERE id = 60")
    assert made.call("analyze") == 2
    assert f"the store is damaged: {column} of run 60" in capsys.readouterr().err


def test_a_baseline_is_of_nights_that_gave_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made(tmp_path / "s.db")
    for done in (10, 0, 10):
        made.night(1000, done=done)
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,1,1") == 2
    assert "night 1 is named twice" in capsys.readouterr().err
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    assert "baseline of nights 1, 3, 20 runs" in capsys.readouterr().out
