# SPDX-License-Identifier: GPL-2.0-only
"""What docs/ci.md and the example plans say is run here: the commands as they stand, against the program's own
arguments, and the plans as far as they go without their machines."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import jobfile, machine, plan, runner
from dmabuf_nightly.plan import shipped_jobs
from dmabuf_nightly.store import Series
from made import Made

yaml = pytest.importorskip("yaml", reason="needs python3-yaml")

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "docs/examples/ci"
THREE = ROOT / "docs/examples/three-hosts.toml"

# Takes what dmabuf-nightly takes, and nothing else; writes the reports that it would; ends as it is told.
FAKE = """#!{python} -B
import os, sys
sys.path.insert(0, {scripts!r})
from dmabuf_nightly import cli
from dmabuf_report import model, write
from pathlib import Path
args = cli.parser().parse_args(sys.argv[1:])
assert args.command == "run" and not args.measure
inside = args.store.resolve().is_relative_to(Path.cwd())
status = {{0: "pass", 1: "fail", 77: "inconclusive"}}[int(os.environ["ENDS"])]
now = "2026-11-26T01:00:00Z"
write.write(model.Results(model.Tool("dmabuf-nightly", "1"), "night", now, now, model.Verdict(status, "why")), args.report)
Path("seen").write_text(f"{{args.label}} {{inside}}")
sys.exit(int(os.environ["ENDS"]))
"""


class Runner:
    """A workspace with a plan, and the program in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workspace"
        (self.folder / "ci").mkdir(parents=True)
        (self.folder / "ci/basic.toml").write_text((ROOT / "jobs/plans/basic.toml").read_text())
        (folder / "bin").mkdir()
        program = folder / "bin/dmabuf-nightly"
        program.write_text(FAKE.format(python=sys.executable, scripts=str(ROOT / "scripts")))
        program.chmod(0o755)
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"

    def run(self, script: str, ends: int, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.folder, text=True, capture_output=True, check=False, timeout=120,
            env={**os.environ, **env, "PATH": self.path, "ENDS": str(ends), "GITHUB_SHA": "commit",
                 "CI_COMMIT_SHA": "commit", "GIT_COMMIT": "commit"},
        )

    def has(self, pattern: str) -> bool:
        return bool(list(self.folder.glob(pattern)))


