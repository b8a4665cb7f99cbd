# SPDX-License-Identifier: GPL-2.0-only
"""Stores of earlier versions are read, with their history and their baselines. make_store.py made them."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, baseline
from dmabuf_nightly.errors import NightlyError
from dmabuf_nightly.store import SCHEMA_VERSION, Store
from made import Made

HERE = Path(__file__).resolve().parent
OLD = sorted((HERE / "stores").glob("version-*.sql"))


def filled(text: str, path: Path) -> Path:
    """The store that this SQL makes."""
    with sqlite3.connect(path) as db:
        db.executescript(text)
    db.close()
    return path


def schema(path: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    # Comments and white space are nobody's schema.
    plain = [[re.sub(r"--[^\n]*|\s+", " ", str(value)).replace('"', "") for value in row] for row in rows]
    return [tuple(re.sub(r"\s*([(),]|$)\s*", r"\1", value).strip() for value in row) for row in plain]


def test_there_is_a_store_of_each_version_before_this() -> None:
    assert [path.stem for path in OLD] == [f"version-{n}" for n in range(1, SCHEMA_VERSION)]


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
def test_an_old_store_is_read(old: Path, tmp_path: Path) -> None:
    path = filled(old.read_text(), tmp_path / "s.db")
    store = Store(path)
    assert [(n.status, bool(n.finished)) for n in store.nights("p")] == [
        ("measured", True), ("measured", True), ("fail", True), (None, False)
    ]
    assert [len([r for r in store.runs(n.id) if r.state == "done"]) for n in store.nights()] == [5, 5, 5, 2]
    run = store.runs(1)[0]
    assert run.metrics == {"read_iops": 1001} and store.bins(run.id) == {"read": {5000: 11}}
    # A processor's microcode is what is judged, and no longer what makes machines differ.
    assert store.facts(run.key) == {"CPU": "a processor", "drive": "a drive"}
    assert store.facts(run.subject) == {
        "kernel": "6.12", "module srcversion": "ABC", "CPU microcode": "0x10"
    }
    pinned = baseline.all_of(store, "p")
    assert [(b.nights, b.key, len(b.runs)) for b in pinned] == [([1, 2], run.key, 10)]
    # What was decided counts against the baseline that was pinned then; nothing says what the jobs were.
    assert [(row["state"], row["document"]["baseline"]) for row in store.decisions(3)] == [("confirmed", 1)]
    assert {run.job for run in store.runs(1)} == {""} and not pinned[0].jobs_known
    assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()
    Store(tmp_path / "new.db").close()
    assert schema(path) == schema(tmp_path / "new.db")
    Store(path).close()  # and once more


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
def test_a_night_of_today_goes_on_where_an_old_store_ended(old: Path, tmp_path: Path) -> None:
    """Its key has facts that nobody looked for then, and which therefore do not differ."""
    filled(old.read_text(), tmp_path / "s.db")
    made = Made(tmp_path / "s.db")
    key = {"CPU": "a processor", "drive": "a drive", "memory": "system", "route": "host"}
    text = made.store.night(3).plan_text
    made.night([801, 802, 803, 804, 805], key=key, text=text)
    judgement = analyse.in_order(made.store, made.store.night(5))
    assert [f.state for f in judgement.findings] == ["confirmed"]
    assert "baseline of nights 1, 2" in judgement.findings[0].text
    # Where both were looked at, they do.
    made.call("baseline", "pin", "--plan", "p", "--nights", "5", "--replace")
    made.night([801, 802, 803, 804, 805], key={**key, "memory": "peer"}, text=text)
    judgement = analyse.in_order(made.store, made.store.night(6))
    assert "memory differ" in judgement.findings[0].text


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    broken = OLD[0].read_text().replace("CREATE TABLE decision", "CREATE TABLE acknowledged")
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.executescript(re.sub(r'INSERT INTO "decision".*\n', "", broken))
    db.close()
    before = schema(tmp_path / "s.db")
    with pytest.raises(NightlyError, match="cannot be used as a store"):
        Store(tmp_path / "s.db")
    assert schema(tmp_path / "s.db") == before
    with sqlite3.connect(tmp_path / "s.db") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s.db").db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(NightlyError, match="newer release"):
        Store(tmp_path / "s.db")


def test_the_generator_prints_a_store_of_this_version(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-B", str(HERE / "make_store.py")], check=True, text=True,
                          capture_output=True)
    assert len(Store(filled(done.stdout, tmp_path / "s.db")).nights("p")) == 4
