#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Prints a small store as SQL, made by the code of this checkout.

    git checkout REVISION && tests/nightly/make_store.py > tests/nightly/stores/version-N.sql

A change of the schema adds the last store of the version before it, made like this: test_migrate.py
reads each of them with the code of today. The store has two measured nights, a judged one with a
confirmed metric, a baseline, and a night that was interrupted.
"""

import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from dmabuf_nightly import baseline, fio  # noqa: E402
from dmabuf_nightly.store import MEASURED, SCHEMA_VERSION, Series, Store  # noqa: E402

SERIES = Series("c", "", "local")
PLAN = """version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
"""
KEY = {"CPU": "a processor", "drive": "a drive"}
SUBJECT = {"kernel": "6.12", "module srcversion": "ABC", "CPU microcode": "0x10"}
WHEN = "2026-11-{night:02}T01:00:00Z"


def night(store: Store, value: float, done: int = 5) -> int:
    """A night of five runs, of which the first so many are done."""
    with store.transaction():
        number = store.add_night("night", "p", PLAN, "hash", 1, f"commit {value:g}")
        store.add_runs(number, 0, [(SERIES, repeat) for repeat in range(1, 6)])
    store.db.execute("UPDATE night SET started = ? WHERE id = ?", (WHEN.format(night=number), number))
    for run in store.runs(number)[:done]:
        outcome = fio.Outcome(metrics={"read_iops": value + run.repeat},
                              bins={"read": {5000: 10 + run.repeat}}, datapath="premapped")
        outcome.proven = True
        store.begin(run.id)
        store.complete(run.id, outcome, 1.0, KEY, SUBJECT, {"boot": "b"},
                       {"fio": f"night-{number:04}/run-0-{run.position:04}.fio.json"})
    return number


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.db")
        for value in (1000, 1010):
            store.finish(night(store, value), MEASURED, "")
        baseline.pin(store, "p", [1, 2], [], "the first two", False)
        judged = night(store, 800)
        store.decide(judged, SERIES, "read_iops", "confirmed", "baseline",
                     {"text": "slower", "threshold": 0.02, "ratio": 0.8, "change_from": None,
                      "baseline": 1})
        store.finish(judged, "fail", "1 of 2 requirements failed")
        night(store, 900, done=2)
        print(f"-- A store of version {SCHEMA_VERSION}, printed by make_store.py.")
        print("\n".join(line for line in store.db.iterdump()))
        print(f"PRAGMA user_version = {SCHEMA_VERSION};")


if __name__ == "__main__":
    main()
