# SPDX-License-Identifier: GPL-2.0-only
"""The one store: SQLite. A run is written when it is done, whole or not at all, so that a killed
program loses the run in flight and nothing else. fio's own output is kept in files beside it."""

import json
import math
import os
import sqlite3
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dmabuf_common import files
from dmabuf_common.clock import now
from dmabuf_common.fingerprint import Facts, differences, digest

from . import jobfacts, migrate
from .errors import NightlyError
from .fio import INCONCLUSIVE, VALID, Outcome
from .progress import say

T = TypeVar("T", list[Any], dict[str, Any])

SCHEMA_VERSION = 4

# Facts that keys have since version 2 of the store.
LATER = frozenset({"memory", "route", "drive wear", "CPU frequency", "ASPM", "huge pages",
                   "drive namespace", "drive part"})

# fio has some 1900 bins for a direction, of less than 50 characters each.
MOST_BINS_BYTES = 1 << 20

# The status of a night that was run, and that nobody judged yet.
MEASURED = "measured"
# What the verdict of a night begins with that was given up in the middle.
ABANDONED = "abandoned"

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE fingerprint (hash TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
-- kind: night, or bisect: runs of other commits, which are no part of the history. need_baseline:
-- whether it was judged with that demand.
CREATE TABLE night (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, plan TEXT NOT NULL, plan_text TEXT NOT NULL,
  plan_hash TEXT NOT NULL, seed INTEGER NOT NULL, label TEXT NOT NULL, started TEXT NOT NULL,
  finished TEXT, status TEXT, verdict TEXT,
  need_baseline INTEGER NOT NULL DEFAULT 0
) STRICT;
-- phase: 0 the night itself, 1 and 2 its reruns. state: planned, running, done. job: what it was, as
-- jobfacts.py has it, NULL where an earlier release stored it.
CREATE TABLE run (
  id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES night(id), phase INTEGER NOT NULL,
  position INTEGER NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL, host TEXT NOT NULL,
  repeat INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  started TEXT, seconds REAL, status TEXT, reasons TEXT, key TEXT REFERENCES fingerprint(hash),
  subject TEXT REFERENCES fingerprint(hash), conditions TEXT, outcome TEXT, files TEXT,
  job TEXT REFERENCES fingerprint(hash),
  UNIQUE (night, phase, position)
) STRICT;
CREATE INDEX run_series ON run (test, side, host, night);
CREATE TABLE metric (
  run INTEGER NOT NULL REFERENCES run(id), name TEXT NOT NULL, value REAL NOT NULL,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
-- zlib of JSON [[ns, count], …], as fio's json+ had it.
CREATE TABLE bins (
  run INTEGER NOT NULL REFERENCES run(id), direction TEXT NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (run, direction)
) STRICT, WITHOUT ROWID;
CREATE TABLE decision (
  night INTEGER NOT NULL REFERENCES night(id), test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, metric TEXT NOT NULL, state TEXT NOT NULL, against TEXT NOT NULL,
  document TEXT NOT NULL, PRIMARY KEY (night, test, side, host, metric, against)
) STRICT, WITHOUT ROWID;
-- A baseline is a list of runs. Only `baseline pin` writes here. last_night: the last one that had begun
-- when it was pinned. Those after it are judged by it, until the next one is pinned.
CREATE TABLE baseline (
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, key TEXT NOT NULL, pinned TEXT NOT NULL, nights TEXT NOT NULL,
  note TEXT NOT NULL, replaced TEXT, last_night INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE baseline_run (
  baseline INTEGER NOT NULL REFERENCES baseline(id), run INTEGER NOT NULL REFERENCES run(id),
  PRIMARY KEY (baseline, run)
) STRICT, WITHOUT ROWID;
-- What was confirmed and is known: it fails no more, unless it becomes worse. ratio: how slow it was, of as
-- many nights as decided. own: of that night alone. until: the last night for which it is so. ended: by hand.
CREATE TABLE acknowledged (
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, metric TEXT NOT NULL, against TEXT NOT NULL,
  night INTEGER NOT NULL REFERENCES night(id), ratio REAL NOT NULL, note TEXT NOT NULL,
  made TEXT NOT NULL, ended TEXT, own REAL, until INTEGER
) STRICT;
"""


def _inflate(data: bytes) -> bytes:
    """What zlib made small; a store may be another's, and small data can become very large."""
    stream = zlib.decompressobj()
    text = stream.decompress(data, MOST_BINS_BYTES)
    if not stream.eof:
        raise NightlyError("the store is damaged: latency bins are cut short, or larger than fio makes them")
    return text


def _stored(row: sqlite3.Row, column: str, kind: type[T]) -> T:
    """What was stored as JSON; empty where a run is not done."""
    if not row[column]:
        return kind()
    try:
        found = json.loads(row[column])
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise NightlyError(
            f"the store is damaged: {column} of run {row['id']} cannot be read; take a copy of the store "
            "from before that"
        )
    return found


@dataclass(frozen=True)
class Series:
    """What is compared with itself from night to night."""

    test: str
    side: str
    host: str

    def __str__(self) -> str:
        words = [self.test, self.side and f"({self.side})", self.host and f"on {self.host}"]
        return " ".join(word for word in words if word)


@dataclass
class Night:
    """A night as it is stored."""

    id: int
    kind: str
    plan: str
    plan_text: str
    plan_hash: str
    seed: int
    label: str
    started: str
    finished: str | None
    status: str | None
    verdict: str | None
    need_baseline: bool

    @property
    def abandoned(self) -> bool:
        """Whether it was given up in the middle."""
        return (self.verdict or "").startswith(ABANDONED)


@dataclass
class Run:
    """A run of fio as it is stored."""

    id: int
    night: int
    phase: int
    position: int
    series: Series
    repeat: int
    state: str
    started: str = ""
    seconds: float = 0.0
    status: str = ""
    reasons: list[str] = field(default_factory=list)
    key: str = ""
    subject: str = ""
    job: str = ""
    conditions: dict[str, str] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether its figures count."""
        return self.state == "done" and self.status == VALID


# What is left of a night where more runs than this were unclear was chosen by what made them so.
LEAST_VALID = 0.8


def too_few_valid(runs: Sequence[Run]) -> bool:
    """Whether too large a share of the runs that were done is not valid."""
    done = [run for run in runs if run.state == "done"]
    return sum(run.valid for run in done) < LEAST_VALID * len(done)


class Store:
    """One SQLite file, and a folder of the same name with `.files` for fio's output."""

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path
        self.files = path.with_name(path.name + ".files")
        self._comparable: dict[tuple[str, str], bool] = {}
        self._jobs: dict[tuple[str, str], list[str]] = {}
        if not create and not path.is_file():
            raise NightlyError(f"there is no store {path}; `dmabuf-nightly run` makes one")
        if create:
            files.own_folder(path.parent)
        if path.is_symlink():
            raise NightlyError(f"{path} is a symbolic link, which is not followed; give the store itself")
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self.db.row_factory = sqlite3.Row
            self.db.execute("PRAGMA foreign_keys = ON")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self._prepare()
        except sqlite3.Error as error:
            raise NightlyError(
                f"{path} cannot be used as a store: {error}; it must be an SQLite file on a local "
                "file system"
            ) from error

    def _prepare(self) -> None:
        if self._version() == SCHEMA_VERSION:
            return
        # Two programs may open a new store at once: the second one waits here, and then sees it.
        with self.transaction():
            version = self._version()
            if version == SCHEMA_VERSION:
                return
            if version > SCHEMA_VERSION:
                raise NightlyError(
                    f"{self.path} has store version {version} and this program reads "
                    f"{SCHEMA_VERSION}; use the newer release that wrote it, or another store"
                )
            if version:
                migrate.migrate(self.db, version, SCHEMA_VERSION)
                say(f"{self.path} had version {version} and now has {SCHEMA_VERSION}")
            elif self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise NightlyError(f"{self.path} is no store of dmabuf-nightly; name another one")
            else:
                for statement in SCHEMA.split(";"):
                    self.db.execute(statement)
                self.db.execute("INSERT INTO meta VALUES ('uuid', ?)", (str(uuid.uuid4()),))
            self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        return int(self.db.execute("PRAGMA user_version").fetchone()[0])

    @property
    def uuid(self) -> str:
        """Tells this store's processes from another's."""
        row = self.db.execute("SELECT value FROM meta WHERE name = 'uuid'").fetchone()
        return str(row["value"])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    @contextmanager
    def only_runner(self) -> Iterator[None]:
        """Two programs that run on one store would measure each other."""
        with files.try_lock(self.path.with_name(self.path.name + ".lock")) as free:
            if not free:
                raise NightlyError(
                    f"another dmabuf-nightly is running on {self.path}; wait for it to end"
                )
            yield

    def add_night(
        self, kind: str, plan: str, text: str, plan_hash: str, seed: int, label: str
    ) -> int:
        """A new night; its number."""
        cursor = self.db.execute(
            "INSERT INTO night (kind, plan, plan_text, plan_hash, seed, label, started) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (kind, plan, text, plan_hash, seed, label, now()),
        )
        return int(cursor.lastrowid or 0)

    def add_runs(self, night: int, phase: int, planned: Iterable[tuple[Series, int]]) -> None:
        """The runs of a phase, in the order in which they will run. Inside a transaction."""
        self.db.executemany(
            "INSERT INTO run (night, phase, position, test, side, host, repeat, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 'planned')",
            [
                (night, phase, position, s.test, s.side, s.host, repeat)
                for position, (s, repeat) in enumerate(planned, 1)
            ],
        )

    def nights(self, plan: str | None = None, kind: str = "night") -> list[Night]:
        """Nights in the order they were begun."""
        rows = self.db.execute(
            "SELECT id, kind, plan, plan_text, plan_hash, seed, label, started, finished, status, verdict, "
            "need_baseline FROM night WHERE kind = ? AND (? IS NULL OR plan = ?) ORDER BY id",
            (kind, plan, plan),
        )
        found = [Night(**dict(row)) for row in rows]
        for night in found:
            night.need_baseline = bool(night.need_baseline)
        return found

    def unjudged(self, plan: str, before: int) -> list[Night]:
        """The complete nights of a plan before one that were only measured, in their order."""
        waiting = self.db.execute("SELECT DISTINCT night FROM run WHERE state <> 'done'").fetchall()
        left = {row["night"] for row in waiting}
        return [
            night for night in self.nights(plan)
            if night.id < before and night.status == MEASURED and night.id not in left
        ]

    def night(self, number: int) -> Night:
        """One night, of whatever kind."""
        found = [n for kind in ("night", "bisect", "reference") for n in self.nights(None, kind)]
        for one in found:
            if one.id == number:
                return one
        raise NightlyError(f"there is no night {number} in {self.path}")

    def finish(self, night: int, status: str, verdict: str) -> None:
        """Marks a night as judged."""
        self.db.execute(
            "UPDATE night SET finished = ?, status = ?, verdict = ? WHERE id = ?",
            (now(), status, verdict, night),
        )

    def runs(self, night: int, phase: int | None = None) -> list[Run]:
        """The runs of a night in their order, with their metrics."""
        return self._runs("night = ? AND (? IS NULL OR phase = ?)", (night, phase, phase))

    def _runs(self, where: str, values: Sequence[Any]) -> list[Run]:
        made: dict[int, Run] = {}
        for row in self.db.execute(
            f"SELECT * FROM run WHERE {where} ORDER BY night, phase, position", values
        ):
            made[row["id"]] = Run(
                row["id"], row["night"], row["phase"], row["position"],
                Series(row["test"], row["side"], row["host"]), row["repeat"], row["state"],
                row["started"] or "", row["seconds"] or 0.0, row["status"] or "",
                _stored(row, "reasons", list), row["key"] or "", row["subject"] or "",
                row["job"] or "", _stored(row, "conditions", dict), _stored(row, "outcome", dict),
                _stored(row, "files", dict),
            )
        for row in self.db.execute(
            f"SELECT run, name, value FROM metric WHERE run IN (SELECT id FROM run WHERE {where})",
            values,
        ):
            run = made[row["run"]]
            if math.isfinite(row["value"]):
                run.metrics[row["name"]] = row["value"]
            elif run.status == VALID:
                run.status = INCONCLUSIVE
                run.reasons.append(f"{row['name']} is no number: {row['value']}")
        return list(made.values())

    def series_runs(self, series: Series, plan: str, before: int) -> list[Run]:
        """The first-look runs of a series in the nights before one, reruns left out: they were
        made because something was suspected, and would bend the history."""
        return self._runs(
            "test = ? AND side = ? AND host = ? AND night < ? AND phase = 0 AND night IN "
            "(SELECT id FROM night WHERE kind = 'night' AND plan = ?)",
            (series.test, series.side, series.host, before, plan),
        )

    def runs_of(self, ids: Sequence[int]) -> list[Run]:
        """Runs by their ids."""
        marks = ",".join("?" * len(ids))
        return self._runs(f"id IN ({marks})", ids)

    def requeue(self, night: int) -> int:
        """Runs that were in flight when the program died go back to planned; how many."""
        cursor = self.db.execute(
            "UPDATE run SET state = 'planned' WHERE night = ? AND state = 'running'", (night,)
        )
        return cursor.rowcount

    def begin(self, run: int) -> None:
        """A run is in flight."""
        self.db.execute(
            "UPDATE run SET state = 'running', attempts = attempts + 1, started = ? WHERE id = ?",
            (now(), run),
        )

    def add_facts(self, facts: Mapping[str, str]) -> str:
        """Stores facts once; their hash."""
        name = digest(facts)
        self.db.execute(
            "INSERT OR IGNORE INTO fingerprint VALUES (?, ?)",
            (name, json.dumps(dict(facts), sort_keys=True)),
        )
        return name

    def differences(self, a: str, b: str) -> list[str]:
        """The names of facts in which two keys differ so that their runs must not be compared. What
        was not looked at when one of them was stored does not differ."""
        old, new = self.facts(a), self.facts(b)
        return [
            name for name in differences(old, new)
            if name not in LATER or (name in old and name in new)
        ]

    def comparable(self, a: str, b: str) -> bool:
        """Whether runs with these keys are of one machine."""
        if a != b and (a, b) not in self._comparable:
            self._comparable[a, b] = not self.differences(a, b)
        return a == b or self._comparable[a, b]

    def job_differences(self, new: Run, old: Run) -> list[str]:
        """In what the jobs of two runs differ, in words. Of a run of an earlier release the block size and
        depth alone are known."""
        now, then = jobfacts.reported(new.outcome), jobfacts.reported(old.outcome)
        found = jobfacts.differences(now, then, both=True)
        if not new.job or not old.job:
            return found + jobfacts.differences(
                jobfacts.shape(new.outcome), jobfacts.shape(old.outcome), both=True
            )
        if new.job != old.job:
            if (new.job, old.job) not in self._jobs:
                self._jobs[new.job, old.job] = jobfacts.differences(self.facts(new.job), self.facts(old.job))
            found += self._jobs[new.job, old.job]
        return found

    def alike(self, new: Run, old: Run) -> bool:
        """Whether two runs are of one machine and one job, so that their figures may be compared."""
        return self.comparable(old.key, new.key) and not self.job_differences(new, old)

    def unlike(self, runs: Sequence[Run]) -> list[Run]:
        """One run for each key and job that these have. Where a run lacks a fact, it is alike with two that
        differ in it, so that each of them must be asked."""
        found = {
            (run.key, run.job, *sorted({**jobfacts.reported(run.outcome), **jobfacts.shape(run.outcome)}.items())): run
            for run in reversed(runs)
        }
        return list(reversed(found.values()))

    def facts(self, name: str) -> Facts:
        """Facts by their hash."""
        row = self.db.execute("SELECT facts FROM fingerprint WHERE hash = ?", (name,)).fetchone()
        return dict(json.loads(row["facts"])) if row else {}

    def complete(
        self, run: int, outcome: Outcome, seconds: float, key: Mapping[str, str],
        subject: Mapping[str, str], conditions: Mapping[str, str], files: Mapping[str, str],
        job: Mapping[str, str] | None = None,
    ) -> None:
        """Writes all that a run gave, in one transaction. job: as jobfacts.facts() has it."""
        known = ("datapath", "exporter", "proven", "proof", "block_bytes", "depth", "version",
                 "memory", "route", "load", "cpu_percent", "commands")
        for name, value in outcome.metrics.items():
            if not math.isfinite(value):
                outcome.unclear(f"{name} is no number: {value}")
        with self.transaction():
            self.db.execute(
                "UPDATE run SET state = 'done', seconds = ?, status = ?, reasons = ?, key = ?, "
                "subject = ?, conditions = ?, outcome = ?, files = ?, job = ? WHERE id = ?",
                (seconds, outcome.status, json.dumps(outcome.reasons), self.add_facts(key),
                 self.add_facts(subject), json.dumps(dict(conditions)),
                 json.dumps({name: getattr(outcome, name) for name in known}),
                 json.dumps(dict(files)), self.add_facts(job) if job else None, run),
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO metric VALUES (?, ?, ?)",
                [(run, name, value) for name, value in outcome.metrics.items() if math.isfinite(value)],
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO bins VALUES (?, ?, ?)",
                [
                    (run, direction, zlib.compress(json.dumps(list(found.items())).encode()))
                    for direction, found in outcome.bins.items()
                ],
            )

    def bins(self, run: int) -> dict[str, dict[int, int]]:
        """The latency bins of a run by direction."""
        rows = self.db.execute("SELECT direction, data FROM bins WHERE run = ?", (run,))
        return {
            row["direction"]: {int(ns): int(n) for ns, n in json.loads(_inflate(row["data"]))}
            for row in rows
        }

    def decide(self, night: int, series: Series, metric: str, state: str, against: str,
               document: Mapping[str, Any]) -> None:
        """Stores what was decided about one metric."""
        self.db.execute(
            "INSERT OR REPLACE INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (night, series.test, series.side, series.host, metric, state, against,
             json.dumps(dict(document))),
        )

    def decisions(self, night: int | None = None, plan: str | None = None) -> list[dict[str, Any]]:
        """What was decided, in one night or in all, of one plan or of all, oldest first."""
        rows = self.db.execute(
            "SELECT decision.* FROM decision JOIN night ON night.id = decision.night "
            "WHERE (? IS NULL OR night.id = ?) AND (? IS NULL OR night.plan = ?) ORDER BY night.id",
            (night, night, plan, plan),
        )
        return [{**dict(row), "document": json.loads(row["document"])} for row in rows]

    def demand_baseline(self, night: int) -> None:
        """Whoever judges this night from now on does it with that demand, too."""
        self.db.execute("UPDATE night SET need_baseline = 1 WHERE id = ?", (night,))

    def forget_decisions(self, night: int) -> None:
        """A night that is judged again starts without decisions of its own."""
        self.db.execute("DELETE FROM decision WHERE night = ?", (night,))

    def close(self) -> None:
        """Ends the connection."""
        self.db.close()
