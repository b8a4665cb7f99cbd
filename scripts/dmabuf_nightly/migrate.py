# SPDX-License-Identifier: GPL-2.0-only
"""Brings the stores of earlier releases to the schema of this one, with their history and baselines."""

import json
import re
import sqlite3

from dmabuf_common.fingerprint import Facts, digest

# What version 2 has.
ACKNOWLEDGED = """
-- What was confirmed and is known: it fails no more, unless it becomes worse. ended: no longer.
CREATE TABLE acknowledged (
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, test TEXT NOT NULL, side TEXT NOT NULL,
  host TEXT NOT NULL, metric TEXT NOT NULL, against TEXT NOT NULL,
  night INTEGER NOT NULL REFERENCES night(id), ratio REAL NOT NULL, note TEXT NOT NULL,
  made TEXT NOT NULL, ended TEXT
) STRICT
"""

# The option of a second section of one name, as jobs called it before version 4.
_AGAIN = re.compile(r"\[(.+) (\d+)\] (.+)")
_MICROCODE = "CPU microcode"


class _Facts:
    """The stored facts, by their hash."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def get(self, name: str) -> Facts:
        row = self.db.execute("SELECT facts FROM fingerprint WHERE hash = ?", (name,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def put(self, facts: Facts) -> str:
        name = digest(facts)
        self.db.execute(
            "INSERT OR IGNORE INTO fingerprint VALUES (?, ?)", (name, json.dumps(facts, sort_keys=True))
        )
        return name


def _to_2(db: sqlite3.Connection) -> None:
    """The processor's microcode is what is judged, and no part of the key. A night that was only
    measured has a status of its own."""
    facts = _Facts(db)
    pairs = db.execute("SELECT DISTINCT key, subject FROM run WHERE key IS NOT NULL").fetchall()
    for key, subject in pairs:
        old = facts.get(key)
        if _MICROCODE not in old:
            continue
        new_subject = facts.put({**facts.get(subject), _MICROCODE: old[_MICROCODE]})
        db.execute("UPDATE run SET subject = ? WHERE key = ? AND subject = ?",
                   (new_subject, key, subject))
    for table in ("run", "baseline"):
        for (key,) in db.execute(f"SELECT DISTINCT key FROM {table} WHERE key IS NOT NULL").fetchall():
            old = facts.get(key)
            if _MICROCODE in old:
                del old[_MICROCODE]
                db.execute(f"UPDATE {table} SET key = ? WHERE key = ?", (facts.put(old), key))
    db.execute(
        "UPDATE night SET status = 'measured', verdict = '' WHERE verdict = 'measured, and not judged'"
    )
    db.execute(ACKNOWLEDGED)


def _to_3(db: sqlite3.Connection) -> None:
    """A run has its job. What was decided says against which baseline: the one that was pinned when the
    night was judged."""
    db.execute("ALTER TABLE run ADD COLUMN job TEXT REFERENCES fingerprint(hash)")
    db.execute(
        "UPDATE decision SET document = json_set(document, '$.baseline', (SELECT max(baseline.id) FROM "
        "baseline JOIN night ON night.id = decision.night WHERE baseline.plan = night.plan AND "
        "baseline.test = decision.test AND baseline.side = decision.side AND baseline.host = decision.host "
        "AND baseline.pinned <= coalesce(night.finished, night.started) AND "
        "coalesce(baseline.replaced, '9') > coalesce(night.finished, night.started))) "
        "WHERE against = 'baseline'"
    )


def _to_4(db: sqlite3.Connection) -> None:
    """A night says whether it was judged with the demand for a baseline; till now its decisions said so.
    A baseline says which nights there were when it was pinned. Sections of a job are told apart. What
    is known says how slow that night was by itself, and for how long it is known."""
    _sections_apart(db)
    db.execute("ALTER TABLE acknowledged ADD COLUMN own REAL")
    db.execute("ALTER TABLE acknowledged ADD COLUMN until INTEGER")
    db.execute("ALTER TABLE night ADD COLUMN need_baseline INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "UPDATE night SET need_baseline = 1 WHERE id IN (SELECT night FROM decision WHERE "
        "json_extract(document, '$.text') LIKE 'no baseline is pinned, and one is demanded%')"
    )
    db.execute("ALTER TABLE baseline ADD COLUMN last_night INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "UPDATE baseline SET last_night = coalesce((SELECT max(id) FROM night WHERE started <= pinned), 0)"
    )


def _sections_apart(db: sqlite3.Connection) -> None:
    """The second section of one name was called "[a 2]", as another one may be."""
    facts = _Facts(db)
    for (job,) in db.execute("SELECT DISTINCT job FROM run WHERE job IS NOT NULL").fetchall():
        old = facts.get(job)
        names = old.get("sections", "").split(", ")
        new = {}
        for name, value in old.items():
            match = _AGAIN.match(name)
            if match and names.count(match[1]) >= int(match[2]) and f"{match[1]} {match[2]}" not in names:
                name = f"[{match[1]}] {match[2]} {match[3]}"
            new[name] = value
        if new != old:
            db.execute("UPDATE run SET job = ? WHERE job = ?", (facts.put(new), job))


# What makes a store of version N + 1 of one of version N.
STEPS = {1: _to_2, 2: _to_3, 3: _to_4}


def migrate(db: sqlite3.Connection, version: int, wanted: int) -> None:
    """Inside a transaction: all of it or nothing."""
    for number in range(version, wanted):
        STEPS[number](db)
