# SPDX-License-Identifier: GPL-2.0-only
"""What is exported is what Apache Otava documents as its CSV tests.

Otava itself is no Debian package and does not run here. The reader below is written from its
documentation: `type`, `file`, `time_column`, `attributes` and `metrics` of a test name columns of a
file with a header; each row is as long; metrics are numbers; times have a zone; quotes are `"`.
"""

import csv
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import export, fio
from dmabuf_nightly.errors import NightlyError
from dmabuf_nightly.store import Series, Store

yaml = pytest.importorskip("yaml", reason="needs python3-yaml")

SERIES = Series("randread-4k", "", "local")
LABEL = '=a "label", with a comma'


def night(store: Store, number: int, metrics: dict[str, float], key: str = "one") -> None:
    """A night of five runs, some time after the one before."""
    with store.transaction():
        made = store.add_night("night", "p", "version = 1", "h", 1, LABEL)
        store.add_runs(made, 0, [(SERIES, repeat) for repeat in range(1, 6)])
    store.db.execute("UPDATE night SET started = ? WHERE id = ?",
                     (f"2026-11-{number:02}T01:00:00Z", made))
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
        assert {row["label"] for row in csv.DictReader(file)} == {"'" + LABEL}


def test_a_path_with_quotes_stays_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    for number in range(1, 3):
        night(store, number, {"read_iops": 1.0})
    folder = tmp_path / 'a"b: {c} \\n'
    export.write(store, "p", folder)
    (conf,) = yaml.safe_load((folder / "otava.yaml").read_text())["tests"].values()
    assert Path(conf["file"]) == (folder / "randread-4k-local.csv").resolve()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert export.cell(text) == "'" + text and export.cell("v1-2") == "v1-2"


@pytest.mark.parametrize("data", [zlib.compress(b"[" + b" " * (64 << 20) + b"]"), zlib.compress(b"[]")[:-4]])
def test_bins_of_a_foreign_store_do_not_fill_the_memory(tmp_path: Path, data: bytes) -> None:
    store = Store(tmp_path / "s.db")
    night(store, 1, {"read_iops": 1.0})
    store.db.execute("INSERT INTO bins VALUES (1, 'read', ?)", (data,))
    with pytest.raises(NightlyError, match="damaged"):
        store.bins(1)


def test_no_table_is_written_through_a_link_nor_into_anothers_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    for number in range(1, 3):
        night(store, number, {"read_iops": 1.0})
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("whole")
    out.mkdir()
    for name in ("randread-4k-local.csv", "otava.yaml"):
        (out / name).symlink_to(victim)
    assert not any(path.is_symlink() for path in export.write(store, "p", out))
    assert victim.read_text() == "whole"
    out.chmod(0o777)
    with pytest.raises(PermissionError, match="anybody may write to it"):
        export.write(store, "p", out)
