# SPDX-License-Identifier: GPL-2.0-only
"""Does one case and makes a record of it: findings by name, facts, figures."""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import files, process
from dmabuf_common.drive_guard import Guard
from dmabuf_common.sysfs import System

from . import cases, exporters
from .bounces import Bounces
from .cases import Case, Scale
from .drive import Drive
from .errors import QualError
from .requirements import Requirements
from .store import Record
from .tools import Tools

SLACK_S = 120.0
# What a drive moves in a second, at the least, and what the CPU copies from the memory of a device.
SLOWEST_BYTES_S, COPIED_BYTES_S = 50e6, 5e6
# A direction that chance gives fewer I/Os than this on average may have none at all.
LEAST_EXPECTED = 20
# A module's refusal in a message: "(NAME, EIO)".
REFUSAL = re.compile(r"\(([A-Z_0-9]+), (E[A-Z0-9]+|errno \d+)\)")
# Refusals that are known by another name.
NAMES = {"MULTIPATH": "MULTIPATH_HEAD", "NO_P2P_ROUTE": "NO_P2P_ROUTE", "SIZE_CAP": "SIZE_CAP"}

NOTHING_DONE, ENDED_EARLY = "NOTHING_DONE", "ENDED_EARLY"

Finding = dict[str, Any]


def finding(name: str, text: str, count: int = 1) -> Finding:
    """One finding."""
    return {"name": name, "text": text, "count": count}


def refused(message: str) -> Finding | None:
    """The finding of a message in which module or exporter refuse; None when it is none."""
    match = REFUSAL.search(message)
    if not match:
        return None
    reason = match.group(1)
    if reason.startswith("E") and reason[1:].isupper() and "_" not in reason:
        return None
    return finding(NAMES.get(reason, f"REFUSED_{reason}"), message)


def drive_words(guard: Guard) -> list[str]:
    """How dmabuf-integrity is told its drive: the open one, whose claim is ours, whatever its name leads
    to by now."""
    return ["--device-fd", str(guard.descriptor)]


def unexpected(status: int, said: Any) -> str:
    """What is wrong with how dmabuf-integrity ended, beside what it said; empty when nothing is."""
    if not isinstance(said, dict):
        return "said nothing of use"
    if "error" in said:
        wanted = 2
    elif said.get("not_applicable") or said.get("missing"):
        wanted = 77
    elif "findings" not in said or "facts" not in said:
        return "said nothing of use"
    else:
        wanted = 1 if said["findings"] else 0
    return "" if status == wanted else f"ended with status {status}, which does not go with what it said"


