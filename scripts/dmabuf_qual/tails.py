# SPDX-License-Identifier: GPL-2.0-only
"""How much longer the tail of one latency is than that of another, and how sure that is.

A repeat is the unit of a measurement: its I/Os depend on each other. So each repeat has a percentile of
its own, and the repeats' percentiles are the sample. What is compared is their geometric mean, as ratios
multiply; the interval is Student's, of the difference of the logarithms (Welch's, as the two sides need
not spread alike). A bootstrap over five repeats is far too narrow: it never leaves what was seen.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, variance

# A percentile is given only when at least so many samples of all repeats lie beyond it, and so many of each.
LEAST_BEYOND, LEAST_EACH = 100, 20

# One repeat's: ascending pairs of ns and how many samples.
Bins = Sequence[Sequence[int]]


class Side:
    """The repeats of one measurement."""

    def __init__(self, repeats: Sequence[Bins]) -> None:
        self.repeats = [sorted((int(ns), int(count)) for ns, count in bins) for bins in repeats]

    def percentiles(self, wanted: float) -> list[float] | None:
        """Of each repeat; None when too few samples lie beyond, or one is no time."""
        # A nanosample of slack: 100 - 99.9 is not 0.1 in binary.
        beyond = [sum(count for _, count in bins) * (100 - wanted) / 100 + 1e-6 for bins in self.repeats]
        if sum(beyond) < LEAST_BEYOND or min(beyond) < LEAST_EACH:
            return None
        found = [_percentile(bins, wanted) for bins in self.repeats]
        return found if min(found) > 0 else None


def _percentile(bins: Sequence[tuple[int, int]], wanted: float) -> float:
    up_to = list(accumulate(count for _, count in bins))
    return float(bins[bisect_left(up_to, up_to[-1] * wanted / 100 - 1e-6)][0])


def _beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d, total = 1.0, 0.0, 1.0
    for step in range(500):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + step - 1) * (a + step))
        else:
            term = half * (b - half) * x / ((a + step - 1) * (a + step))
        d = 1 / ((1 + term * d) or 1e-300)
        c = (1 + term / c) or 1e-300
        total *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * (total - 1)


def student(chance: float, freedom: float) -> float:
    """The value that Student's t with so many degrees of freedom is below with this chance, 0.5 or more."""
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        if 1 - _beta(freedom / 2, 0.5, freedom / (freedom + middle * middle)) / 2 < chance:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True)
class Ratio:
    """Of two percentiles, and its interval."""

    ratio: float
    low: float
    high: float

    def text(self) -> str:
        """In words."""
        return f"{self.ratio:.3f} ({self.low:.3f} … {self.high:.3f})"


def ratio(old: Side, new: Side, wanted: float, level: float) -> Ratio | None:
    """New to old; None when too few samples are beyond it, or a side has a single repeat."""
    both = [side.percentiles(wanted) for side in (old, new)]
    logs = [[math.log(one) for one in side] for side in both if side is not None]
    if len(logs) < 2 or min(map(len, logs)) < 2:
        return None
    middle = fmean(logs[1]) - fmean(logs[0])
    errors = [variance(side) / len(side) for side in logs]
    half = 0.0
    if sum(errors):
        freedom = sum(errors) ** 2 / sum(one**2 / (len(side) - 1) for one, side in zip(errors, logs, strict=True))
        half = student((1 + level) / 2, freedom) * math.sqrt(sum(errors))
    # More than e^700 is more than anything.
    return Ratio(math.exp(middle), math.exp(max(middle - half, -700)), math.exp(min(middle + half, 700)))
