# SPDX-License-Identifier: GPL-2.0-only
"""What the report of a night shows beside its verdict."""

from pathlib import Path
from typing import Any

from dmabuf_nightly import analyse, fio, results, store
from dmabuf_report.model import Commands, Results

from made import KEY, SERIES, SUBJECT, Made


class Shown(Made):
    """Nights whose runs say more of themselves."""

    said: dict[str, Any] = {}
    drive = "a drive"

    def complete(self, run: int, value: float, *_: Any) -> None:
        outcome = fio.Outcome(metrics={"read_iops": value}, **self.said)
        self.store.complete(run, outcome, 1, {**KEY, "drive": self.drive}, SUBJECT, {}, {})


def report(made: Made) -> Results:
    night = made.store.nights("p")[-1].id
    return results.build(analyse.judge_night(made.store, made.store.night(night)))


def test_datapath_depth_and_counts_are_in_the_document(tmp_path: Path) -> None:
    made = Shown(tmp_path / "s.db")
    made.said = {"datapath": "premapped", "depth": 8, "load": "randread", "cpu_percent": 42.0,
                 "commands": {"count": 3, "requests": 2, "bytes": 8192}}
    for _ in range(2):
        made.night(1000)
    found = report(made)
    (measured,) = found.measurements
    assert measured.commands == Commands(30, 20, 81920)  # of ten runs
    assert (measured.cpu_percent, measured.parameters["rw"]) == (42, "randread")
    assert [(h.datapath, h.depth) for h in found.histories] == [("premapped", 8)]


def test_what_older_runs_did_not_say_is_left_out(tmp_path: Path) -> None:
    made = Shown(tmp_path / "s.db")
    made.night(1000)
    (measured,) = report(made).measurements
    assert (measured.commands, measured.cpu_percent, "rw" in measured.parameters) == (None, None, False)
    # Neither is in what an older release stored.
    made.store.db.execute("UPDATE run SET outcome = '{\"datapath\": \"premapped\"}'")
    (measured,) = report(made).measurements
    assert (measured.commands, measured.cpu_percent, measured.datapath) == (None, None, "premapped")


def test_one_run_without_counts_leaves_none_for_the_night(tmp_path: Path) -> None:
    made = Shown(tmp_path / "s.db")
    made.said = {"commands": {"count": 3, "requests": 2, "bytes": 8192}}
    made.night(1000)
    run = made.store.runs(1)[3]
    made.store.db.execute("UPDATE run SET outcome = '{\"datapath\": \"premapped\"}' WHERE id = ?", (run.id,))
    assert isinstance(made.store, store.Store) and run.series == SERIES
    assert report(made).measurements[0].commands is None


def test_an_emulated_drive_is_known_by_its_model(tmp_path: Path) -> None:
    for drive, wanted in (("QEMU NVMe Ctrl", True), ("SAMSUNG MZQL21T9HCJR", None)):
        made = Shown(tmp_path / f"{wanted}.db")
        made.drive = drive
        made.night(1000)
        assert report(made).measurements[0].emulated is wanted
