# SPDX-License-Identifier: GPL-2.0-only
"""What stored nights come to: which are compared, in which order, and what is kept of it."""

from pathlib import Path

import pytest
from dmabuf_nightly import analyse, judge, judged
from dmabuf_nightly.states import INCONCLUSIVE, SAME, SUSPECT
from dmabuf_nightly.store import Series
from made import KEY, PLAN, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "s.db")


def states(made: Made, night: int) -> list[str]:
    return [row["state"] for row in made.store.decisions(night)]


def six_good_nights(made: Made, plan: str = "p") -> None:
    for _ in range(6):
        made.night(1000, plan)
    assert made.call("baseline", "pin", "--plan", plan, "--nights", "1,2,3") == 0


def test_nights_that_are_measured_only_can_fail(made: Made) -> None:
    """Nothing runs again, so another night that agrees decides, as a rerun would."""
    six_good_nights(made)
    ended = []
    for _ in range(3):
        made.night(500)
        ended.append(made.call("analyze", "--plan", "p"))
    assert ended == [77, 1, 1]
    assert [states(made, n) for n in (7, 8, 9)] == [["suspect"], ["confirmed"], ["confirmed"]]
    assert [n.status for n in made.store.nights()] == ["pass"] * 6 + ["inconclusive", "fail", "fail"]


def test_nights_are_judged_in_their_order_whichever_is_asked_for(made: Made, tmp_path: Path) -> None:
    """A copy of the store comes from another machine every morning, with nothing decided in it."""
    six_good_nights(made)
    for _ in range(2):
        made.night(500)
    made.store.db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = Made(tmp_path / "copy.db")
    assert copy.call("analyze") == 1
    assert [states(copy, n) for n in (7, 8)] == [["suspect"], ["confirmed"]]
    # What comes later does not count for what was before.
    again = Made(made.path)
    assert again.call("analyze", "--night", "7") == 77
    assert (states(again, 7), states(again, 8)) == (["suspect"], [])


def test_one_slow_night_among_good_ones_does_not_fail(made: Made) -> None:
    six_good_nights(made)
    ended = []
    for level in (500, 1000, 1000, 500):
        made.night(level)
        ended.append(made.call("analyze"))
    assert ended == [77, 0, 0, 77]


def test_a_night_that_is_not_complete_is_judged_and_not_kept(made: Made) -> None:
    six_good_nights(made)
    made.night(500, status=None, done=8)
    assert made.call("analyze") == 77
    assert (states(made, 7), made.store.night(7).finished) == ([], None)
    for run in made.store.runs(7)[8:]:
        made.complete(run.id, 500)
    assert made.call("analyze") == 77
    assert (states(made, 7), made.store.night(7).status) == (["suspect"], "inconclusive")


def test_a_report_changes_nothing(made: Made, tmp_path: Path) -> None:
    six_good_nights(made)
    made.night(500)
    assert made.call("report", "--out", str(tmp_path / "out"), "--format", "json") == 0
    assert (states(made, 7), made.store.night(7).status) == ([], "measured")


@pytest.mark.parametrize(("level", "status", "state"), [(1000, 0, "cleared"), (500, 1, "confirmed")])
def test_reruns_decide_where_there_are_some(made: Made, level: int, status: int, state: str) -> None:
    six_good_nights(made)
    night = made.night(500, status=None)
    made.rerun(night, level)
    assert made.call("analyze") == status
    assert states(made, night) == [state]


def test_plans_in_one_store_do_not_mix(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Both plans have a case of the same name."""
    six_good_nights(made)
    night = made.night(500, status=None)
    made.rerun(night, 500)
    assert made.call("analyze", "--plan", "p") == 1
    for _ in range(3):
        made.night(1000, "other", status="pass")
    assert made.call("baseline", "pin", "--plan", "other", "--last", "3") == 0
    made.night(940, "other")
    assert made.call("analyze", "--plan", "other") == 77
    assert states(made, 11) == ["suspect"]  # and not confirmed, "as it was since night 7"
    # A good night of the other plan does not make the next slow one of this plan new.
    made.night(1000, "other")
    assert made.call("analyze", "--plan", "other") == 0
    made.night(500)
    capsys.readouterr()
    assert made.call("analyze", "--plan", "p") == 1
    assert "as it was since night 7" in capsys.readouterr().out


def test_nights_of_another_machine_are_no_history(made: Made) -> None:
    """Their medians would widen the usual spread, so that a slow night passes."""
    for level in (700, 1300, 800, 1200, 900, 1100):
        made.night(level, key={"CPU": "another"}, status="pass")
    for _ in range(3):
        made.night(1000, status="pass")
    assert made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    made.night(960)
    judgement = analyse.judge_night(made.store, made.store.night(10))
    assert judgement.findings[0].question.history == pytest.approx([1000] * 3, rel=0.02)
    assert judgement.findings[0].state == SUSPECT


SIDES = PLAN + '[sides.A]\n[sides.B]\n[compare]\nold = "A"\nnew = "B"\n'


@pytest.mark.parametrize(
    ("level", "key", "state"),
    [(1000, KEY, SAME), (900, KEY, SUSPECT),
     (900, {**KEY, "CPU": "another"}, INCONCLUSIVE)],
)
def test_sides_are_compared_on_one_machine(
    made: Made, level: int, key: dict[str, str], state: str
) -> None:
    with made.store.transaction():
        night = made.store.add_night("night", "p", SIDES.format(plan="p"), "h", 1, "")
        made.store.add_runs(night, 0, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
    for run in made.store.runs(night):
        old = run.series.side == "A"
        made.complete(run.id, made.runs(1000 if old else level, 1)[0], KEY if old else key)
    findings = analyse.judge_night(made.store, made.store.night(night)).findings
    found = [f for f in findings if judged.subject(f).against == "side A"]
    assert [f.state for f in found] == [state]
    if state == INCONCLUSIVE:
        assert found[0].text == "the sides ran on different machines: CPU"


def test_reruns_are_no_history_and_few_runs_are_none(made: Made) -> None:
    night = made.night(1000, status="pass")
    made.rerun(night, 500)
    made.night(900, status="pass", done=4)
    made.night(1000)
    question = analyse.judge_night(made.store, made.store.night(3)).findings[0].question
    assert len(question.past_runs) == 1 and min(question.past_runs[0]) > 900


def test_what_was_confirmed_is_confirmed_as_long_as_it_lasts(made: Made) -> None:
    six_good_nights(made)
    night = made.night(500, status=None)
    made.rerun(night, 500)
    assert made.call("analyze") == 1
    for level, state in ((500, "confirmed"), (1000, "same"), (500, "confirmed")):
        # Reruns may come: what is confirmed here is so without them. One good night is no end of it.
        number = made.night(level)
        judgement = judge.judge(made.store, analyse.plan_of(made.store, made.store.night(number)),
                                number, reruns=True)
        assert judgement.findings[0].state == state
        assert bool(judgement.to_rerun()) == (state == "suspect")
        judgement.save()
