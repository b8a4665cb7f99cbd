# SPDX-License-Identifier: GPL-2.0-only
"""How much longer the tail of one latency is than that of another, and how sure that is.

A percentile is of all samples of all repeats together: averages of percentiles are percentiles of
nothing. The repeats are what is picked anew for the interval, as a repeat is the unit of a
measurement: its I/Os depend on each other.
"""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

# A percentile is given only when at least so many samples lie beyond it.
LEAST_BEYOND = 100
RESAMPLES = 2000
# The same data say the same twice.
SEED = 1

# One repeat's: ascending pairs of ns and how many samples.
Bins = Sequence[Sequence[int]]


class Side:
    """The repeats of one measurement."""

    def __init__(self, repeats: Sequence[Bins]) -> None:
        self.places = sorted({pair[0] for bins in repeats for pair in bins})
        self._up_to = []
        for bins in repeats:
            counts = {pair[0]: pair[1] for pair in bins}
            self._up_to.append(list(accumulate(counts.get(place, 0) for place in self.places)))

    @property
    def count(self) -> int:
        """How many repeats there are."""
        return len(self._up_to)

    def percentile(self, picked: Sequence[int], wanted: float) -> float | None:
        """Of the picked repeats' samples together; None when too few lie beyond it."""
        chosen = [self._up_to[index] for index in picked]
        total = sum(one[-1] for one in chosen if one)
        # A nanosample of slack: 100 - 99.9 is not 0.1 in binary.
        if total * (100 - wanted) / 100 < LEAST_BEYOND - 1e-6:
            return None
        needed = total * wanted / 100 - 1e-6
        at = bisect_left(range(len(self.places)), needed, key=lambda i: sum(one[i] for one in chosen))
        return float(self.places[at])


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
    """New to old, by a percentile bootstrap over the repeats; None when too few samples are beyond it."""
    rng = random.Random(SEED)
    whole = [side.percentile(range(side.count), wanted) for side in (old, new)]
    if whole[0] is None or whole[1] is None:
        return None
    found = []
    for _ in range(RESAMPLES):
        a, b = (side.percentile(rng.choices(range(side.count), k=side.count), wanted) for side in (old, new))
        if a is None or b is None:
            return None
        found.append(b / a)
    found.sort()
    cut = int((1 - level) / 2 * len(found))
    return Ratio(whole[1] / whole[0], found[cut], found[-1 - cut])
