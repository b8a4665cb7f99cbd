# SPDX-License-Identifier: GPL-2.0-only
"""What was found slower: not green while it is there, not red when it is gone, and found when it comes again."""

from pathlib import Path

import pytest
from dmabuf_nightly import analyse, judge
from dmabuf_nightly.store import Series
from made import Made
from test_sides import TEXT, against_a


def nights(made: Made, *levels: float, spread: float = 0.01) -> list[int]:
    """Nights at these levels, judged in their order; what each came to, as an exit status."""
    numbers = [made.night(made.runs(level, 10, spread)) for level in levels]
    made.call("analyze")
    ends = {"pass": 0, "fail": 1, "inconclusive": 77}
    return [ends[made.store.night(number).status or ""] for number in numbers]


@pytest.mark.parametrize(("good", "slow", "again", "level"),
                         [(20, 8, 3, 900), (20, 5, 20, 900), (20, 5, 20, 600)])
def test_a_loss_that_comes_again_is_found_again(tmp_path: Path, good: int, slow: int, again: int, level: float) -> None:
    made = Made(tmp_path / "s.db", seed=4)
    nights(made, *[1000] * good)
    assert 1 in nights(made, *[level] * slow)
    assert nights(made, *[1000] * again)[-1] == 0
    found = nights(made, *[level] * 8)
    assert 1 in found[:5]
    assert 0 not in found[found.index(1) :]


@pytest.mark.parametrize("good", [6, 7, 8])
def test_a_loss_after_few_good_nights_is_found(tmp_path: Path, good: int) -> None:
    for seed in range(1, 9):
        made = Made(tmp_path / f"{seed}.db", seed)
        nights(made, *[1000] * good)
        found = nights(made, *[500] * 8)
        assert 1 in found[:5] and set(found[found.index(1) :]) == {1}, (seed, found)


def test_what_was_found_against_a_baseline_is_not_green_while_it_is_there(tmp_path: Path) -> None:
    for seed in range(1, 7):
        made = Made(tmp_path / f"{seed}.db", seed)
        nights(made, *[1000] * 20, spread=0.03)
        made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
        found = nights(made, *[960] * 20, spread=0.03)
        assert 1 in found[:8] and 0 not in found[found.index(1) :], (seed, found)


@pytest.mark.parametrize("pinned", [True, False])
def test_what_was_mended_is_red_no_more(tmp_path: Path, pinned: bool) -> None:
    for seed in range(1, 7):
        made = Made(tmp_path / f"{seed}.db", seed)
        nights(made, *[1000] * 20, spread=0.03)
        if pinned:
            made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
        assert 1 in nights(made, *[900] * 6, spread=0.03)
        found = nights(made, *[1000] * 8, spread=0.03)
        assert 1 not in found and found.count(0) >= 6, (seed, found)


def sides(made: Made, *ratios: float) -> list[str]:
    """Nights in which side B gives these shares of what side A does; what was decided about B against A."""
    numbers = []
    for ratio in ratios:
        with made.store.transaction():
            number = made.store.add_night("night", "p", TEXT, "h", 1, "")
            made.store.add_runs(number, 0, [(Series("c", s, "local"), n) for n in range(10) for s in "AB"])
        for run in made.store.runs(number):
            made.complete(run.id, made.runs(1000 if run.series.side == "A" else 1000 * ratio, 1, 0.03)[0])
        made.store.finish(number, "measured", "")
        numbers.append(number)
    made.call("analyze")
    return [against_a(made, number).state for number in numbers]


def test_sides_that_were_mended_are_red_no_more(tmp_path: Path) -> None:
    for seed in range(1, 21):
        made = Made(tmp_path / f"{seed}.db", seed)
        assert "confirmed" in sides(made, 1, 1, 0.9, 0.9, 0.9)
        found = sides(made, 1, 1)
        assert "confirmed" not in found, (seed, found)


def test_what_is_neither_slow_nor_mended_runs_again(tmp_path: Path) -> None:
    """A loss of 4 %, of which the night says little."""
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 12)
    assert 1 in nights(made, *[960] * 6)
    night = made.night(made.runs(985, 10, 0.03))
    plan = analyse.plan_of(made.store, made.store.night(night))
    judgement = judge.judge(made.store, plan, night, reruns=True)
    assert judgement.to_rerun() == [Series("c", "", "local")]
    assert "neither" in judgement.findings[0].text
    made.rerun(night, 1000)
    assert made.call("analyze") == 0
    assert made.store.decisions(night)[0]["state"] == "cleared"
