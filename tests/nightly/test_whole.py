# SPDX-License-Identifier: GPL-2.0-only
"""Nights that say nothing: they end nothing that is held, and never become what is usual."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, fio
from made import JOB, KEY, SUBJECT, Made
from test_mended import nights


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Twelve good nights, and no baseline."""
    found = Made(tmp_path / "s.db")
    assert set(nights(found, *[1000] * 12)) == {0}
    return found


def partly(made: Made, level: float, unclear: int = 3) -> int:
    """A night of ten runs, of which so many are unclear."""
    number = made.night(level)
    for run in made.store.runs(number)[:unclear]:
        outcome = fio.Outcome(metrics=run.metrics)
        outcome.unclear("the drive throttled")
        made.store.complete(run.id, outcome, 1, KEY, SUBJECT, {}, {}, JOB)
    return number


def given_up(made: Made, level: float) -> int:
    """A night whose drive went away when all of its runs were done."""
    number = made.night(level, status=None)
    made.store.finish(number, "inconclusive", "abandoned: the drive went away")
    return number


def killed(made: Made, level: float) -> int:
    """A night that was killed in its reruns, and that nobody went on with."""
    number = made.night(level, status=None)
    made.rerun(number, level)
    made.store.db.execute("UPDATE run SET state = 'planned' WHERE night = ? AND phase = 2", (number,))
    return number


def hot(made: Made, level: float) -> int:
    """A night of whose reruns all are unclear."""
    number = made.night(level, status=None)
    made.rerun(number, level)
    for run in made.store.runs(number):
        if run.phase:
            outcome = fio.Outcome(metrics=run.metrics)
            outcome.unclear("the drive throttled")
            made.store.complete(run.id, outcome, 1, KEY, SUBJECT, {}, {}, JOB)
    return number


def test_nights_of_too_few_valid_runs_end_nothing(made: Made) -> None:
    assert 1 in nights(made, *[900] * 5)
    for _ in range(3):
        number = partly(made, 1000)
        assert made.call("analyze") == 77
        row = made.store.decisions(number)[0]
        assert row["state"] == "inconclusive" and row["document"]["hold"]["fast"] == 0
        assert row["document"]["text"].startswith("7 of 10 runs are valid: what is left was chosen")
    assert nights(made, 900) == [1]


def test_a_night_of_too_few_valid_runs_is_not_found_slower(made: Made) -> None:
    partly(made, 900)
    made.call("analyze")
    assert nights(made, 900) == [77]  # and not confirmed by the one before


@pytest.mark.parametrize("kind", [partly, given_up, killed, hot])
def test_what_they_gave_is_never_what_is_usual(made: Made, kind: Callable[[Made, float], int]) -> None:
    for _ in range(12):
        number = kind(made, 900)
        analyse.in_order(made.store, made.store.night(number))
        assert made.store.night(number).status in ("inconclusive", "fail", None)
    assert nights(made, *[900] * 3)[-1] == 1


def test_a_suspect_whose_reruns_were_unclear_stays_suspect(made: Made) -> None:
    number = hot(made, 900)
    assert made.call("analyze") == 77
    row = made.store.decisions(number)[0]
    assert row["state"] == "suspect"
    assert row["document"]["text"] == "suspect, and the reruns gave too few valid runs to say more"
    assert nights(made, 900) == [1]
