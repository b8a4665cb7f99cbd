# SPDX-License-Identifier: GPL-2.0-only
"""The order of a night's runs: random, and sides next to each other.

Every round holds one run of each case, host and side. The rounds' cases are in random order, so
that what drifts during the night (temperature, wear) falls on all alike; the sides of a case run
one right after the other, in random order, so that it falls on both.
"""

import random
from collections.abc import Iterable

from .plan import Plan
from .store import Series


def order(
    plan: Plan, seed: int, phase: int = 0, only: Iterable[Series] | None = None
) -> list[tuple[Series, int]]:
    """(series, repeat) in the order to run. `only`: these series, and for a compared side the
    other one too, since a rerun without its counterpart would compare two different hours."""
    rng = random.Random(f"{seed}/{phase}")
    wanted = None if only is None else set(only)
    if wanted is not None and plan.old:
        for series in list(wanted):
            if series.side in (plan.old, plan.new):
                wanted |= {
                    Series(series.test, side, series.host) for side in (plan.old, plan.new)
                }
    runs = []
    for repeat in range(1, max(case.repeats for case in plan.cases) + 1):
        units = [
            (case, host) for case in plan.cases if repeat <= case.repeats for host in case.hosts
        ]
        rng.shuffle(units)
        for case, host in units:
            sides = list(plan.sides)
            rng.shuffle(sides)
            for side in sides:
                series = Series(case.name, side.name, host)
                if wanted is None or series in wanted:
                    runs.append((series, repeat))
    return runs
