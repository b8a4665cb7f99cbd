# SPDX-License-Identifier: GPL-2.0-only
"""Runs fio once and reads its json+ and the engine's report."""

import json
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmabuf_common import errnos, process, sizes
from dmabuf_report import bins as latency_bins
from dmabuf_report.errors import ReportError

from . import jobfile, plan
from .errors import NightlyError

VALID = "valid"
INCONCLUSIVE = "inconclusive"
FAILED = "failed"

# Every process of a run carries this in its environment, so that one left by a killed
# dmabuf-nightly can be told from anybody else's.
MARK = "DMABUF_NIGHTLY_RUN"

# EPROTO: how the engine fails a job whose datapath it could not prove.
NOT_PROVEN = 71

DIRECTIONS = ("read", "write")
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LEAST_SHARE = 0.95


@dataclass
class Outcome:
    """What one run of fio gave. status: valid, inconclusive or failed; `reasons` say why."""

    status: str = VALID
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    bins: dict[str, latency_bins.Bins] = field(default_factory=dict)
    datapath: str = ""
    exporter: str = ""
    proven: bool | None = None
    proof: str = ""
    block_bytes: int | None = None
    depth: int | None = None
    version: str = ""
    memory: str = "none"
    route: str = "none"
    load: str = ""
    cpu_percent: float | None = None
    commands: dict[str, int] | None = None

    def unclear(self, reason: str) -> None:
        """Neither good nor bad, unless it failed already."""
        self.reasons.append(reason)
        if self.status == VALID:
            self.status = INCONCLUSIVE

    def fail(self, reason: str) -> None:
        """The run itself went wrong."""
        self.reasons.append(reason)
        self.status = FAILED


def parse_output(text: str) -> dict[str, Any]:
    """fio's JSON; what it says before and after the object is left out."""
    start = text.find("{")
    if start < 0:
        raise NightlyError("fio printed no JSON")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError as error:
        raise NightlyError(f"fio's JSON ends too early or is broken: {error}") from error
    if not isinstance(value, dict):
        raise NightlyError("fio's JSON is no object")
    return value


