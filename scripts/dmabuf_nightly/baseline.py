# SPDX-License-Identifier: GPL-2.0-only
"""Pinned baselines. They change when somebody pins, and at no other time."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from dmabuf_common.clock import now
from dmabuf_common.fingerprint import differences

from . import acknowledge, jobfacts
from .earlier import Pin
from .errors import NightlyError
from .store import Run, Series, Store


@dataclass
class Baseline:
    """A pinned baseline and its runs. since: the first night that is judged by it."""

    id: int
    series: Series
    key: str
    pinned: str
    nights: list[int]
    note: str
    runs: list[Run]
    since: int

    @property
    def jobs_known(self) -> bool:
        """Whether the jobs of all its runs are stored, as they are not where an earlier release ran them."""
        return all(run.job for run in self.runs)

    @property
    def name(self) -> str:
        """How a report calls it."""
        word = "night" if len(self.nights) == 1 else "nights"
        return f"baseline of {word} {', '.join(map(str, self.nights))}"


def all_of(store: Store, plan: str) -> list[Baseline]:
    """The baselines of a plan that are in force."""
    ever = _ever(store, plan)
    return [
        _loaded(store, those, len(those) - 1)
        for _, those in sorted(ever.items(), key=lambda item: (item[0].test, item[0].side, item[0].host))
    ]


def _ever(store: Store, plan: str) -> dict[Series, list[sqlite3.Row]]:
    """All baselines of a plan by their series, in the order in which they were pinned."""
    found: dict[Series, list[sqlite3.Row]] = defaultdict(list)
    for row in store.db.execute("SELECT * FROM baseline WHERE plan = ? ORDER BY id", (plan,)):
        found[Series(row["test"], row["side"], row["host"])].append(row)
    return found


def _since(rows: Sequence[sqlite3.Row], index: int) -> int:
    """The first night that is judged by a baseline: the first one that was begun after it was pinned.
    Before the first one there was none, so that it is for all nights from its own on."""
    row = rows[index]
    return int(row["last_night"]) + 1 if index else int(min(json.loads(row["nights"])))


def _loaded(store: Store, rows: Sequence[sqlite3.Row], index: int) -> Baseline:
    row = rows[index]
    ids = [
        r["run"]
        for r in store.db.execute(
            "SELECT run FROM baseline_run WHERE baseline = ? ORDER BY run", (row["id"],)
        )
    ]
    series = Series(row["test"], row["side"], row["host"])
    return Baseline(row["id"], series, row["key"], row["pinned"], json.loads(row["nights"]),
                    row["note"], store.runs_of(ids), _since(rows, index))


def in_force(store: Store, plan: str, night: int) -> dict[Series, Baseline]:
    """The baselines that a night is judged by: what it was judged by before, and else those of its time. A
    later pin changes nothing of that."""
    decided: dict[Series, int | None] = {
        Series(row["test"], row["side"], row["host"]): row["document"].get("baseline")
        for row in store.decisions(night) if row["against"] == "baseline"
    }
    found = {}
    for series, rows in _ever(store, plan).items():
        if series in decided:
            fit = [i for i, row in enumerate(rows) if row["id"] == decided[series]]
        else:
            fit = [i for i in range(len(rows)) if night >= _since(rows, i)]
        if fit:
            found[series] = _loaded(store, rows, fit[-1])
    return found


def pins(store: Store, plan: str) -> dict[Series, list[Pin]]:
    """All baselines that a plan ever had, by their series."""
    found: dict[Series, list[Pin]] = defaultdict(list)
    for series, rows in _ever(store, plan).items():
        found[series] = [Pin(row["id"], tuple(json.loads(row["nights"]))) for row in rows]
    return found


def of(store: Store, plan: str, series: Series) -> Baseline | None:
    """The baseline of a series."""
    return next((b for b in all_of(store, plan) if b.series == series), None)


def pin(
    store: Store, plan: str, nights: Sequence[int], tests: Sequence[str], note: str, replace: bool
) -> list[Baseline]:
    """Pins the valid runs of these nights. An existing baseline is replaced only when asked to.

    Raises NightlyError when a night is not of this plan, a series has no valid runs, or its runs
    are of machines that must not be compared.
    """
    twice = next((n for n in nights if nights.count(n) > 1), None)
    if twice is not None:
        raise NightlyError(f"night {twice} is named twice, and would count as two")
    known = {night.id for night in store.nights(plan)}
    wrong = next((n for n in nights if n not in known), None)
    if not nights or wrong is not None:
        raise NightlyError(
            f"night {wrong} is no night of plan {plan}; see `dmabuf-nightly nights`"
            if nights else f"plan {plan} has no finished night to pin"
        )
    groups: dict[Series, list[Run]] = {}
    for number in nights:
        for run in store.runs(number, 0):
            if not tests or run.series.test in tests:
                groups.setdefault(run.series, [])
                if run.valid:
                    groups[run.series].append(run)
    if not groups:
        raise NightlyError(f"none of the nights has a case called {' or '.join(tests)}")
    present = {baseline.series: baseline for baseline in all_of(store, plan)}
    for series, runs in groups.items():
        if not runs:
            raise NightlyError(f"{series} has no valid run to pin; see `dmabuf-nightly analyze`")
        pairs = list(combinations(store.unlike(runs), 2))
        changed = sorted({name for one, other in pairs for name in store.differences(one.key, other.key)})
        if changed:
            raise NightlyError(
                f"the runs of {series} cannot be pinned together, their machines differ in "
                f"{', '.join(changed)}; pin nights of one machine"
            )
        for one, other in pairs:
            if changed := store.job_differences(other, one):
                raise NightlyError(
                    f"the runs of {series} cannot be pinned together, their jobs differ: in night {other.night} "
                    f"{jobfacts.shown(changed)}; pin nights of one job"
                )
        for number in nights:
            subjects = sorted({run.subject for run in runs if run.night == number})
            if len(subjects) > 1:
                changed = differences(store.facts(subjects[0]), store.facts(subjects[1]))
                raise NightlyError(
                    f"what is judged changed during night {number}: {', '.join(changed)}; pin others"
                )
        if series in present and not replace:
            raise NightlyError(
                f"{series} has a {present[series].name} already; --replace puts this in its place"
            )
    with store.transaction():
        for series, runs in groups.items():
            if series in present:
                store.db.execute(
                    "UPDATE baseline SET replaced = ? WHERE id = ?", (now(), present[series].id)
                )
            # What is known is how slow it was against what was compared with till now.
            acknowledge.stop(store, plan, series, None)
            cursor = store.db.execute(
                "INSERT INTO baseline (plan, test, side, host, key, pinned, nights, note, "
                "last_night) VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT max(id) FROM night))",
                (plan, series.test, series.side, series.host, runs[0].key, now(),
                 json.dumps([n for n in nights if any(run.night == n for run in runs)]), note),
            )
            store.db.executemany(
                "INSERT INTO baseline_run VALUES (?, ?)",
                [(cursor.lastrowid, run.id) for run in runs],
            )
    return [b for b in all_of(store, plan) if b.series in groups]
