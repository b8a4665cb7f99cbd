# SPDX-License-Identifier: GPL-2.0-only
"""Nights of the engine on the lab's drive, judged on this machine."""

import csv
import subprocess
import sys
from pathlib import Path

from dmabuf_report import document

ROOT = Path(__file__).resolve().parents[3]


def test_two_nights_in_the_lab_are_judged_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts/dmabuf-lab", *("run", "--timeout", "800", "--share", tmp_path, "--"),
         "/usr/bin/python3 -B /src/tests/vm/nightly/run.py /share"],
        text=True, check=False, stdout=subprocess.PIPE,
    )
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0

    def nightly(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-B", str(ROOT / "scripts/dmabuf-nightly"), *words,
                               "--store", str(tmp_path / "nights.db")], text=True, check=False,
                              capture_output=True)

    pinned = nightly("baseline", "pin", "--plan", "lab", "--nights", "1")
    assert pinned.returncode == 0 and pinned.stdout.count("5 runs") == 2, pinned.stdout + pinned.stderr
    judged = nightly("analyze", "--night", "2", "--report", str(tmp_path / "out"))
    # An emulated drive beside other work may well be slower in one of two nights.
    assert judged.returncode in (0, 1, 77), judged.stdout + judged.stderr
    found = document.load(tmp_path / "out/results.json")
    assert {(m.case, m.datapath) for m in found.measurements} == {
        ("randread-4k", "premapped"), ("read-one", "registered")
    }
    assert all(m.proof is not None and m.proof.proven for m in found.measurements)
    by_id = {r.id: r for r in found.requirements}
    for name in ("randread-4k", "read-one"):
        runs = by_id[f"{name}.local.runs"]
        assert (runs.status, runs.text) == ("pass", "5 of 5 runs are valid, 5 with a proven datapath")
        # Compared, and not left out for another machine or too few runs.
        assert "than baseline of night 1" in by_id[f"{name}.local.read_iops"].text
    assert nightly("export", "--plan", "lab", "--csv", str(tmp_path / "csv")).returncode == 0
    rows = list(csv.DictReader((tmp_path / "csv/randread-4k-local.csv").open()))
    assert [row["night"] for row in rows] == ["1", "2"]