def jobs_of(document: Mapping[str, Any], wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The jobs that count, of a local or a remote fio. Raises NightlyError for none, or for jobs
    of one direction that ran one after the other: their rates must not be added."""
    listed = list(document.get("jobs") or document.get("client_stats") or [])
    found = [job for job in listed if job.get("jobname") != "All clients"]
    if wanted:
        missing = set(wanted) - {job.get("jobname") for job in found}
        if missing:
            raise NightlyError(f"fio ran no job called {sorted(missing)[0]!r}; see `jobs`")
        found = [job for job in found if job.get("jobname") in wanted]
    if not found:
        raise NightlyError("fio's output has no job")
    for direction in DIRECTIONS:
        groups = {job.get("groupid") for job in found if job.get(direction, {}).get("total_ios")}
        if len(groups) > 1:
            raise NightlyError(
                f"jobs that ran one after the other did {direction}s, and their rates cannot be "
                'added; name those that count in the plan, as jobs = ["…"]'
            )
    return found


def measure(jobs: Sequence[Mapping[str, Any]], outcome: Outcome) -> None:
    """Metrics and merged bins of the jobs."""
    moved = 0
    for direction in DIRECTIONS:
        sides = [job[direction] for job in jobs if job.get(direction, {}).get("total_ios")]
        if not sides:
            continue
        outcome.metrics[f"{direction}_iops"] = float(sum(side["iops"] for side in sides))
        outcome.metrics[f"{direction}_bandwidth"] = float(sum(side["bw_bytes"] for side in sides))
        moved += sum(side["io_bytes"] for side in sides)
        merged = latency_bins.merge(latency_bins.of_job(job, direction) for job in jobs)
        outcome.bins[direction] = merged
        for percentile in PERCENTILES:
            ns = latency_bins.percentile(merged, percentile)
            if ns is not None:
                outcome.metrics[f"{direction}_clat_p{percentile:g}"] = ns
    cpu = sum((job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000 for job in jobs)
    outcome.cpu_percent = max(job["usr_cpu"] + job["sys_cpu"] for job in jobs)
    if moved and cpu > 0:
        outcome.metrics["cpu_per_gib"] = cpu / (moved / (1 << 30))


def check_runtime(jobs: Sequence[Mapping[str, Any]], wanted_s: float, outcome: Outcome) -> None:
    """A run that ended early measured something else."""
    for job in jobs:
        ran = max((job.get(d, {}).get("runtime", 0) for d in DIRECTIONS), default=0) / 1000
        if ran < wanted_s * LEAST_SHARE:
            outcome.unclear(
                f"job {job.get('jobname')} ran for {ran:g} s instead of {wanted_s:g} s"
            )


def check_report(
    reports: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]], case: plan.Case,
    outcome: Outcome,
) -> None:
    """The engine's report must prove the datapath, for as much I/O as fio itself counted."""
    outcome.proven = False
    names = {job.get("jobname") for job in jobs}
    mine = [report for report in reports if report.get("job") in names]
    if not mine:
        outcome.unclear("the engine left no report, so no datapath is proven")
        return
    outcome.datapath = "+".join(sorted({str(report.get("datapath")) for report in mine}))
    outcome.exporter = "+".join(sorted({str(report.get("exporter") or "none") for report in mine}))
    outcome.memory = "+".join(sorted({str(report.get("memory", "unknown")) for report in mine}))
    outcome.route = "+".join(sorted({str(report.get("route", "unknown")) for report in mine}))
    outcome.proof = str(mine[0].get("proof", ""))
    for report in mine:
        if report.get("proven") is not True:
            outcome.proof = str(report.get("proof", ""))
            outcome.unclear(f"the datapath is not proven: {outcome.proof}")
            return
    for direction in DIRECTIONS:
        ours = sum(report["issued"][f"{direction}s"] for report in mine)
        fios = sum(job.get(direction, {}).get("total_ios", 0) for job in jobs)
        if ours != fios:
            outcome.unclear(f"the engine counted {ours} {direction}s and fio {fios}")
            return
    outcome.proven = True
    outcome.commands = commands_of(mine)
    if case.datapath and outcome.datapath != case.datapath:
        outcome.unclear(f"datapath {outcome.datapath} ran, and the plan wants {case.datapath}")
    if case.memory and outcome.memory != case.memory:
        outcome.unclear(f"the memory is {outcome.memory} memory, and the plan wants {case.memory} memory")
    if case.route and outcome.route != case.route:
        outcome.unclear(f"the route is {outcome.route}, and the plan wants {case.route}")


def commands_of(reports: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """Commands, and for how many requests of how many bytes; None where the drive's commands are not
    what the module counts."""
    counts = [report.get("module") or {} for report in reports]
    if any(report.get("datapath") != "premapped" for report in reports) or not all("commands" in one for one in counts):
        return None
    return {
        "count": sum(one["commands"] for one in counts),
        "requests": sum(one["reads"] + one["writes"] for one in counts),
        "bytes": sum(one["read_bytes"] + one["write_bytes"] for one in counts),
    }


def read_reports(text: str) -> list[dict[str, Any]]:
    """The lines of dmabuf_report; a broken line is dropped, and is then missing as a proof."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def judge(
    status: int, output: str, said: str, report: str | None, job: jobfile.Job, case: plan.Case
) -> Outcome:
    """What a run of fio that ended with `status` is worth. `report`: the engine's report, or None
    where there is none to be had."""
    outcome = Outcome()
    outcome.block_bytes = sizes.parse(job.values.get("bs", job.values.get("blocksize", "")))
    outcome.load = job.values.get("rw", job.values.get("readwrite", ""))
    depth = job.values.get("iodepth", "1")
    outcome.depth = int(depth) if depth.isdecimal() and int(depth) else None
    try:
        document = parse_output(output)
        outcome.version = str(document.get("fio version", ""))
        jobs = jobs_of(document, case.jobs)
    except NightlyError as error:
        last = [line for line in said.splitlines() if line.strip()][-1:]
        outcome.fail(f"fio ended with status {status}: {(last or [str(error)])[0].strip()}"
                     if status else str(error))
        return outcome
    errors = sorted({int(j.get("error", 0)) for j in jobs} - {0})
    if case.proof if case.proof is not None else job.ours:
        check_report(read_reports(report or ""), jobs, case, outcome)
    else:
        outcome.datapath = f"fio {job.values.get('ioengine', 'psync')}"
    if errors and errors != [NOT_PROVEN]:
        outcome.fail(f"fio failed: {errnos.words(errors[0])} (error {errors[0]})")
    elif status and not errors:
        outcome.fail(f"fio ended with status {status}: {said.strip()[-200:]}")
    elif errors and outcome.status == VALID:
        outcome.unclear("the engine could not prove its datapath (error 71)")
    if outcome.status == FAILED:
        return outcome
    try:
        measure(jobs, outcome)
    except (ReportError, KeyError, TypeError) as error:
        outcome.fail(f"fio's output lacks something: {error}")
        return outcome
    if case.runtime:
        check_runtime(jobs, case.runtime, outcome)
    if not outcome.metrics:
        outcome.fail("fio did no I/O; see the job file")
    return outcome


def run(
    argv: Sequence[str], folder: Path, mark: str, limit_s: float, pass_fds: Collection[int] = ()
) -> tuple[int, str]:
    """Runs fio in a folder: its exit status and what it said; 124 when it did not end in time."""
    try:
        ended = process.run(
            argv, limit_s, cwd=folder, env={MARK: mark}, merge=True, pass_fds=pass_fds
        )
    except FileNotFoundError as error:
        raise NightlyError("fio is not installed; apt-get install fio") from error
    if ended.hung:
        return 124, f"fio did not end within {limit_s:g} s\n{ended.out}"
    return ended.status, ended.out


def left_over(mark: str) -> list[int]:
    """Processes that a killed dmabuf-nightly with this mark left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(item.startswith(f"{MARK}={mark}".encode()) for item in environment):
            found.append(int(entry.name))
    return found


def end_left_over(mark: str) -> int:
    """Ends them, since they would load the drive while the next run is measured; how many."""
    found = left_over(mark)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return len(found)
