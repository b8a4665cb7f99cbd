# SPDX-License-Identifier: GPL-2.0-only
"""A metric that one side, or a night that something is held against, has alone is not good."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, fio, judged
from dmabuf_nightly.store import Series
from made import JOB, KEY, PLAN, SERIES, SUBJECT, Made

ANY = PLAN.format(plan="p").replace('metrics = ["read_iops"]\n', "")
SIDES = '[sides.A]\n[sides.B]\n[compare]\nold = "A"\nnew = "B"\n'
P99 = "read_clat_p99"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "s.db")


def night(made: Made, levels: Mapping[str, Mapping[str, float]], text: str = ANY) -> int:
    """A night in which each side has these metrics; "" without sides."""
    with made.store.transaction():
        number = made.store.add_night("night", "p", text, "h", 1, "")
        made.store.add_runs(number, 0, [(Series("c", side, "local"), n) for n in range(10) for side in levels])
    for run in made.store.runs(number):
        metrics = {name: made.runs(level, 1)[0] for name, level in levels[run.series.side].items()}
        made.store.complete(run.id, fio.Outcome(metrics=metrics), 1, KEY, SUBJECT, {}, {}, JOB)
    made.store.finish(number, "measured", "")
    return number


@pytest.mark.parametrize("who", ["A", "B"])
@pytest.mark.parametrize("text", [ANY, ANY + f'metrics = ["read_iops", "{P99}"]\n'])
def test_a_metric_of_one_side_is_not_good(made: Made, who: str, text: str) -> None:
    levels = {side: {"read_iops": 1000.0, **({P99: 9e6} if side == who else {})} for side in "AB"}
    number = night(made, levels, text + SIDES)
    found = [
        f for f in analyse.judge_night(made.store, made.store.night(number)).findings
        if judged.subject(f).against == "side A" and judged.subject(f).metric == P99
    ]
    assert [f.state for f in found] == ["inconclusive"]
    other = "AB".replace(who, "")
    assert found[0].text == f"side {who} alone has {P99}, and side {other} has none to compare it with"
    assert made.call("analyze") == 77


def test_a_metric_that_is_held_and_vanishes_is_not_good(made: Made) -> None:
    for level in [1e6] * 12 + [1.3e6] * 5:
        night(made, {"": {P99: level, "cpu_per_gib": 5}})
    assert made.call("analyze") == 1
    number = night(made, {"": {"cpu_per_gib": 5}})
    assert made.call("analyze") == 77
    row = next(r for r in made.store.decisions(number) if r["metric"] == P99)
    assert row["document"]["text"] == f"no run of this night has {P99}, which the nights 3 to 12 have"
    assert row["document"]["hold"]
    night(made, {"": {P99: 1.3e6, "cpu_per_gib": 5}})
    assert made.call("analyze") == 1


def test_a_baseline_is_of_the_nights_that_have_the_metric(made: Made) -> None:
    text = ANY + f'metrics = ["{P99}"]\n'
    for number in range(3):
        night(made, {"": {"cpu_per_gib": 5.0, **({P99: 1e6} if number == 0 else {})}}, text)
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    number = night(made, {"": {"cpu_per_gib": 5, P99: 1.2e6}}, text)
    judgement = analyse.judge_night(made.store, made.store.night(number))
    finding = judgement.findings[0]
    assert (len(finding.question.old), finding.question.old_nights) == (10, 1)
    assert f"than baseline of nights 1, 2, 3, of which night 1 has {P99} (" in finding.text
    assert judged.subject(finding).series == SERIES


def test_a_metric_that_is_held_between_sides_and_vanishes_is_not_good(made: Made) -> None:
    for ratio in (1, 1, 1.3, 1.3, 1.3):
        night(made, {s: {P99: 1e6 * (ratio if s == "B" else 1), "cpu_per_gib": 5} for s in "AB"}, ANY + SIDES)
    assert made.call("analyze") == 1
    number = night(made, {s: {"cpu_per_gib": 5} for s in "AB"}, ANY + SIDES)
    assert made.call("analyze") == 77
    row = next(r for r in made.store.decisions(number) if r["metric"] == P99)
    assert (row["against"], row["document"]["text"]) == (
        "side A", f"no run of this night has {P99}, which was slower than side A")
    assert row["document"]["hold"]
    night(made, {s: {P99: 1e6 * (1.3 if s == "B" else 1), "cpu_per_gib": 5} for s in "AB"}, ANY + SIDES)
    assert made.call("analyze") == 1
