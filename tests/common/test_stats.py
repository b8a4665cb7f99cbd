# SPDX-License-Identifier: GPL-2.0-only
"""Every statistic against values worked out by hand, or another way."""

import itertools
import math

import numpy as np
import pytest
from dmabuf_common import stats
from scipy import stats as scipy_stats


def test_median_and_mad() -> None:
    assert stats.median([3, 1, 2]) == 2
    assert stats.median([4, 1, 2, 3]) == 2.5
    # Deviations from 3: 2, 1, 0, 1, 97; their median is 1.
    assert stats.mad([1, 2, 3, 4, 100]) == pytest.approx(1.4826)
    assert stats.relative_mad([1, 2, 3, 4, 100]) == pytest.approx(1.4826 / 3)
    with pytest.raises(ValueError):
        stats.median([])


def test_mad_is_scaled_to_a_normal() -> None:
    values = [1.0, 5.0, 2.0, 8.0, 3.0, 9.0]
    assert stats.mad(values) == pytest.approx(
        scipy_stats.median_abs_deviation(values, scale="normal"), rel=1e-4
    )


def test_the_interval_of_the_ratio_is_exact_for_three_values() -> None:
    """All 27 resamples of three values can be counted: the median is the least value in 7 of 27,
    the middle one in 13 and the greatest in 7; so the bootstrap's 95 % interval of the median is
    from the least to the greatest."""
    counts = {1: 0, 2: 0, 3: 0}
    for sample in itertools.product([1, 2, 3], repeat=3):
        counts[sorted(sample)[1]] += 1
    assert counts == {1: 7, 2: 13, 3: 7}
    assert stats.ratio_interval([1.0], [10.0, 20.0, 30.0]) == (10, 30)
    assert stats.ratio_interval([2.0], [2.0]) == (1, 1)


def chance(least: int, of: int) -> float:
    """The chance that the median of a resample of 1 … `of`, an odd number, is at most `least`."""
    share = least / of
    return sum(math.comb(of, n) * share**n * (1 - share) ** (of - n) for n in range(of // 2 + 1, of + 1))


def test_the_interval_is_that_of_the_median_and_of_its_level() -> None:
    """Of 17 values the bootstrap's median is one of them, each with a chance that can be worked out."""
    values = [float(n) for n in range(1, 18)]
    assert chance(4, 17) < 0.025 < chance(5, 17) < 0.05 < chance(6, 17)
    assert stats.ratio_interval([1.0], values) == (5, 13)
    assert stats.median_interval(values) == (5, 13)
    # As many resamples, with 90 % between.
    assert stats.ratio_interval([1.0], values, level=0.9) == (6, 12)
    assert stats.median_interval(values, level=0.9) == (6, 12)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0, 8.0], [8.0, 1.0, 2.0], [1.0, 2.0], [3.0, 3.0, 5.0, 5.0], [7.0]])
def test_resampled_medians_are_as_frequent_as_those_of_all_resamples(values: list[float]) -> None:
    """Each resample of a few values is counted; 40,000 medians that are drawn agree to 5 standard errors."""
    every: dict[float, int] = {}
    for sample in itertools.product(values, repeat=len(values)):
        median = stats.median(sample)
        every[median] = every.get(median, 0) + 1
    drawn = 40_000
    medians = stats.resampled_medians(values, np.random.default_rng(3), drawn)
    found = dict(zip(*np.unique(medians, return_counts=True), strict=True))
    assert set(found) <= set(every)
    for median, count in every.items():
        chance = count / len(values) ** len(values)
        error = math.sqrt(chance * (1 - chance) / drawn)
        assert abs(found.get(median, 0) / drawn - chance) <= 5 * error, median


def test_the_seed_depends_on_all_of_the_data() -> None:
    assert len({stats.seed_of(*both) for both in (([1.0], [2.0]), ([1.0], [3.0]), ([3.0], [2.0]))}) == 3
    assert stats.seed_of([1.0], [2.0]) == stats.seed_of([1], [2])


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        low, high = stats.ratio_interval(
            list(rng.normal(100, 3, 10)), list(rng.normal(90, 3, 10)), resamples=500
        )
        covered += low <= 0.9 <= high
    assert 0.90 <= covered / 300 <= 1.0


def test_the_same_data_give_the_same_interval() -> None:
    old, new = [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]
    assert stats.ratio_interval(old, new) == stats.ratio_interval(old, new)


def test_a_ratio_of_what_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError):
        stats.ratio_interval([0.0, 1.0], [1.0])


def test_the_rank_test_on_samples_that_do_not_overlap() -> None:
    # 2 of the C(10, 5) = 252 orders are as extreme.
    assert stats.rank_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert stats.least_p(5, 5) == pytest.approx(2 / 252)
    assert stats.rank_p([1, 1], [1, 1]) == 1


def test_the_rank_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        old = rng.normal(0, 1, rng.integers(5, 40)).round(int(rng.integers(0, 3)))
        new = rng.normal(0.5, 1, rng.integers(5, 40)).round(int(rng.integers(0, 9)))
        other = scipy_stats.mannwhitneyu(old, new, alternative="two-sided").pvalue
        assert stats.rank_p(list(old), list(new)) == pytest.approx(min(1, other), rel=1e-9)
    assert stats.rank_p([], []) == 1


def test_holm() -> None:
    # Sorted .01 .03 .04: times 3, 2, 1 are .03 .06 .04; never falling: .03 .06 .06.
    assert stats.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    # Sorted .01 .03 .04: times 3/1, 3/2, 3/3 are .03 .045 .04; from the end: .03 .04 .04.
    assert stats.benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


def test_variances() -> None:
    # Squares of the distances from 2.5: 2.25, 0.25, 0.25, 2.25; by three, as the mean is theirs.
    assert stats.variance([1, 2, 3, 4]) == pytest.approx(5 / 3)
    assert stats.median_variance([1, 2, 3, 4]) == pytest.approx(math.pi / 2 * 5 / 3 / 4)


def test_the_upper_tail_is_that_of_the_tables() -> None:
    assert stats.upper_tail(2.776, 4) == pytest.approx(0.025, abs=1e-4)
    assert stats.upper_tail(1.96, math.inf) == pytest.approx(0.025, abs=1e-4)
    assert stats.upper_tail(-1.96, math.inf) == pytest.approx(0.975, abs=1e-4)


def test_a_contrast_is_new_by_old() -> None:
    made = stats.Contrast([4.0] * 5, [1.0, 1.0, 1.0, 1.0, 1.0])
    assert made.ratio == 0.25
    assert made.interval == (0.25, 0.25)
    assert made.p == stats.rank_p([4.0] * 5, [1.0] * 5) < 0.01
