# SPDX-License-Identifier: GPL-2.0-only
"""Figures that are all the same, as percentiles in fio's bins can be, and figures that are zero."""

from pathlib import Path

import pytest
from dmabuf_common import stats
from dmabuf_nightly.nights import beyond_nights
from dmabuf_nightly.question import Question
from dmabuf_nightly.store import Series
from made import Made
from test_mended import nights
from test_sides import TEXT, against_a


def night(made: Made, ratio: float) -> int:
    """A measured night of two sides, each of which gives one figure in all its runs."""
    with made.store.transaction():
        number = made.store.add_night("night", "p", TEXT, "h", 1, "")
        made.store.add_runs(number, 0, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
    for run in made.store.runs(number):
        made.complete(run.id, 1000.0 if run.series.side == "A" else 1000.0 * ratio)
    made.store.finish(number, "measured", "")
    return number


def test_sides_without_any_noise_are_mended(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    ended = []
    for ratio in (1, 1, 0.9, 0.9, 0.9, 1, 1, 1):
        number = night(made, ratio)
        ended.append(made.call("analyze"))
    assert ended == [0, 0, 77, 1, 1, 0, 0, 0]
    assert against_a(made, number).state == "same"
    assert not any(row["document"]["hold"] for row in made.store.decisions(number))


def test_nights_without_any_noise_are_compared() -> None:
    """With a floor of 0 there is nothing that nights differ by."""
    past = [[100.0] * 10] * 8
    for level, worse in ((99.0, True), (100.0, False), (101.0, False)):
        asked = Question(0, "higher", 0.0, [100.0] * 30, [level] * 10, [100.0] * 8, past_runs=past, old_nights=3)
        assert beyond_nights(asked, stats.Contrast(asked.old, asked.new), 12) is worse


@pytest.mark.parametrize("pinned", [True, False])
def test_nights_of_zero_are_no_program_error(tmp_path: Path, pinned: bool) -> None:
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 3)
    if pinned:
        made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    for _ in range(8):
        made.night([0.0] * 10)
    assert made.call("analyze") == 77
    found = nights(made, *[900] * 4)
    assert found[-1] == (1 if pinned else 77)
