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


@pytest.mark.parametrize("rounds", [[106, 103, 100, 97, 94], [112, 106, 100, 94, 88]])
def test_a_drive_that_gets_slower_and_slower_is_not(rounds: list[float]) -> None:
    looked = steady.examine(rounds)
    assert not looked.steady
    assert looked.slope_share == pytest.approx((rounds[0] - rounds[-1]) / 100)
    assert steady.examine([105, 102.5, 100, 97.5, 95]).steady


def test_the_limits_themselves_are_within() -> None:
    exactly = steady.examine([90, 110, 100, 110, 90])
    assert exactly.range_share == pytest.approx(0.20) and exactly.steady
    slope = steady.examine([95, 97.5, 100, 102.5, 105])
    assert slope.slope_share == pytest.approx(0.10) and slope.steady
    # By shares of the mean, whatever that is.
    assert steady.examine([0.9, 1.1, 1.0, 1.1, 0.9]).steady
    assert not steady.examine([9000, 11010, 10000, 11010, 9000]).steady
    assert not steady.examine([9497, 9750, 10000, 10250, 10503]).steady


def test_the_fit_is_by_least_squares() -> None:
    # All five count, the outer two twice as much as their neighbours.
    assert steady.examine([100, 100, 100, 100, 110]).slope_share == pytest.approx(0.4 * 2 * 10 / 10 / 1.02 / 10)
    assert steady.examine([100, 100, 100, 110, 100]).slope_share == pytest.approx(0.4 * 10 / 10 / 1.02 / 10)
    assert steady.examine([100, 100, 110, 100, 100]).slope_share == pytest.approx(0)


def test_only_the_last_five_count() -> None:
    assert steady.examine([1000, 500, 100, 100, 100, 100, 100]).steady
    assert not steady.examine([100, 100, 100, 100, 100, 150]).steady


def test_it_says_what_it_saw() -> None:
    assert "not steady after 6 rounds" in steady.examine([100, 100, 100, 100, 100, 150]).text()
    assert "5 are needed" in steady.examine([1]).text()
    assert steady.examine([1] * 4).text() == "4 rounds, 5 are needed"
    assert steady.examine([100] * 5).text().startswith("steady after 5 rounds")
    # Four rounds are not even looked at.
    assert steady.examine([100, 110, 90, 100]) == steady.Steadiness(4, False, 0.0, 0.0)
    assert steady.examine([100, 1]) == steady.Steadiness(2, False, 0.0, 0.0)
    assert steady.examine([0.0] * 5) == steady.Steadiness(5, False, 0.0, 0.0)
