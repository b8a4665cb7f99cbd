# SPDX-License-Identifier: GPL-2.0-only
"""Is a series of rounds steady? SNIA's test: both of its parts, over five rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 5
MOST_ROUNDS = 25
LARGEST_RANGE = 0.20
LARGEST_SLOPE = 0.10


@dataclass(frozen=True)
class Steadiness:
    """The last five rounds: their range and the fitted line's excursion, as shares of the mean."""

    rounds: int
    steady: bool
    range_share: float
    slope_share: float

    def text(self) -> str:
        """In words."""
        if self.rounds < WINDOW:
            return f"{self.rounds} rounds, {WINDOW} are needed"
        word = "steady" if self.steady else "not steady"
        return (
            f"{word} after {self.rounds} rounds: over the last {WINDOW} the range is "
            f"{self.range_share:.1%} of the mean (at most {LARGEST_RANGE:.0%}), the slope's "
            f"excursion {self.slope_share:.1%} (at most {LARGEST_SLOPE:.0%})"
        )


def examine(rounds: Sequence[float]) -> Steadiness:
    """Looks at the last five rounds. Fewer, or a mean of nothing, are not steady."""
    last = list(rounds[-WINDOW:])
    mean = sum(last) / len(last) if last else 0.0
    if len(last) < WINDOW or mean <= 0:
        return Steadiness(len(rounds), False, 0.0, 0.0)
    middle = (WINDOW - 1) / 2
    slope = sum((i - middle) * value for i, value in enumerate(last)) / sum(
        (i - middle) ** 2 for i in range(WINDOW)
    )
    spread = (max(last) - min(last)) / mean
    excursion = abs(slope) * (WINDOW - 1) / mean
    # A nano of slack, so that exactly 20 % and 10 % are within.
    steady = spread <= LARGEST_RANGE + 1e-9 and excursion <= LARGEST_SLOPE + 1e-9
    return Steadiness(len(rounds), steady, spread, excursion)
