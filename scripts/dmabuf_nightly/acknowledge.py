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
    before were all that it was compared with."""

    series: Series
    metric: str
    against: str
    night: int
    ratio: float
    note: str


def all_of(store: Store, plan: str) -> list[Known]:
    """What is known of a plan."""
    rows = store.db.execute(
        "SELECT * FROM acknowledged WHERE plan = ? AND ended IS NULL ORDER BY id", (plan,)
    )
    return [
        Known(Series(row["test"], row["side"], row["host"]), row["metric"], row["against"], row["night"],
              row["ratio"], row["note"])
        for row in rows.fetchall()
    ]  # fmt: skip


def add(
    store: Store, plan: str, series: Series, metric: str, night: int | None, note: str
) -> Known:
    """Acknowledges what a night confirmed, by default the last one that decided about this metric."""
    found = [
        row for row in store.decisions(night, plan)
        if (row["test"], row["side"], row["host"], row["metric"])
        == (series.test, series.side, series.host, metric)
    ]  # fmt: skip
    last = found[-1]["night"] if found else None
    confirmed = [row for row in found if row["night"] == last and row["state"] == CONFIRMED]
    if not confirmed:
        raise NightlyError(
            f"{series}: {metric} was not confirmed to be slower"
            + (f" in night {last}" if last else "")
            + "; see `dmabuf-nightly analyze`"
        )
    row = confirmed[0]
    was = row["document"].get("ratio") or 1.0
    return put(store, plan, Known(series, metric, row["against"], row["night"], was, note))


def put(store: Store, plan: str, known: Known) -> Known:
    """Stores it, in the place of what was known of this metric before."""
    series = known.series
    with store.transaction():
        end(store, plan, series, known.metric)
        store.db.execute(
            "INSERT INTO acknowledged (plan, test, side, host, metric, against, night, ratio, note, made) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (plan, series.test, series.side, series.host, known.metric, known.against, known.night,
             known.ratio, known.note, now()),
        )  # fmt: skip
    return known


def end(
    store: Store, plan: str, series: Series, metric: str | None = None, against: str | None = None
) -> int:
    """What is slower fails again; how many were known. metric: None for all of the series. against:
    None for whatever it was compared with."""
    cursor = store.db.execute(
        "UPDATE acknowledged SET ended = ? WHERE ended IS NULL AND plan = ? AND test = ? AND side = ? "
        "AND host = ? AND (? IS NULL OR metric = ?) AND (? IS NULL OR against = ?)",
        (now(), plan, series.test, series.side, series.host, metric, metric, against, against),
    )
    return cursor.rowcount
