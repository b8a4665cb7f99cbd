# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual in the lab, and the report of its run in all forms on this machine."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from dmabuf_report import document

ROOT = Path(__file__).resolve().parents[3]


def test_faults_are_named_and_a_good_run_ends_in_a_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            ROOT / "scripts/dmabuf-lab",
            *("run", "--timeout", "800", "--share", tmp_path, "--"),
            "/usr/bin/python3 -B /src/tests/vm/qual/whole.py /share/good",
        ],
        text=True,
        check=False,
        stdout=subprocess.PIPE,
    )
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0

    report = subprocess.run(
        [ROOT / "scripts/dmabuf-qual", "report", tmp_path / "good"],
        text=True,
        check=False,
        stdout=subprocess.PIPE,
    )
    assert report.returncode == 3, report.stdout
    assert report.stdout.splitlines()[-1].startswith("verdict: no-fault")

    results = document.load(tmp_path / "good/results.json")
    assert results.verdict.status == "no-fault"
    assert "qualifies nothing" in results.verdict.text
    assert "the default thresholds" in results.verdict.text
    assert "memory: udmabuf system memory" in results.verdict.text
    assert any("say nothing about hardware" in note for note in results.notes)
    paths = {m.datapath for m in results.measurements}
    assert {"premapped", "registered", "bvec", "bounce", "host"} <= paths
    assert all(m.proof is not None and m.proof.proven for m in results.measurements)
    by_id = {r.id: r for r in results.requirements}
    assert by_id["performance.ratio"].status == "skip"
    for name in ("integrity.read", "machine.ready", "drive.log", "drive.health", "faults.liar"):
        assert by_id[name].status == "pass", by_id[name]

    suites = ET.parse(tmp_path / "good/results.junit.xml").getroot()
    assert len(list(suites.iter("testcase"))) == len(results.requirements)
    assert not list(suites.iter("failure"))
    ktap = (tmp_path / "good/results.ktap").read_text()
    assert len(re.findall(r"^\s*ok ", ktap, re.MULTILINE)) >= len(results.requirements)
    assert not re.search(r"^\s*not ok ", ktap, re.MULTILINE)
    assert (tmp_path / "good/results.csv").read_text().count("\n") > len(results.measurements)
    page = (tmp_path / "good/results.html").read_text()
    assert "integrity.read" in page and "<svg" in page

    again = subprocess.run(
        [ROOT / "scripts/dmabuf-qual", "compare", tmp_path / "good", tmp_path / "good"],
        text=True,
        check=False,
        stdout=subprocess.PIPE,
    )
    assert again.returncode == 0, again.stdout
    run = json.loads((tmp_path / "good/run.json").read_text())
    assert [part["log"]["lines"] for part in run["parts"]] == [[]]
