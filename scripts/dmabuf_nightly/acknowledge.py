# SPDX-License-Identifier: GPL-2.0-only
"""What was confirmed and is known: it fails no more, unless it becomes worse."""

from dataclasses import dataclass

from dmabuf_common.clock import now

from .errors import NightlyError
from .store import Series, Store

CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Known:
    """One metric that is known to be slower. ratio: how much slower it was then; 1 where the nights
    before were all that it was compared with. own: the ratio of that night alone, where several decided.
    until: the last night for which it is known; None while nothing ended it."""

    series: Series
    metric: str
    against: str
    night: int
    ratio: float
    note: str
    own: float | None = None
    until: int | None = None

    def of_time(self, night: int) -> bool:
        """Whether it is known in this night."""
        return self.night <= night and (self.until is None or night <= self.until)


def all_of(store: Store, plan: str) -> list[Known]:
    """What is known of a plan, or was so till some night."""
    rows = store.db.execute(
        "SELECT * FROM acknowledged WHERE plan = ? AND (ended IS NULL OR until IS NOT NULL) ORDER BY id", (plan,)
    )
    return [
        Known(Series(row["test"], row["side"], row["host"]), row["metric"], row["against"], row["night"],
              row["ratio"], row["note"], row["own"], row["until"])
        for row in rows.fetchall()
    ]


def add(
    store: Store, plan: str, series: Series, metric: str, night: int | None, note: str,
    against: str | None = None,
) -> Known:
    """Acknowledges what a night confirmed, by default the last one that decided about this metric.
    against: which of the things that it was compared with; needed where it is slower than several."""
    found = [
        row for row in store.decisions(night, plan)
        if (row["test"], row["side"], row["host"], row["metric"])
        == (series.test, series.side, series.host, metric) and against in (None, row["against"])
    ]
    last = found[-1]["night"] if found else None
    confirmed = [row for row in found if row["night"] == last and row["state"] == CONFIRMED]
    if not confirmed:
        raise NightlyError(
            f"{series}: {metric} was not confirmed to be slower"
            + (f" in night {last}" if last else "")
            + "; see `dmabuf-nightly analyze`"
        )
    if len(confirmed) > 1:
        names = " and ".join(sorted(row["against"] for row in confirmed))
        raise NightlyError(f"{series}: {metric} was confirmed against {names}; say which by --against")
    row = confirmed[0]
    was, own = row["document"].get("ratio") or 1.0, row["document"].get("own")
    return put(store, plan, Known(series, metric, row["against"], row["night"], was, note, own))


def put(store: Store, plan: str, known: Known) -> Known:
    """Stores it, in the place of what was known of this metric against the same before."""
    series = known.series
    with store.transaction():
        end(store, plan, series, known.metric, known.against, known.night - 1)
        store.db.execute(
            "INSERT INTO acknowledged (plan, test, side, host, metric, against, night, ratio, note, made, "
            "own) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (plan, series.test, series.side, series.host, known.metric, known.against, known.night,
             known.ratio, known.note, now(), known.own),
        )
    return known


def end(
    store: Store, plan: str, series: Series, metric: str | None = None, against: str | None = None,
    until: int | None = None,
) -> int:
    """What is slower fails again; how many were known. metric: None for all of the series. against:
    None for whatever it was compared with. until: the last night for which it is known, so that who judges
    nights of its time again comes to the same; None: all but the last one."""
    cursor = store.db.execute(
        "UPDATE acknowledged SET ended = ?, until = coalesce(?, (SELECT max(id) - 1 FROM night WHERE plan = ?)) "
        "WHERE ended IS NULL AND until IS NULL AND plan = ? AND test = ? AND side = ? "
        "AND host = ? AND (? IS NULL OR metric = ?) AND (? IS NULL OR against = ?)",
        (now(), until, plan, plan, series.test, series.side, series.host, metric, metric, against, against),
    )
    return cursor.rowcount


def stop(
    store: Store, plan: str, series: Series, night: int | None, metric: str | None = None,
    against: str = "baseline",
) -> None:
    """What was compared with a baseline, or held, is known till this night and not after it; None: till the
    last that there is. Nights of its time can be judged again, and are what they were."""
    store.db.execute(
        "UPDATE acknowledged SET until = coalesce(?, (SELECT max(id) FROM night)) WHERE ended IS NULL AND "
        "until IS NULL AND against = ? AND plan = ? AND test = ? AND side = ? AND host = ? AND "
        "(? IS NULL OR metric = ?) AND (? IS NULL OR night <= ?)",
        (night, against, plan, series.test, series.side, series.host, metric, metric, night, night),
    )
