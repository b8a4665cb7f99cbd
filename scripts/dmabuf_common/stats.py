# SPDX-License-Identifier: GPL-2.0-only
"""Robust statistics of a handful of runs. A sample is one run of fio, never a second of one."""

import math
import statistics
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy import stats as scipy_stats

RESAMPLES = 2000

# Makes the MAD of normally distributed values their standard deviation.
NORMAL = 1.4826


def median(values: Sequence[float]) -> float:
    """The median; ValueError for none."""
    if not values:
        raise ValueError("the median of nothing")
    return float(statistics.median(values))


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation from the median, scaled to a normal's standard deviation."""
    middle = median(values)
    return NORMAL * median([abs(value - middle) for value in values])


def relative_mad(values: Sequence[float]) -> float:
    """mad() as a share of the median; 0 for a median of 0."""
    middle = median(values)
    return mad(values) / abs(middle) if middle else 0.0


def seed_of(*samples: Sequence[float]) -> int:
    """A seed that depends on the data alone, so that analysing twice says the same twice."""
    return zlib.crc32(b"|".join(np.asarray(sample, float).tobytes() for sample in samples))


def ratio_interval(
    old: Sequence[float], new: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile bootstrap interval of median(new) / median(old). All values must be positive."""
    if not old or not new or min(*old, *new) <= 0:
        raise ValueError("a ratio needs positive values on both sides")
    rng = np.random.default_rng(seed_of(old, new))
    medians = []
    for sample in (np.asarray(old, float), np.asarray(new, float)):
        picked = sample[rng.integers(0, len(sample), (resamples, len(sample)))]
        medians.append(np.median(picked, axis=1))
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(medians[1] / medians[0], [tail, 100 - tail])
    return float(low), float(high)


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the median."""
    sample = np.asarray(values, float)
    rng = np.random.default_rng(seed_of(values))
    picked = sample[rng.integers(0, len(sample), (RESAMPLES, len(sample)))]
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(np.median(picked, axis=1), [tail, 100 - tail])
    return float(low), float(high)


def variance(values: Sequence[float]) -> float:
    """The sample's variance."""
    return float(np.var(np.asarray(values, float), ddof=1))


def median_variance(values: Sequence[float]) -> float:
    """The variance of the median of such a sample, as for normally distributed values."""
    return math.pi / 2 * variance(values) / len(values)


def upper_tail(value: float, freedom: float) -> float:
    """The chance that Student's t with so many degrees of freedom (inf: a normal) is larger."""
    return float(scipy_stats.t.sf(value, freedom))


def rank_p(old: Sequence[float], new: Sequence[float]) -> float:
    """Two-sided p of the Mann-Whitney test: no assumption about how the values are distributed."""
    if len(set(old) | set(new)) < 2:
        return 1.0
    return min(1.0, float(scipy_stats.mannwhitneyu(old, new, alternative="two-sided").pvalue))


def least_p(count_old: int, count_new: int) -> float:
    """The smallest p that rank_p() can give for samples of these sizes."""
    return 2 / math.comb(count_old + count_new, count_old)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: the chance of even one false finding among all stays below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, running)
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: the expected share of false findings among the findings is below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    adjusted = [0.0] * len(p_values)
    running = 1.0
    for back, index in enumerate(order):
        rank = len(p_values) - back
        running = min(running, len(p_values) / rank * p_values[index])
        adjusted[index] = running
    return adjusted


CORRECTIONS = {"holm": holm, "bh": benjamini_hochberg}


class Contrast:
    """New against old, each statistic computed when first asked for."""

    def __init__(self, old: Sequence[float], new: Sequence[float]) -> None:
        self.old = tuple(old)
        self.new = tuple(new)

    @cached_property
    def ratio(self) -> float:
        """median(new) / median(old)."""
        return median(self.new) / median(self.old)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The bootstrap 95 % interval of the ratio."""
        return ratio_interval(self.old, self.new)

    @cached_property
    def p(self) -> float:
        """rank_p() of the two."""
        return rank_p(self.old, self.new)
