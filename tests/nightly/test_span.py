# SPDX-License-Identifier: GPL-2.0-only
"""A night is judged by the baseline that was in force in its time, and no later pin changes what it came to."""

import json
import re
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, baseline
from dmabuf_nightly.store import Store
from dmabuf_nightly.states import CONFIRMED
from made import SERIES, Made
from test_migrate import HERE, filled


def replaced(made: Made) -> None:
    """Three slow nights that failed, of which two were pinned then."""
    for level in (900, 900, 900):
        made.night(level)
    assert made.call("analyze") == 1
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "7,8", "--replace") == 0


def test_a_later_pin_does_not_change_what_a_night_came_to(made: Made) -> None:
    replaced(made)
    assert made.call("analyze", "--night", "9") == 1
    assert made.store.night(9).status == "fail"
    assert made.store.decisions(9)[0]["document"]["baseline"] == 1


def test_a_report_and_a_page_have_the_baseline_of_the_decision(made: Made, tmp_path: Path) -> None:
    replaced(made)
    assert made.call("report", "--night", "9", "--out", str(tmp_path / "out"), "--format", "json") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["verdict"]["status"] == "fail"
    assert found["comparisons"][0]["old_name"] == "baseline of nights 1, 2, 3"
    assert found["histories"][0]["baseline"] == pytest.approx(1000, rel=0.02)
    assert made.call("publish", "--plan", "p", "--out", str(tmp_path / "www")) == 0
    assert "worse than baseline of nights 1, 2, 3" in (tmp_path / "www/night-0009/index.html").read_text()


def test_a_fresh_copy_judges_as_it_was_judged_in_place(made: Made, tmp_path: Path) -> None:
    """Nothing is decided in it, and all pins are there from the beginning."""
    copy = tmp_path / "copy.db"
    for level in (900, 900, 900):
        made.night(level)
    made.call("baseline", "pin", "--plan", "p", "--nights", "7,8,9", "--replace")
    for level in (900, 880):
        made.night(level)
    made.store.db.execute("VACUUM INTO ?", (str(copy),))
    ended = [made.call("analyze", "--night", str(night)) for night in range(7, 12)]
    assert ended == [77, 1, 1, 0, 77]
    copied = Made(copy)
    copied.store.db.execute("DELETE FROM decision")
    copied.store.db.execute("UPDATE night SET status = 'measured'")
    copied.call("analyze")
    for store in (made.store, copied.store):
        assert [n.status for n in store.nights()][6:] == ["inconclusive", "fail", "fail", "pass", "inconclusive"]
    rows = [[(r["state"], r["document"]) for n in range(7, 12) for r in s.decisions(n)]
            for s in (made.store, copied.store)]
    assert rows[0] == rows[1]


def test_eras_of_later_pins_are_none_of_an_earlier_night(made: Made) -> None:
    replaced(made)
    question = analyse.judge_night(made.store, made.store.night(9)).findings[0].question
    assert set(question.eras) == {1} and len(question.eras) == 8


def test_the_first_baseline_holds_from_its_own_nights_on(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for _ in range(6):
        made.night(1000)
    made.call("baseline", "pin", "--plan", "p", "--nights", "3,4")
    made.call("baseline", "pin", "--plan", "p", "--nights", "5", "--replace")
    made.night(1000)
    found = [baseline.in_force(made.store, "p", n).get(SERIES) for n in range(1, 8)]
    assert [one.id if one else None for one in found] == [None, None, 1, 1, 1, 1, 2]


def test_a_night_that_was_judged_without_one_stays_so(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for level in [1000.0] * 12 + [900.0] * 5:
        made.night(level)
    assert made.call("analyze", "--need-baseline") == 77
    assert made.call("analyze", "--night", "1") == 77
    assert made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    assert made.call("analyze") == 77
    text = made.store.decisions(17)[0]["document"]["text"]
    assert text.startswith("no baseline was pinned when this night was judged first, and one was demanded")


@pytest.mark.parametrize("old", ["version-1", "version-2", "version-3"])
def test_pins_of_an_earlier_release_have_their_span(tmp_path: Path, old: str) -> None:
    text = (HERE / f"stores/{old}.sql").read_text()
    text = re.sub(r"'2026-11-\d\dT\d\d:\d\d:\d\dZ','\[1, 2\]'", "'2026-11-03T12:00:00Z','[1, 2]'", text)
    store = Store(filled(text, tmp_path / "s.db"))
    assert [row["last_night"] for row in store.db.execute("SELECT last_night FROM baseline")] == [3]
    assert baseline.in_force(store, "p", 3)[SERIES].id == 1
    assert CONFIRMED == store.decisions(3)[0]["state"]
