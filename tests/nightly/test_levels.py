# SPDX-License-Identifier: GPL-2.0-only
"""A level that changed on the way, as after an improvement, is no difference between nights: it hides no
loss, and keeps nothing held."""

import math
from pathlib import Path

import numpy as np
import pytest
from dmabuf_nightly.nights import STEPS_FREEDOM, night_spread
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.question import Question, threshold
from made import Made
from test_mended import nights

RULES = Rules()


def test_levels_do_not_widen_what_counts() -> None:
    rng = np.random.default_rng(1)
    steps = [float(v) for level in (100, 105, 110) for v in rng.normal(level, 0.3, 10)]
    assert threshold(0.01, steps, RULES) == pytest.approx(0.01, abs=0.003)
    drift = [100 - 0.5 * night for night in range(30)]
    assert threshold(0.01, drift, RULES) == pytest.approx(RULES.mad_factor * 0.5 / math.sqrt(2) / 92.75, rel=0.01)
    # Nights that differ from each other do.
    assert threshold(0.01, [100.0, 90.0] * 10, RULES) == pytest.approx(RULES.mad_factor * 5 / 95)
    wide = [float(v) for v in rng.normal(100, 3, 30)]
    assert threshold(0.01, wide, RULES) == pytest.approx(RULES.mad_factor * 0.6745 * 0.03, rel=0.4)


def test_levels_are_no_spread_of_nights() -> None:
    levels = [100.0, 100.4, 99.6, 100.2, 99.8] * 3 + [110.0, 110.4, 109.6, 110.2, 109.8] * 3
    past = [[level * (1 + (i - 4.5) * 0.0001) for i in range(10)] for level in levels]
    spread, freedom = night_spread(Question(0, "higher", 0.001, [], [], levels, past_runs=past))
    assert spread < 0.02 and freedom == pytest.approx(29 * STEPS_FREEDOM)
    # Nights of one level: by what they differ from all others.
    spread, freedom = night_spread(Question(0, "higher", 0.001, [], [], levels[:15], past_runs=past[:15]))
    assert spread == pytest.approx(0.003, rel=0.1) and freedom == 14


@pytest.mark.parametrize("better", [(1050, 1100), (1040, 1080, 1120)])
def test_a_loss_after_improvements_is_found(tmp_path: Path, better: tuple[int, ...]) -> None:
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 10)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert set(nights(made, *[level for level in better for _ in range(10)])) == {0}
    found = nights(made, *[920] * 4)
    assert 0 not in found and 1 in found[:3]


def test_what_is_mended_after_an_improvement_is_green(tmp_path: Path) -> None:
    """It is at the baseline's level again, and not at the better one that came in between."""
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 15)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert set(nights(made, *[1100] * 15)) == {0}
    assert 1 in nights(made, *[900] * 5)
    assert nights(made, *[1000] * 4) == [0] * 4


@pytest.mark.parametrize("measured", [6, 8, 10])
def test_a_pin_of_good_nights_does_not_make_a_loss_green(tmp_path: Path, measured: int) -> None:
    """It was found without a baseline, and good nights of before are pinned while it is there."""
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * measured)
    assert nights(made, *[900] * measured)[-1] == 1
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    found = nights(made, *[900] * 4)
    assert 0 not in found and found[-1] == 1


def test_a_pin_of_other_nights_than_a_baseline_before(tmp_path: Path) -> None:
    """The same where a baseline is replaced by other good nights."""
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 8)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert nights(made, *[900] * 8)[-1] == 1
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "2,3,4", "--replace") == 0
    found = nights(made, *[900] * 4)
    assert 0 not in found and found[-1] == 1
