# SPDX-License-Identifier: GPL-2.0-only
"""Two sides that are only measured: the nights before agree, or they do not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from dmabuf_common import stats
from dmabuf_nightly import analyse, judged
from dmabuf_nightly.question import Finding
from dmabuf_nightly.states import SAME, SUSPECT
from dmabuf_nightly.store import Series
from made import KEY, PLAN, Made

TEXT = PLAN.format(plan="p") + '[sides.A]\n[sides.B]\n[compare]\nold = "A"\nnew = "B"\n'


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "s.db")


def night(made: Made, ratio: float, level: float = 1000, key: Mapping[str, str] = KEY) -> int:
    """A measured night in which side B gives this share of what side A does."""
    with made.store.transaction():
        number = made.store.add_night("night", "p", TEXT, "h", 1, "")
        made.store.add_runs(number, 0, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
    for run in made.store.runs(number):
        value = level if run.series.side == "A" else level * ratio
        made.complete(run.id, made.runs(value, 1, 0.03)[0], key)
    made.store.finish(number, "measured", "")
    return number


def against_a(made: Made, number: int) -> Finding:
    found = analyse.judge_night(made.store, made.store.night(number)).findings
    return next(f for f in found if judged.subject(f).against == "side A")


def test_a_side_that_stays_slower_fails(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    ended = []
    for level in (1000, 1040, 960, 1000):  # what a night has of its own, both sides have
        night(made, 0.9, level)
        ended.append(made.call("analyze"))
    assert ended == [77, 1, 1, 1]
    said = capsys.readouterr().out
    assert "read_iops of nights 1, 2 together is" in said and "worse than side A" in said


def test_one_slower_night_does_not_fail(made: Made) -> None:
    for ratio in (1, 0.9, 1, 1, 0.9):
        night(made, ratio)
        assert made.call("analyze") in (0, 77)
    assert "confirmed" not in [row["state"] for row in made.store.decisions()]


def test_a_night_that_is_as_fast_is_good_after_slower_ones(made: Made) -> None:
    for ratio in (0.85, 0.85, 1.0):
        number = night(made, ratio)
    assert made.call("analyze") == 0
    assert against_a(made, number).state == SAME


def test_nights_of_another_machine_do_not_agree(made: Made) -> None:
    night(made, 0.9, key={**KEY, "CPU": "another"})
    number = night(made, 0.9)
    assert made.call("analyze") == 77
    assert against_a(made, number).question.sides == []


def test_it_is_acknowledged_by_the_ratio_of_the_report(made: Made) -> None:
    for _ in range(2):
        number = night(made, 0.9)
    what = ("acknowledge", "--plan", "p", "--case", "c", "--side", "B", "--metric", "read_iops", "--note", "x")
    assert made.call(*what, "--ratio", "0.5") == 2
    found = against_a(made, number).judged
    assert isinstance(found, stats.Contrast)
    strata = stats.Strata([*against_a(made, number).question.sides, (
        against_a(made, number).question.old, against_a(made, number).question.new)])
    assert made.call(*what, "--ratio", f"{strata.ratio:.3f}") == 0
    assert made.call("analyze") == 0


def test_strata_are_compared_each_with_its_own() -> None:
    """Nights that differ by 10 % hide a loss of 5 % in what is thrown together, and not by night."""
    nights = [([level + i for i in range(10)], [0.95 * (level + i) for i in range(10)])
              for level in (1000.0, 1100.0, 1200.0)]
    strata = stats.Strata(nights)
    thrown = stats.Contrast(strata.old, strata.new)
    assert strata.ratio == pytest.approx(0.95) and strata.interval[1] < 0.96
    assert strata.p < 1e-9 < 0.01 < thrown.p
    equal = stats.Strata([(old, old) for old, _ in nights])
    assert equal.p == pytest.approx(1) and equal.interval[0] < 1 < equal.interval[1]
    same = [5.0] * 6
    assert stats.Strata([(same, same)]).p == 1.0
    # One stratum is the Mann-Whitney test, but for its correction for continuity.
    one = stats.Strata([([float(i) for i in range(20)], [i + 4.5 for i in range(20)])])
    assert one.p == pytest.approx(stats.rank_p(one.old, one.new), rel=0.1)


@pytest.mark.parametrize("other", ["job", "machine"])
def test_what_another_job_or_machine_confirmed_confirms_nothing(made: Made, other: str) -> None:
    """A single night that is slower there is suspect, as it is where nothing was before."""
    ended = []
    for _ in range(2):
        night(made, 0.9)
        ended.append(made.call("analyze"))
    assert ended == [77, 1]
    number = night(made, 0.9, key={**KEY, "CPU": "another"} if other == "machine" else KEY)
    if other == "job":
        job = made.store.add_facts({"bs": "128k", "iodepth": "1"})
        made.store.db.execute("UPDATE run SET job = ? WHERE night = ?", (job, number))
    assert made.call("analyze") == 77
    assert (against_a(made, number).state, against_a(made, number).extra) == (SUSPECT, {})
    # A night of something else says nothing about what was found here.
    number = night(made, 0.9)
    assert made.call("analyze") == 1
    assert against_a(made, number).text.endswith("as it was since night 2")


def test_what_both_sides_confirmed_is_kept_from_night_to_night(made: Made) -> None:
    for _ in range(5):
        number = night(made, 0.9)
        made.call("analyze")
    assert against_a(made, number).text.endswith("as it was since night 2")
