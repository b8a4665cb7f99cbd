# SPDX-License-Identifier: GPL-2.0-only
"""Robust statistics of a handful of runs. A sample is one run of fio, never a second of one."""

import math
import statistics
import zlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
# How sure an interval is, where nobody asks for another.
LEVEL = 0.95
# Up to here scipy computes the Mann-Whitney test exactly.
EXACT = 8

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


def resampled_medians(sample: Sequence[float], rng: np.random.Generator, count: int = RESAMPLES) -> Floats:
    """The medians of `count` bootstrap resamples, without drawing all values of each.

    A median is one value of the sample, or the mean of two. Which ones a resample of n has in its middle is
    decided by the middle ones of n uniform numbers; these have beta distributions (order statistics), and are
    drawn by themselves.
    """
    ordered = np.sort(np.asarray(sample, float))
    n = len(ordered)
    middle = (n + 1) // 2  # the lower one of two, counted from 1
    at = rng.beta(middle, n + 1 - middle, count)
    lower: Floats = ordered[np.minimum((at * n).astype(int), n - 1)]
    if n % 2:
        return lower
    # The next one is the least of those that are above it.
    at += (1 - at) * (1 - rng.random(count) ** (1 / (n - middle)))
    upper: Floats = ordered[np.minimum((at * n).astype(int), n - 1)]
    both: Floats = (lower + upper) / 2
    return both


def percentile_interval(resamples: Floats, level: float) -> tuple[float, float]:
    """What lies between the percentiles that leave out as much on each side, for a percentile bootstrap."""
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(resamples, [tail, 100 - tail])
    return float(low), float(high)


def ratio_interval(
    old: Sequence[float], new: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile bootstrap interval of median(new) / median(old). All values must be positive."""
    if not old or not new or min(*old, *new) <= 0:
        raise ValueError("a ratio needs positive values on both sides")
    rng = np.random.default_rng(seed_of(old, new))
    medians = [resampled_medians(sample, rng, resamples) for sample in (old, new)]
    return percentile_interval(medians[1] / medians[0], level)


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap interval of the median."""
    return percentile_interval(resampled_medians(values, np.random.default_rng(seed_of(values))), level)


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
    """Two-sided p of the Mann-Whitney test: no assumption about how the values are distributed. The
    same as scipy's: exact for small samples without ties, which are few and left to it; for others the
    normal approximation, which selftest needs some 100 000 times."""
    every = np.concatenate((np.asarray(old, float), np.asarray(new, float)))
    first, last, total = len(old), len(new), len(every)
    if not total:
        return 1.0
    ordered = np.sort(every)
    low, high = np.searchsorted(ordered, every), np.searchsorted(ordered, every, "right")
    if high[0] - low[0] == total:
        return 1.0
    ties = float(((high - low) ** 2 - 1).sum())
    if min(first, last) <= EXACT and not ties:
        return min(1.0, float(scipy_stats.mannwhitneyu(old, new, alternative="two-sided").pvalue))
    above = float((low[:first] + high[:first] + 1).sum()) / 2 - first * (first + 1) / 2
    distance = abs(above - first * last / 2) - 0.5
    spread = math.sqrt(first * last / 12 * (total + 1 - ties / (total * (total - 1))))
    return min(1.0, math.erfc(distance / spread / math.sqrt(2)))


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


class Strata(Contrast):
    """New against old over several nights, each night's new runs against its own old ones: what is
    peculiar to a night cancels out. The ratio is the geometric mean of the nightly ratios."""

    def __init__(self, nights: Sequence[tuple[Sequence[float], Sequence[float]]]) -> None:
        super().__init__([v for old, _ in nights for v in old], [v for _, new in nights for v in new])
        self.nights = tuple((tuple(old), tuple(new)) for old, new in nights)

    @cached_property
    def ratio(self) -> float:
        """The geometric mean of median(new) / median(old)."""
        return math.exp(statistics.fmean(math.log(median(new) / median(old)) for old, new in self.nights))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The bootstrap 95 % interval of the ratio, each side of each night drawn by itself."""
        rng = np.random.default_rng(seed_of(self.old, self.new))
        total = np.zeros(RESAMPLES)
        for old, new in self.nights:
            for sign, values in ((-1, old), (1, new)):
                total += sign * np.log(resampled_medians(values, rng))
        return percentile_interval(np.exp(total / len(self.nights)), LEVEL)

    @cached_property
    def p(self) -> float:
        """Two-sided p of van Elteren's test: the rank sums of the nights, each weighed by its size."""
        distance = spread = 0.0
        for old, new in self.nights:
            ranks = scipy_stats.rankdata([*old, *new])
            total = len(ranks)
            weight = 1 / (total + 1)
            distance += weight * (float(ranks[len(old) :].sum()) - len(new) * (total + 1) / 2)
            spread += weight**2 * len(old) * len(new) / total * variance(ranks)
        if not spread:
            return 1.0
        return float(2 * scipy_stats.norm.sf(abs(distance) / math.sqrt(spread)))
