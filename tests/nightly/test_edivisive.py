# SPDX-License-Identifier: GPL-2.0-only
"""Change points: the score against its definition, and what is found where."""

import itertools

import numpy as np
import pytest
from dmabuf_nightly import edivisive


def energy_by_definition(values: list[float], tau: int, kappa: int) -> float:
    """The score of a split as the paper defines it, with plain loops."""
    x, y = values[:tau], values[tau:kappa]
    m, n = len(x), len(y)
    across = sum(abs(a - b) for a in x for b in y)
    left = sum(abs(a - b) for a, b in itertools.combinations(x, 2))
    right = sum(abs(a - b) for a, b in itertools.combinations(y, 2))
    energy = 2 * across / (m * n) - left / (m * (m - 1) / 2) - right / (n * (n - 1) / 2)
    return m * n / (m + n) * energy


def test_the_score_of_every_split_is_that_of_the_definition() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 1.5, 3.0]
    scores = edivisive._scores(np.asarray(values), 2)
    for tau in range(2, 7):
        for kappa in range(tau + 2, 9):
            assert scores[tau, kappa] == pytest.approx(energy_by_definition(values, tau, kappa))
    assert np.isneginf(scores[1, 8]) and np.isneginf(scores[7, 8])


def test_change_points_are_found_where_they_are() -> None:
    rng = np.random.default_rng(2)
    steady = list(rng.normal(100, 1, 30))
    assert edivisive.changes(steady) == []
    dropped = steady + list(rng.normal(93, 1, 10))
    assert [c.index for c in edivisive.changes(dropped)] == [30]
    back = dropped + list(rng.normal(100, 1, 20))
    assert [c.index for c in edivisive.changes(back)] == [30, 40]


def test_a_series_without_a_change_seldom_has_one() -> None:
    rng = np.random.default_rng(3)
    found = sum(bool(edivisive.changes(list(rng.normal(1, 0.02, 25)))) for _ in range(200))
    assert found <= 8  # alpha is 1 %


@pytest.mark.parametrize("series", [[], [1.0], [1.0] * 5, [2.0] * 30])
def test_nothing_is_found_where_nothing_can_be(series: list[float]) -> None:
    assert edivisive.changes(series) == []
