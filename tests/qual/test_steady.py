# SPDX-License-Identifier: GPL-2.0-only
"""SNIA's steady state: both parts, over five rounds, and never by default."""

import pytest

from dmabuf_qual import steady


@pytest.mark.parametrize("rounds", [[], [100.0], [100.0] * 4])
def test_fewer_than_five_rounds_are_not_steady(rounds: list[float]) -> None:
    assert not steady.examine(rounds).steady


def test_equal_rounds_are_steady() -> None:
    assert steady.examine([100.0] * 5).steady


def test_zero_is_not_steady() -> None:
    assert not steady.examine([0.0] * 5).steady


def test_a_range_over_a_fifth_of_the_mean_is_not() -> None:
    # No slope: up and down.
    assert steady.examine([90, 110, 100, 110, 90]).steady
    looked = steady.examine([89, 111, 100, 111, 89])
    assert not looked.steady
    assert looked.range_share > 0.20 and looked.slope_share < 0.10


def test_a_slope_over_a_tenth_is_not_although_the_range_is_small() -> None:
    looked = steady.examine([94, 97, 100, 103, 106])
    assert not looked.steady
    assert looked.range_share < 0.20 and looked.slope_share == pytest.approx(0.12)
    assert steady.examine([95, 97.5, 100, 102.5, 105]).steady


def test_only_the_last_five_count() -> None:
    assert steady.examine([1000, 500, 100, 100, 100, 100, 100]).steady
    assert not steady.examine([100, 100, 100, 100, 100, 150]).steady


def test_it_says_what_it_saw() -> None:
    assert "not steady after 6 rounds" in steady.examine([100, 100, 100, 100, 100, 150]).text()
    assert "5 are needed" in steady.examine([1]).text()
