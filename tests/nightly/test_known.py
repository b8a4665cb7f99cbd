# SPDX-License-Identifier: GPL-2.0-only
"""What is acknowledged: against which of two things, by which ratio, and for how long."""

from pathlib import Path

import pytest
from dmabuf_nightly.store import Series, Store
from made import Made
from test_migrate import HERE, filled
from test_sides import TEXT

WHAT = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "known")
SIDE = (*WHAT, "--side", "B")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "s.db")


def night(made: Made, ratio: float) -> int:
    """A measured night in which side B gives this share of what side A does."""
    with made.store.transaction():
        number = made.store.add_night("night", "p", TEXT, "h", 1, "")
        made.store.add_runs(number, 0, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
    for run in made.store.runs(number):
        made.complete(run.id, made.runs(1000 if run.series.side == "A" else 1000 * ratio, 1)[0])
    made.store.finish(number, "measured", "")
    return number


def both_fail(made: Made) -> dict[str, float]:
    """Side B is slower than its baseline and than side A; the ratios."""
    for _ in range(8):
        night(made, 1)
    made.call("analyze")
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    for _ in range(3):
        number = night(made, 0.9)
        made.call("analyze")
    rows = [row for row in made.store.decisions(number) if row["state"] == "confirmed"]
    return {row["against"]: row["document"]["ratio"] for row in rows}


def known(made: Made) -> list[str]:
    return [r["against"] for r in made.store.db.execute(
        "SELECT against FROM acknowledged WHERE ended IS NULL ORDER BY against")]


def test_both_that_fail_can_be_known(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(both_fail(made)) == {"baseline", "side A"}
    assert made.call(*SIDE) == 2
    assert "against baseline and side A; say which by --against" in capsys.readouterr().err
    assert made.call(*SIDE, "--against", "baseline") == 0
    assert made.call("analyze") == 1
    assert made.call(*SIDE, "--against", "A") == 0
    assert known(made) == ["baseline", "side A"] and made.call("analyze") == 0
    assert made.call(*SIDE[:-4], "--side", "B", "--end", "--against", "side A") == 0
    assert known(made) == ["baseline"] and made.call("analyze") == 1


def test_a_ratio_of_both_is_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    ratios = both_fail(made)
    same = f"{ratios['baseline']:.3f}"
    made.store.db.execute("UPDATE decision SET document = json_set(document, '$.ratio', ?) WHERE against = 'side A' "
                          "AND night = 11", (float(same),))
    assert made.call(*SIDE, "--ratio", same) == 2
    assert "given by baseline and side A; say which by --against" in capsys.readouterr().err
    assert made.call(*SIDE, "--ratio", same, "--against", "A") == 0
    assert known(made) == ["side A"]


@pytest.mark.parametrize("by_ratio", [False, True])
def test_a_loss_of_nights_together_is_known_as_large_as_it_is_tonight(made: Made, by_ratio: bool) -> None:
    for ratio in (1, 1, 0.9, 0.9):
        number = night(made, ratio)
        ended = made.call("analyze")
    assert ended == 1
    row = next(r for r in made.store.decisions(number) if r["against"] == "side A")
    assert row["document"]["ratio"] > 0.92 > row["document"]["own"]
    more = ("--ratio", f"{row['document']['ratio']:.3f}") if by_ratio else ()
    if by_ratio:
        made.store.db.execute("DELETE FROM decision")  # they are in a copy
        made.store.db.execute("UPDATE night SET status = 'measured'")
    assert made.call(*SIDE, *more) == 0
    assert made.call("analyze") == 0
    for _ in range(2):
        night(made, 0.9)
        assert made.call("analyze") == 0
    night(made, 0.8)
    assert made.call("analyze") == 1


def levels(made: Made, *given: float) -> list[int]:
    ended = []
    for level in given:
        made.night(level)
        ended.append(made.call("analyze"))
    return ended


def test_what_is_known_ends_with_its_hold(made: Made) -> None:
    levels(made, *[1000] * 20)
    assert levels(made, *[900] * 5)[-1] == 1
    assert made.call(*WHAT) == 0
    assert levels(made, 900) == [0]
    assert levels(made, *[1000] * 12)[-1] == 0
    assert made.call(*WHAT[:-2], "--end") == 2  # nothing is known any more
    assert 1 in levels(made, *[700] * 6)
    # The nights of its time are still known to be so.
    assert made.call("analyze", "--night", "26") == 0
    assert made.store.decisions(26)[0]["document"]["acknowledged"] == "known"


def test_a_night_before_a_pin_stays_known(made: Made) -> None:
    levels(made, *[1000] * 6)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert levels(made, 900, 900)[-1] == 1
    assert made.call(*WHAT) == 0
    assert levels(made, 900) == [0]
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "7,8,9", "--replace") == 0
    assert made.call("analyze", "--night", "9") == 0
    assert made.call(*WHAT[:-2], "--end") == 2


@pytest.mark.parametrize("old", ["version-2", "version-3"])
def test_what_an_earlier_release_knew_is_known(tmp_path: Path, old: str) -> None:
    text = (HERE / f"stores/{old}.sql").read_text()
    row = "INSERT INTO acknowledged VALUES(1,'p','c','','local','read_iops','baseline',3,0.8,'x','2026-11-04',NULL);"
    store = Store(filled(text.replace("CREATE TABLE baseline (", row + "\nCREATE TABLE baseline (", 1), tmp_path / "s.db"))
    found = store.db.execute("SELECT ratio, own, until FROM acknowledged").fetchall()
    assert [tuple(one) for one in found] == [(0.8, None, None)]
