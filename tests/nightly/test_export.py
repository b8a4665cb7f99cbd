# SPDX-License-Identifier: GPL-2.0-only
"""What is exported is what Apache Otava documents as its CSV tests.

Otava itself is no Debian package and does not run here. The reader below is written from its
documentation: `type`, `file`, `time_column`, `attributes` and `metrics` of a test name columns of a
file with a header; each row is as long; metrics are numbers; times have a zone; quotes are `"`.
"""

import csv
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import export, fio
from dmabuf_nightly.store import Series, Store

yaml = pytest.importorskip("yaml", reason="needs python3-yaml")

SERIES = Series("randread-4k", "", "local")
LABEL = 'a "label", with a comma'


def night(store: Store, number: int, metrics: dict[str, float], key: str = "one") -> None:
    """A night of five runs, some time after the one before."""
    with store.transaction():
        made = store.add_night("night", "p", "version = 1", "h", 1, LABEL)
        store.add_runs(made, 0, [(SERIES, repeat) for repeat in range(1, 6)])
    store.db.execute("UPDATE night SET started = ? WHERE id = ?",
                     (f"2026-11-{number:02}T01:00:00Z", made))  # fmt: skip
    for run in store.runs(made):
        outcome = fio.Outcome(metrics={n: v + run.repeat for n, v in metrics.items()})
        store.complete(run.id, outcome, 1, {"CPU": key}, {}, {}, {})


def read_test(name: str, conf: dict[str, Any]) -> tuple[list[datetime], dict[str, list[float]]]:
    """A test of Otava's configuration: its times and values; fails where Otava would."""
    assert conf["type"] == "csv", name
    with open(conf["file"], newline="") as file:
        rows = list(csv.reader(file, delimiter=",", quotechar='"'))
    head, rows = rows[0], rows[1:]
    assert isinstance(conf["attributes"], list) and isinstance(conf["metrics"], dict)
    for column in [conf["time_column"], *conf["attributes"]]:
        assert column in head, f"{name}: {column} is no column"
    # A column of this name has a meaning of its own there.
    assert "branch" not in head
    times, values = [], {metric: [] for metric in conf["metrics"]}  # type: ignore[var-annotated]
    for row in rows:
        assert len(row) == len(head)
        times.append(datetime.fromisoformat(row[head.index(conf["time_column"])]))
        for metric, how in conf["metrics"].items():
            assert int(how["direction"]) in (1, -1)
            values[metric].append(float(row[head.index(how["column"])]))
    assert all(time.tzinfo for time in times) and times == sorted(set(times))
    return times, values


def test_otava_can_read_what_is_exported(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    night(store, 1, {"read_iops": 9, "cpu_per_gib": 9}, key="another machine")
    for number in range(2, 7):
        metrics = {"read_iops": 1000.0 * number, "cpu_per_gib": 0.5, "read_clat_p99": 10.0}
        if number == 4:
            del metrics["read_clat_p99"]
        night(store, number, metrics)
    written = export.write(store, "p", tmp_path / "out")
    assert [path.name for path in written] == ["randread-4k-local.csv", "otava.yaml"]
    tests = yaml.safe_load((tmp_path / "out/otava.yaml").read_text())["tests"]
    assert list(tests) == ["randread-4k-local"]
    conf = tests["randread-4k-local"]
    times, values = read_test("randread-4k-local", conf)
    assert [time.day for time in times] == [2, 3, 4, 5, 6]  # of one machine
    # A gap is no number: the metric that one night lacks is left out.
    assert values == {"read_iops": [1000.0 * n + 3 for n in range(2, 7)], "cpu_per_gib": [3.5] * 5}
    assert conf["metrics"]["read_iops"]["direction"] == 1
    assert conf["metrics"]["cpu_per_gib"]["direction"] == -1
    with open(conf["file"], newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {LABEL}