@pytest.fixture
def workspace(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def well(workspace: Runner, ran: subprocess.CompletedProcess[str]) -> None:
    """The commit is the night's label, and the store is not where the workspace is cleaned."""
    assert (workspace.folder / "seen").read_text() == "commit False", ran.stdout + ran.stderr


@pytest.mark.parametrize(("ends", "passes"), [(0, True), (1, False), (77, True)])
def test_github(workspace: Runner, ends: int, passes: bool) -> None:
    document: dict[Any, Any] = yaml.safe_load((CI / "github.yml").read_text())
    assert document[True]["schedule"][0]["cron"]  # YAML 1.1 takes `on` for true, as GitHub does not
    job = document["jobs"]["performance"]
    (night,) = (step for step in job["steps"] if "run" in step)
    ran = workspace.run(night["run"], ends, job["env"])
    well(workspace, ran)
    assert (ran.returncode == 0) == passes and ran.returncode in (0, ends)
    assert ("::warning" in ran.stdout) == (ends == 77)
    (kept,) = (step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert kept["if"] == "always()" and workspace.has(kept["with"]["path"] + "/results.html")
    assert document["concurrency"]["group"] and document["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("ends", [0, 1, 77])
def test_gitlab(workspace: Runner, ends: int) -> None:
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["nightly"]
    ran = workspace.run("\n".join(job["script"]), ends, job["variables"])
    well(workspace, ran)
    assert ran.returncode == ends and job["allow_failure"] == {"exit_codes": [77]}
    assert job["artifacts"]["when"] == "always" and workspace.has(job["artifacts"]["reports"]["junit"])
    assert job["resource_group"] and job["rules"][0]["if"].endswith('"schedule"')


@pytest.mark.parametrize("ends", [0, 1, 77])
def test_jenkins(workspace: Runner, ends: int) -> None:
    text = (CI / "Jenkinsfile").read_text()
    (script,) = re.findall(r"sh\(returnStatus: true, script: '''(.*?)'''\)", text, re.S)
    (store,) = re.findall(r"STORE = '([^']+)'", text)
    ran = workspace.run(script, ends, {"STORE": store})
    well(workspace, ran)
    assert ran.returncode == ends
    assert re.search(r"status == 77\) \{\s+unstable\(", text) and re.search(r"status != 0\) \{\s+error\(", text)
    (junit,) = re.findall(r"testResults: '([^']+)'", text)
    (kept,) = re.findall(r"artifacts: '([^']+)'", text)
    assert workspace.has(junit) and workspace.has(kept)
    assert text.count("{") == text.count("}") and text.count("(") == text.count(")")


def test_the_plan_of_three_hosts_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = plan.load(THREE)
    assert [host.name for host in wanted.hosts] == ["bench-a", "bench-b", "bench-c"]
    execution = runner.Execution(Made(tmp_path / "s.db").store, wanted, 0)
    execution.check()
    names = {(p.series.host, p.job.values["filename"]) for p in execution.planned()}
    assert names == {("bench-a", "/dev/nvme0n1"), ("bench-b", "/dev/nvme1n1"), ("bench-c", "/dev/nvme0n1")}
    assert len(execution.planned()) == 5 and all(p.job.ours and p.job.placed_report for p in execution.planned())
    # The commands, with an ssh that goes nowhere: host by host, the other machine's own answer.
    program = f"{sys.executable} -B {ROOT / 'scripts/dmabuf-nightly'}"
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$1" >> {tmp_path}/hosts\nshift\n'
        f'case $1 in dmabuf-nightly) shift; eval "set -- {program} $*";; *) eval "set -- $*";; esac\nexec "$@"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for host in wanted.hosts[1:]:
        seen = machine.look(host, "/dev/null", "libdmabuf.so")
        assert seen.facts["key"]["CPU"]
        report = tmp_path / "report of one run"
        report.write_text("{}\n")
        assert machine.report(host, str(report)) == "{}\n" and not report.exists()
    assert (tmp_path / "hosts").read_text().split() == [*["bench-b"] * 3, *["bench-c"] * 3]


@pytest.mark.parametrize("path", sorted((ROOT / "jobs/plans").glob("*.toml")), ids=lambda path: path.stem)
def test_a_plan_that_ships_can_be_run_and_only_reads(path: Path, tmp_path: Path) -> None:
    wanted = plan.load(path)
    execution = runner.Execution(Made(tmp_path / "s.db").store, wanted, 0)
    execution.check()
    for planned in execution.planned():
        assert not planned.job.writes and planned.job.ours
        for name in planned.case.jobs:
            assert f"[{name}]" in planned.job.text, "no such job counts"
        for metric in planned.case.metrics:
            plan.metric_kind(metric)


def test_the_plan_for_device_memory_takes_no_other(tmp_path: Path) -> None:
    wanted = plan.load(ROOT / "jobs/plans/device-memory.toml")
    execution = runner.Execution(Made(tmp_path / "s.db").store, wanted, 0)
    for case in wanted.cases:
        assert (case.memory, case.datapath) == ("peer", "premapped")
        _, _, job = execution.prepare(Series(case.name, "", "local"))
        assert job.values["dmabuf_device"] == "0000:01:00.0/2" and job.values["dmabuf_exporter"] == "vfio"
        assert isinstance(job, jobfile.Job) and case.job.is_relative_to(shipped_jobs())


def test_the_page_names_what_is_there() -> None:
    page = (ROOT / "docs/ci.md").read_text()
    for name in re.findall(r"\]\((examples/[^)]+)\)", page):
        assert (ROOT / "docs" / name).is_file(), name
    assert {path.name for path in CI.iterdir()} == {Path(n).name for n in re.findall(r"\((examples/ci/[^)]+)\)", page)}
