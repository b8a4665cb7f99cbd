# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual on two drives at once in the lab, and the report of each on this machine."""

import json
import subprocess
import sys
from pathlib import Path

from dmabuf_report import document

ROOT = Path(__file__).resolve().parents[3]


def report(folder: Path) -> tuple[int, document.Results]:
    """Writes the report of a run; its exit status, and what it says."""
    done = subprocess.run(
        [ROOT / "scripts/dmabuf-qual", "report", folder], text=True, check=False, stdout=subprocess.PIPE
    )
    print(done.stdout, file=sys.stderr)
    return done.returncode, document.load(folder / "results.json")


def test_two_drives_at_once_have_a_report_and_a_verdict_each(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            ROOT / "scripts/dmabuf-lab",
            *("run", "--formats", "--timeout", "800", "--share", tmp_path, "--"),
            "/usr/bin/python3 -B /src/tests/vm/qual/two.py /share/both",
        ],
        text=True,
        check=False,
        stdout=subprocess.PIPE,
    )
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0

    status, good = report(tmp_path / "both/lab-nvme")
    assert (status, good.verdict.status) == (77, "inconclusive")
    assert {one.id: one.status for one in good.requirements}["integrity.drive"] == "pass"
    assert "fail" not in {one.status for one in good.requirements}
    assert "DRIVE_CORRUPTED" not in (tmp_path / "both/lab-nvme/results.json").read_text()

    status, bad = report(tmp_path / "both/lab-formats")
    assert (status, bad.verdict.status) == (1, "fail")
    assert [one.id for one in bad.requirements if one.status == "fail"] == ["integrity.drive", "drive.log"]
    for one in (good, bad):
        assert "2 drives ran at once" in one.verdict.text

    runs = [json.loads((tmp_path / "both" / name / "run.json").read_text()) for name in ("lab-nvme", "lab-formats")]
    assert [run["serial"] for run in runs] == ["lab-nvme", "lab-formats"]
    # Linux counts a drive's namespaces in the order in which it finds them.
    assert runs[0]["device"] == "/dev/nvme0n1" and runs[1]["device"].startswith("/dev/nvme1n")
    assert all(run["among"] == ["lab-nvme", "lab-formats"] and run["finished"] for run in runs)
