# SPDX-License-Identifier: GPL-2.0-only
"""Lets go of what old nights need no more: fio's output and the latency bins. Figures, decisions and
baselines stay, so that the history does."""

import shutil

from .store import Store


def prune(store: Store, keep: int, plan: str | None = None) -> list[int]:
    """Prunes all nights of a plan, or of each, but the last so many and those of baselines."""
    pinned = {
        row[0] for row in store.db.execute(
            "SELECT DISTINCT run.night FROM baseline_run JOIN run ON run.id = baseline_run.run "
            "JOIN baseline ON baseline.id = baseline_run.baseline WHERE baseline.replaced IS NULL"
        )
    }
    nights = [n for kind in ("night", "bisect", "reference") for n in store.nights(plan, kind)]
    by_plan: dict[tuple[str, str], list[int]] = {}
    for night in nights:
        by_plan.setdefault((night.kind, night.plan), []).append(night.id)
    old = {n for numbers in by_plan.values() for n in numbers[: max(0, len(numbers) - keep)]}
    gone = sorted(old - pinned - {n.id for n in nights if not n.finished})
    with store.transaction():
        for number in gone:
            store.db.execute("DELETE FROM bins WHERE run IN (SELECT id FROM run WHERE night = ?)", (number,))
            store.db.execute("UPDATE run SET files = '{}' WHERE night = ?", (number,))
    for number in gone:
        shutil.rmtree(store.files / f"night-{number:04d}", ignore_errors=True)
    store.db.execute("VACUUM")
    return gone
