# SPDX-License-Identifier: GPL-2.0-only
"""The made-up histories of `selftest`, and what is claimed of each."""

from dataclasses import dataclass

SEED = 20
METRICS = 12
BASELINE_NIGHTS = 3
HISTORY = 20
CV = 0.03
FLOOR = 0.02
MOST_FALSE = 0.01
# Of the nights after a loss was found, or mended; by these few nights no less can be shown.
MOST_GREEN = 0.02
MOST_RED = 0.02
LEAST_POWER = 0.95


@dataclass(frozen=True)
class Scenario:
    """One kind of made-up history. slow: the factor on the values of the first `many` metrics (1: A/A).
    between: the CV from night to night, which all runs of a night share. sides: compare two sides
    within each night instead of with a baseline. reruns: False for nights that are only measured.
    history: how many good nights there are before. baseline_nights: how many of these, the first ones, are
    pinned. repin: then so many slower nights of all metrics follow, and are pinned instead.
    within: in how many nights a loss must be found (0: in all). most_green: which share of the nights after
    that may be good at most. earlier: an earlier loss of so many nights, and the good nights after it.
    mended: so many nights follow in which the loss is gone. most_red: which share of these may fail at
    most. faster: in so many of the last good nights all metrics were 10 % faster. alike: how much of what
    a night has of its own it has from the night before (the correlation of the two)."""

    name: str
    trials: int
    nights: int
    repeats: int = 10
    slow: float = 1.0
    between: float = 0.0
    sides: bool = False
    reruns: bool = True
    cv: float = CV
    history: int = HISTORY
    baseline_nights: int = BASELINE_NIGHTS
    repin: int = 0
    within: int = 0
    most_false: float | None = None
    least_power: float | None = None
    most_green: float | None = None
    many: int = 1
    earlier: tuple[int, int] = (0, 0)
    mended: int = 0
    most_red: float | None = None
    faster: int = 0
    alike: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether the nights after the loss was found say anything of what is claimed."""
        return self.most_green is not None or bool(self.mended)


SCENARIOS = (
    Scenario("A/A, 10 repeats", 300, 4, most_false=MOST_FALSE),
    # It is found in 96 %: so many trials tell that from 95 %.
    Scenario("5 % slower, 10 repeats", 2400, 3, slow=0.95, least_power=LEAST_POWER),
    Scenario("5 % slower, 5 repeats", 60, 3, repeats=5, slow=0.95),
    Scenario("A/A, nights differ by 1 %", 250, 4, between=0.01, most_false=MOST_FALSE),
    Scenario("5 % slower, nights differ by 1 %", 100, 3, slow=0.95, between=0.01),
    Scenario("5 % slower, nights differ by 1 %, baseline of 10 nights", 100, 3, slow=0.95,
             between=0.01, baseline_nights=10),
    Scenario("A/A, nights differ by 2 %", 60, 4, between=0.02),
    Scenario("A/A, sides in one night, nights differ by 1 %", 150, 4, between=0.01, sides=True,
             history=2, most_false=MOST_FALSE),
    Scenario("5 % slower, sides in one night, nights differ by 1 %", 300, 3, slow=0.95,
             between=0.01, sides=True, history=2, least_power=LEAST_POWER),
    Scenario("A/A, measured only", 150, 4, reruns=False, most_false=MOST_FALSE),
    Scenario("5 % slower, measured only", 1200, 3, slow=0.95, reruns=False, least_power=LEAST_POWER),
    Scenario("A/A, measured only, nights differ by 1 %", 500, 4, between=0.01, reruns=False,
             most_false=MOST_FALSE),
    Scenario("5 % slower, measured only, nights differ by 1 %", 100, 3, slow=0.95, between=0.01,
             reruns=False),
    Scenario("A/A, sides, measured only, nights differ by 1 %", 300, 4, between=0.01, sides=True,
             reruns=False, history=2, most_false=MOST_FALSE),
    Scenario("5 % slower, sides, measured only, nights differ by 1 %", 300, 3, slow=0.95, between=0.01,
             sides=True, reruns=False, history=2, least_power=LEAST_POWER),
    Scenario("A/A, the first 6 nights after a baseline of 3, nights differ by 1 %", 500, 6, between=0.01,
             history=3, most_false=MOST_FALSE),
    Scenario("5 % slower, the first 3 nights after a baseline of 3, nights differ by 1 %", 100, 3,
             slow=0.95, between=0.01, history=3),
    Scenario("A/A, the first 6 nights after a baseline of 3, measured only, nights differ by 1 %", 150, 6,
             between=0.01, history=3, reruns=False, most_false=MOST_FALSE),
    Scenario("A/A, the first 6 nights after a baseline of 1, nights differ by 1 %", 150, 6, between=0.01,
             history=1, baseline_nights=1, most_false=MOST_FALSE),
    Scenario("A/A, pinned anew on 3 slower nights, nights differ by 1 %", 800, 4, between=0.01, repin=3,
             most_false=MOST_FALSE),
    Scenario("5 % slower, pinned anew on 3 slower nights", 100, 3, slow=0.95, repin=3),
    Scenario("A/A, pinned anew on 3 slower nights, measured only, nights differ by 1 %", 500, 4,
             between=0.01, repin=3, reruns=False, most_false=MOST_FALSE),
    Scenario("A/A, no baseline, nights differ by 1 %", 150, 6, between=0.01, baseline_nights=0,
             most_false=MOST_FALSE),
    Scenario("A/A, no baseline, the first 15 nights, nights differ by 1 %", 60, 15, between=0.01, history=0,
             baseline_nights=0, most_false=MOST_FALSE),
    Scenario("5 % slower, no baseline", 100, 8, slow=0.95, baseline_nights=0, within=5,
             least_power=LEAST_POWER, most_green=MOST_FALSE),
    Scenario("5 % slower, no baseline, measured only", 120, 10, slow=0.95, baseline_nights=0, within=5,
             reruns=False, least_power=LEAST_POWER, most_green=MOST_FALSE),
    # An improvement in between hides no loss.
    Scenario("5 % slower, after 10 nights that were 10 % faster", 300, 3, slow=0.95, faster=10, least_power=0.9),
    Scenario("5 % slower, after 10 nights that were 10 % faster, measured only", 150, 3, slow=0.95, faster=10,
             reruns=False, least_power=0.9),
    # Nothing is claimed of machines that drift.
    Scenario("A/A, nights differ by 1 %, and each is like the one before", 100, 6, between=0.01, alike=0.8),
    # What was found is not green while it is there.
    Scenario("5 % slower, the nights after it was found", 60, 10, slow=0.95, most_green=MOST_FALSE),
    Scenario("5 % slower, the nights after it was found, measured only", 80, 12, slow=0.95, reruns=False,
             most_green=MOST_FALSE),
    Scenario("3 % slower, the nights after it was found, measured only", 60, 12, slow=0.97, reruns=False,
             most_green=MOST_FALSE),
    Scenario("5 % slower, the nights after it was found, nights differ by 1 %", 60, 10, slow=0.95, between=0.01,
             most_green=0.03),
    Scenario("5 % slower, sides, the nights after it was found, measured only", 300, 7, slow=0.95, sides=True,
             history=2, reruns=False, most_green=MOST_GREEN),
    # A loss is found after few good nights, and when it comes again.
    Scenario("10 % slower, no baseline, after 6 good nights, measured only", 60, 8, slow=0.9, baseline_nights=0,
             history=6, within=5, reruns=False, least_power=LEAST_POWER, most_green=MOST_FALSE),
    Scenario("10 % slower, no baseline, after 8 good nights, measured only", 60, 8, slow=0.9, baseline_nights=0,
             history=8, within=5, reruns=False, least_power=LEAST_POWER, most_green=MOST_FALSE),
    Scenario("10 % slower, no baseline, for the second time, measured only", 60, 8, slow=0.9, baseline_nights=0,
             history=8, earlier=(5, 3), within=5, reruns=False, least_power=LEAST_POWER, most_green=MOST_FALSE),
    # What was mended is red no more.
    Scenario("5 % slower, then mended", 80, 4, slow=0.95, mended=5, most_red=MOST_RED),
    Scenario("5 % slower, then mended, no baseline, measured only", 60, 4, slow=0.95, mended=5, history=10,
             baseline_nights=0, reruns=False, most_red=MOST_RED),
    Scenario("all metrics 10 % slower, then mended, no baseline", 20, 3, slow=0.9, many=METRICS, mended=5,
             history=10, baseline_nights=0),
    Scenario("all metrics 10 % slower, then mended, no baseline, measured only", 60, 3, slow=0.9, many=METRICS,
             mended=5, history=10, baseline_nights=0, reruns=False, most_red=MOST_RED),
    Scenario("all metrics 10 % slower, then mended, sides, measured only", 60, 3, slow=0.9, many=METRICS, mended=3,
             sides=True, history=2, reruns=False, most_red=0.06),
)


# How large a slow-down must be to be found, for runs that differ by 3 % and by 1 %: what docs/nightly.md
# says of floors. Nothing is claimed of these.
POWER = tuple(
    Scenario(f"{effect:g} % slower, runs differ by {cv:g} %{'' if reruns else ', measured only'}", 100, 3,
             slow=1 - effect / 100, cv=cv / 100, reruns=reruns)
    for cv in (3.0, 1.0) for effect in (2.0, 2.5, 3.0, 4.0, 5.0, 7.0) for reruns in (True, False)
)
