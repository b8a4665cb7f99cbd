# SPDX-License-Identifier: GPL-2.0-only
"""Latency bins of fio's json+: merged by addition, and percentiles of the sum.

Percentiles are never averaged: the mean of two 99th percentiles is the 99th percentile of nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ReportError
from .model import Latency, Percentile

# A percentile is given only when at least this many samples lie beyond it.
LEAST_BEYOND = 100

SHOWN = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)

Bins = dict[int, int]


def merge(parts: Iterable[Mapping[int, int]]) -> Bins:
    """The sum of several histograms, ascending by ns."""
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def of_job(job: Mapping[str, Any], direction: str) -> Bins:
    """Completion latencies of one job and direction of fio's json+; empty when it did none.

    Raises ReportError when I/O was done and there are no bins: fio ran without json+.
    """
    side = job.get(direction, {})
    if not side.get("total_ios"):
        return {}
    found = side.get("clat_ns", {}).get("bins")
    if not found:
        raise ReportError(
            f"fio's output of job {job.get('jobname')} has no latency bins for {direction}; "
            "run fio with --output-format=json+ and without disable_clat"
        )
    return {int(ns): int(count) for ns, count in found.items()}


def count(bins: Mapping[int, int]) -> int:
    """How many samples there are."""
    return sum(bins.values())


def percentile(bins: Mapping[int, int], wanted: float) -> float | None:
    """The least ns that at least `wanted` percent of the samples do not exceed, as fio has it.

    None when fewer than LEAST_BEYOND samples lie beyond the percentile.
    """
    total = count(bins)
    # 100 - 99.9 is not 0.1 in binary: a nanosample of slack, so that 100 of 100000 are enough.
    if total * (100 - wanted) / 100 < LEAST_BEYOND - 1e-6:
        return None
    needed = math.ceil(total * wanted / 100 - 1e-6)
    seen = 0
    for ns in sorted(bins):
        seen += bins[ns]
        if seen >= needed:
            return float(ns)
    return None


def latency(direction: str, bins: Mapping[int, int]) -> Latency:
    """The model's latency, with the percentiles that there are samples for."""
    return Latency(
        direction,
        count(bins),
        [[float(ns), float(bins[ns])] for ns in sorted(bins)],
        [Percentile(p, percentile(bins, p)) for p in SHOWN],
    )
