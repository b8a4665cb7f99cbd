# SPDX-License-Identifier: GPL-2.0-only
"""Which ratios the stored nights give, for `acknowledge --ratio`: where another machine judges a copy, the
decision is there, and the figures that it was made from are here, too. It needs no numpy."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from . import baseline, plan
from .errors import NightlyError
from .store import Night, Run, Series, Store

# A report shows three digits after the point.
ROUNDING = 0.00051
# A change is seen within so many nights, and sides are asked together for fewer.
TOGETHER = 5


@dataclass(frozen=True)
class Given:
    """A ratio that a night gives. own: what it gives alone, where this is of several nights."""

    night: int
    against: str
    ratio: float
    own: float | None = None


def _values(runs: Sequence[Run], series: Series, metric: str) -> list[float]:
    return [r.metrics[metric] for r in runs if r.series == series and r.valid and metric in r.metrics]


def _against(values: list[float], old: list[float]) -> Iterator[float]:
    if values and old and median(old) > 0:
        yield median(values) / median(old)


def _of_night(
    store: Store, nights: Sequence[Night], series: Series, metric: str, pinned: baseline.Baseline | None
) -> Iterator[Given]:
    """The ratios of the last of these nights, alone and with those before it."""
    night = nights[-1]
    if pinned is not None and night.id >= pinned.since:
        old = _values([run for run in pinned.runs if run.night != night.id], series, metric)
        first: list[float] = []
        for earlier in reversed(nights):
            first += _values(store.runs(earlier.id, 0), series, metric)
            for ratio in _against(first, old):
                yield Given(night.id, "baseline", ratio)
        again = [run for run in store.runs(night.id) if run.phase]
        for ratio in _against(_values(again, series, metric), old):
            yield Given(night.id, "baseline", ratio)
    text = plan.parse(night.plan_text, Path("/"), check_files=False)
    if text.old and series.side == text.new:
        other = Series(series.test, text.old, series.host)
        logs: list[float] = []
        own: float | None = None
        for earlier in reversed(nights):
            runs = store.runs(earlier.id, 0)
            for ratio in _against(_values(runs, series, metric), _values(runs, other, metric)):
                if ratio > 0:
                    logs.append(math.log(ratio))
                    own = ratio if len(logs) == 1 else own
                    yield Given(night.id, f"side {text.old}", math.exp(fmean(logs)), own)
        again = [run for run in store.runs(night.id) if run.phase]
        for ratio in _against(_values(again, series, metric), _values(again, other, metric)):
            yield Given(night.id, f"side {text.old}", ratio)


def _decided(store: Store, name: str, series: Series, metric: str) -> Iterator[Given]:
    for row in store.decisions(plan=name):
        if (row["test"], row["side"], row["host"], row["metric"]) == (
            series.test, series.side, series.host, metric
        ) and row["document"].get("ratio"):
            found = row["document"]
            yield Given(row["night"], row["against"], found["ratio"], found.get("own"))


def find(
    store: Store, name: str, series: Series, metric: str, night: int | None, ratio: float,
    against: str | None = None,
) -> Given:
    """The newest night that gives this ratio, as a report rounds it; NightlyError when none does, or when
    it is one of several things. against: of this one."""
    nights = [one for one in store.nights(name) if one.finished and not one.abandoned]
    wanted = [one.id for one in nights if night is None or one.id == night]
    if not wanted:
        raise NightlyError(f"plan {name} has no such night; see `dmabuf-nightly nights`")
    pinned = baseline.of(store, name, series)
    given = list(_decided(store, name, series, metric))
    for end in range(len(nights)):
        given += _of_night(store, nights[max(0, end + 1 - TOGETHER) : end + 1], series, metric, pinned)
    given = [one for one in given if one.night in wanted and against in (None, one.against)]
    found = [one for one in given if abs(one.ratio - ratio) <= ROUNDING]
    several = sorted({one.against for one in found})
    if len(several) > 1:
        raise NightlyError(
            f"the ratio {ratio:.3f} for {metric} of {series} is given by {' and '.join(several)}; say which by "
            "--against"
        )
    if found:
        return max(found, key=lambda one: one.night)
    near = min(given, key=lambda one: abs(one.ratio - ratio), default=None)
    raise NightlyError(
        f"no stored night gives the ratio {ratio:.3f} for {metric} of {series}; "
        + (f"the nearest is {near.ratio:.3f}, of night {near.night}" if near else "none gives any")
        + ". Give it as the report has it"
    )