@dataclass
class Bench:
    """What all cases of a run share."""

    drive: Drive
    tools: Tools
    needs: Requirements
    scale: Scale
    seed: int
    keep: Path
    tick: Callable[[], None]
    system: System
    bounces: Bounces
    guard: Guard

    def run(self, case: Case) -> Record:
        """Does the case; the record says what came of it, also when it went wrong. Raises Gone when
        the drive is not there any more, or is somebody's."""
        self.guard.check()
        started = time.time()
        begin = time.monotonic()
        before = self.bounces.count()
        outcome = self._integrity(case) if case.kind == "integrity" else self._fio(case)
        if outcome["findings"] or "error" in outcome:
            # What failed because the drive went away says nothing of it.
            self.guard.check()
        after = self.bounces.count()
        if before is not None and after is not None and after > before and "skip" not in outcome:
            text = f"the kernel's swiotlb copied data for the drive {after - before} times"
            outcome["findings"].append(finding("BOUNCED", text, after - before))
        return {
            "id": case.id,
            "kind": case.kind,
            "requirement": case.requirement,
            "exporter": case.exporter,
            "path": case.path,
            "test": case.test,
            "params": case.params,
            "started": started,
            "seconds": round(time.monotonic() - begin, 3),
            "bounces_seen": before is not None and after is not None,
            **outcome,
        }

    def _integrity(self, case: Case) -> Record:
        offset, size = cases.REGION_OFFSET, cases.REGION_BYTES
        if case.test in ("lay", "check"):
            offset, size = cases.RETENTION_OFFSET, cases.RETENTION_BYTES
        argv = [self.tools.integrity, case.test, *drive_words(self.guard)]
        argv += ["--offset", str(offset), "--bytes", str(size), "--seed", str(self.seed)]
        argv += ["--load", str(self.scale.load_bytes)]
        argv += ["--limit-ms", str(self.needs["longest_end_ms"])]
        if self.drive.mdts:
            argv += ["--max-command", str(self.drive.mdts)]
        if "buffer" in case.params:
            argv += ["--buffer", case.params["buffer"]]
        if case.exporter:
            kind, device = cases.split_exporter(case.exporter)
            argv += ["--exporter", kind, *(["--exporter-device", device] if device else [])]
        if case.path:
            argv += ["--datapath", case.path]
        # A slow drive moves 50 MB/s at the least; the CPU reads a device's memory word by word.
        slowest = COPIED_BYTES_S if exporters.copies(case.exporter) else SLOWEST_BYTES_S
        limit = SLACK_S + 4 * self.scale.load_bytes / slowest
        ended = process.run(argv, limit, self.tick, pass_fds=self.guard.pass_fds)
        if ended.hung:
            name = "INVALIDATE_HANG" if case.requirement.startswith("faults.") else "IO_HANG"
            place = f", blocked in {ended.blocked}" if ended.blocked else ""
            return {"findings": [finding(name, f"{case.test} did not end in {limit:.0f} s{place}")]}
        try:
            said = json.loads(ended.out)
        except ValueError:
            return {"findings": [], "error": f"dmabuf-integrity ended with {ended.status} and said "
                    f"nothing of use: {ended.err.strip()[-300:]}"}
        odd = unexpected(ended.status, said)
        if odd:
            return {"findings": [], "error": f"dmabuf-integrity {odd}: {ended.err.strip()[-300:]}"}
        if "error" in said:
            no = refused(said["error"])
            if no:
                return {"findings": [no]}
            return {"findings": [], "error": said["error"]}
        outcome = {key: said[key] for key in ("findings", "facts", "compared_bytes", "transfers")}
        for key, word in (("not_applicable", "skip"), ("missing", "missing")):
            if said.get(key):
                outcome[word] = said[key]
        return outcome

    def _fio(self, case: Case) -> Record:
        seconds = self.scale.cell_seconds
        env = {"DEV": self.guard.child_path, "ENGINE": self.tools.engine, "RUNTIME": str(seconds),
               "SIZE": self.scale.size, **case.params}
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            output = Path(folder) / "fio.json"
            argv = ["fio", f"--ioengine={self.tools.engine}", f"--dmabuf_datapath={case.path}"]
            if case.path != "host":
                kind, device = cases.split_exporter(case.exporter)
                argv += [f"--dmabuf_exporter={kind}"]
                argv += [f"--dmabuf_device={exporters.for_fio(device)}"] if device else []
            if case.path == "premapped" and self.drive.mdts:
                argv += [f"--dmabuf_max_command_kb={self.drive.mdts // 1024}"]
            argv += [f"--dmabuf_report={report}", "--output-format=json+", f"--output={output}"]
            argv += [str(self.tools.jobs / "qual" / f"{case.test}.fio")]
            limit = SLACK_S + 2 * seconds
            if case.kind == "precondition":
                limit = SLACK_S + 2 * self.drive.bytes / 20e6
            before = stat(self.system, self.drive.disk)
            ended = process.run(argv, limit, self.tick, env, pass_fds=self.guard.pass_fds)
            after = stat(self.system, self.drive.disk)
            if ended.hung:
                place = f", blocked in {ended.blocked}" if ended.blocked else ""
                return {"findings": [finding("IO_HANG", f"fio did not end in {limit:.0f} s{place}")]}
            try:
                text = output.read_text()
                job = json.loads(text[text.index("{") :])["jobs"][0]
                line = json.loads(report.read_text().splitlines()[-1])
            except (OSError, ValueError, LookupError):
                no = refused(ended.err + ended.out)
                if no and ended.status:
                    return {"findings": [no]}
                said = (ended.err or ended.out).strip()[-300:]
                return {"findings": [], "error": f"fio ended with status {ended.status}: {said}"}
            keep = self.keep / f"{case.id.replace('/', '_')}.json"
            files.write_text(keep, text[text.index("{") :])
        figures = figures_of(job, line)
        moved = [after[0] - before[0], after[1] - before[1]]
        wanted_bytes = 0
        if case.kind == "precondition":
            seconds, wanted_bytes = 0, cases.twice(self.scale.size, self.drive.bytes)
        found = check_cell(case, job, line, moved, self.needs, seconds, wanted_bytes)
        # That fio failed says why nothing was done.
        if ended.status and all(one["name"] in (NOTHING_DONE, ENDED_EARLY) for one in found):
            said = ended.err.strip()[-300:]
            return {"findings": [], "error": f"fio ended with status {ended.status}: {said}"}
        return {"findings": found, "figures": figures, "report": line, "file": keep.name,
                "runtime_s": job["job_runtime"] / 1000, "size": self.scale.size,
                "written_bytes": job["write"]["io_bytes"],
                **({"latency": latency_of(job)} if case.kind == "cell" else {})}


def stat(system: System, disk: str) -> tuple[int, int]:
    """Bytes read and written by the block layer, of the disk; passthrough is not among them."""
    words = system.read(f"/sys/block/{disk}/stat").split()
    return (int(words[2]) * 512, int(words[6]) * 512) if len(words) > 6 else (0, 0)


