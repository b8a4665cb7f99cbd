# SPDX-License-Identifier: GPL-2.0-only
"""The head of a report: what each datapath can do at its best, and whether the CPU held it back."""

from collections.abc import Iterable
from dataclasses import dataclass

from dmabuf_common.verdict import PASS

from .model import Measurement

WAYS = ("read", "write")
# A thread that is at work for so much of the time can do no more.
CPU_LIMIT = 95.0
PERCENTILE = 95.0
# How the tools call the bandwidth of a direction, and the bytes of its unit.
_BANDWIDTH = {"bandwidth": 1, "mib_s": 1 << 20}


@dataclass(frozen=True)
class Best:
    """The cell of a datapath with the highest bandwidth in one direction: bytes a second."""

    measurement: Measurement
    bandwidth: float
    p95_ns: float | None

    @property
    def cpu_bound(self) -> bool | None:
        """Whether the CPU was the limit; None when it is not known."""
        busy = self.measurement.cpu_percent
        return None if busy is None else busy >= CPU_LIMIT


@dataclass(frozen=True)
class Row:
    """One datapath, on one side and host of those that are compared: its best cell by direction."""

    datapath: str
    side: str
    host: str
    best: dict[str, Best]

    @property
    def emulated(self) -> bool:
        """Whether a drive of these figures is none."""
        return any(best.measurement.emulated for best in self.best.values())


def _of_way(measurement: Measurement, way: str) -> Best | None:
    for metric in measurement.metrics:
        for name, unit in _BANDWIDTH.items():
            if metric.name == f"{way}_{name}":
                p95 = next((p.ns for latency in measurement.latencies if latency.direction == way
                            for p in latency.percentiles if p.percentile == PERCENTILE), None)
                return Best(measurement, metric.value * unit, p95)
    return None


def rows(measurements: Iterable[Measurement]) -> list[Row]:
    """A row for each datapath with a valid measurement of a bandwidth, the fastest reader first."""
    found: dict[tuple[str, str, str], dict[str, Best]] = {}
    for measurement in measurements:
        if measurement.status != PASS:
            continue
        for way in WAYS:
            this = _of_way(measurement, way)
            if this is None:
                continue
            best = found.setdefault((measurement.datapath, measurement.side, measurement.host), {})
            if way not in best or best[way].bandwidth < this.bandwidth:
                best[way] = this
    made = [Row(*key, best) for key, best in found.items()]

    def fastest(row: Row) -> tuple[float, ...]:
        return tuple(-row.best[way].bandwidth if way in row.best else 0.0 for way in WAYS)

    return sorted(made, key=fastest)