def figures_of(job: dict[str, Any], line: dict[str, Any]) -> dict[str, float]:
    """What is compared: IOPS, bandwidth, CPU time for a GiB, mean latency."""
    figures: dict[str, float] = {}
    total = 0
    for way in ("read", "write"):
        side = job[way]
        if not side["total_ios"]:
            continue
        total += side["io_bytes"]
        figures[f"{way}_iops"] = side["iops"]
        figures[f"{way}_mib_s"] = side["bw_bytes"] / cases.MIB
        figures[f"{way}_mean_us"] = side["clat_ns"]["mean"] / 1000
    cpu_s = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
    if total:
        figures["cpu_s_per_gib"] = cpu_s / (total / cases.GIB)
    figures["map_ms"] = line["map_ns"] / 1e6
    return figures


def latency_of(job: dict[str, Any]) -> dict[str, list[list[int]]]:
    """The bins of the latencies, by direction: ascending pairs of ns and how many."""
    found = {}
    for way in ("read", "write"):
        bins = job[way]["clat_ns"].get("bins")
        if bins:
            # What fio counts as nothing took less than its bin is wide.
            found[way] = sorted([max(1, int(ns)), int(count)] for ns, count in bins.items())
    return found


def check_done(
    case: Case, job: dict[str, Any], seconds: float, wanted_bytes: int
) -> Finding | None:
    """What is missing of the I/O that was asked for; None when it was done."""
    total = sum(job[way]["total_ios"] for way in ("read", "write"))
    shares = cases.shares(case)
    for way, share in zip(("read", "write"), shares, strict=True):
        expected = share * total
        if not job[way]["total_ios"] and (share == 1 or expected >= LEAST_EXPECTED or not total):
            if share:
                return finding(NOTHING_DONE, f"fio did no {way}s, of which {share:.0%} of the I/Os are")
    ran = job["job_runtime"] / 1000
    if ran < cases.LEAST_RUNTIME * seconds:
        return finding(ENDED_EARLY, f"fio ran for {ran:.1f} s instead of {seconds:g} s")
    if job["write"]["io_bytes"] < wanted_bytes:
        return finding(ENDED_EARLY, f"fio wrote {job['write']['io_bytes']} bytes, of {wanted_bytes}")
    return None


def check_cell(
    case: Case,
    job: dict[str, Any],
    line: dict[str, Any],
    moved: list[int],
    needs: Requirements,
    seconds: float,
    wanted_bytes: int = 0,
) -> list[Finding]:
    """Is the measurement what it says it is? I/O for the time asked for, proof of the path, and the
    sums."""
    found = []
    undone = check_done(case, job, seconds, wanted_bytes)
    if undone:
        found.append(undone)
    if line["proven"] is not True or line["datapath"] != case.path:
        found.append(finding("BOUNCED", f"{case.path} was asked for, {line['datapath']} ran: "
                             f"{line['proof']}"))
    depth = int(case.params.get("DEPTH", "1"))
    latency_s = 0.0
    for index, way in enumerate(("read", "write")):
        side = job[way]
        if side["total_ios"] != line["issued"][f"{way}s"]:
            found.append(finding("BENCH_ARITHMETIC", f"fio counted {side['total_ios']} {way}s, the "
                                 f"engine {line['issued'][f'{way}s']}"))
        bins = side["clat_ns"].get("bins")
        # What was in flight at the end may be counted in one and not in the other.
        if bins and abs(sum(bins.values()) - side["total_ios"]) > depth:
            found.append(finding("BENCH_ARITHMETIC", f"fio counted {side['total_ios']} {way}s, and the latencies of "
                                 f"{sum(bins.values())}"))
        latency_s += side["iops"] * side["clat_ns"]["mean"] / 1e9
        # Premapped commands are in the module's counts, not in the block layer's.
        if case.path != "premapped" and moved[index] < side["io_bytes"]:
            found.append(finding("BENCH_ARITHMETIC", f"fio says {side['io_bytes']} bytes {way}, the "
                                 f"block layer {moved[index]}"))
    # Little's law: I/Os in flight = rate x time each takes.
    if latency_s > depth * 1.1:
        found.append(finding("BENCH_ARITHMETIC", f"rate and latency give {latency_s:.1f} I/Os in "
                             f"flight, of {depth}"))
    done = line["issued"]["reads"] + line["issued"]["writes"]
    if done and line["retries"] > needs["most_reissues"] * done:
        found.append(finding("EAGAIN_STORM", f"{line['retries']} reissues for {done} I/Os"))
    module = line.get("module") or {}
    if module.get("invalidations", 0) > needs["most_moves"]:
        found.append(finding("VRAM_MIGRATED", f"the memory moved {module['invalidations']} times "
                             "while it was measured", module["invalidations"]))
    return found


def idle(system: System, disk: str, limit_s: float = 30.0) -> bool:
    """Waits until the block layer has nothing in flight on the disk."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        words = (system.read(f"/sys/block/{disk}/inflight") or "0 0").split()
        if all(word == "0" for word in words):
            return True
        time.sleep(0.05)
    return False


def need_root() -> None:
    """The module's device, debugfs and the drive are root's."""
    if os.geteuid() != 0:
        raise QualError("this needs root: the drive, /dev/dmabuf_rw and the counters are root's")
