# SPDX-License-Identifier: GPL-2.0-only
"""What a verdict is, and the rules that all requirements have in common."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import cases
from .requirements import Requirements
from .store import Record

TITLES = {
    "integrity.drive": "The drive itself keeps what plain writes put there",
    "integrity.read": "Reads bring the right bytes into the memory",
    "integrity.write": "Writes bring the right bytes to the drive",
    "integrity.segments": "Data is right across the pieces of the memory",
    "integrity.roundtrip": "No fault hides in a round trip",
    "integrity.load": "Data is right with many I/Os in flight",
    "integrity.after": "Data is right after the measurements, too",
    "path.accepted": "Drive, exporter and module accept each other on the datapaths required",
    "path.proven": "The datapath that was asked for is the one that ran",
    "path.placement": "The memory is, and stays, where it should be",
    "path.commands": "Transfers are not cut into more commands than the drive asks for",
    "path.size": "A buffer of the required size works",
    "faults.close": "Closing with I/O in flight ends in time and harms nothing",
    "faults.liar": "Buffers that lie about their pieces are refused",
    "faults.fence": "A fence that never signals ends in a time-out",
    "faults.invalidate": "Memory may move under load",
    "faults.revoke": "Memory may be taken away under load",
    "performance.paths": "The measurements agree with themselves, with the module and with the kernel",
    "performance.steady": "The drive reaches a steady state",
    "performance.throughput": "Sequential transfers reach a steady state (SNIA's throughput test)",
    "performance.latency": "Single I/Os reach a steady state (SNIA's latency test)",
    "performance.saturation": "Random writes go on until the drive is saturated (SNIA's write saturation test)",
    "performance.ratio": "Datapaths keep up with host memory",
    "performance.tails": "No datapath has a longer tail of latencies than host memory",
    "machine.ready": "Machine and drive are fit for the run",
    "drive.health": "The drive is well, before and after",
    "drive.log": "The kernel had nothing to complain about",
}

REMEDY = {
    "READ_NOT_LANDED": "do not use this exporter with this drive; compare with udmabuf and bounce",
    "WRITE_NOT_LANDED": "do not use this drive: a write that it reported as done is not there",
    "WRITE_NOT_FETCHED": "do not use this exporter with this drive; compare with udmabuf and bounce",
    "ROUNDTRIP_MASKED": "judge by one direction at a time, never by writing and reading back",
    "FOREIGN_DATA_UNDER_LOAD": "keep the record; try another firmware, kernel, IOMMU mode",
    "MULTI_SEGMENT_MISADDRESSED": "try memory in one piece (huge pages), and report it",
    "DRIVE_CORRUPTED": "the drive or something else that writes to it is at fault, not the dma-buf",
    "VRAM_MIGRATED": "free device memory, or use an exporter that pins it in place",
    "SEGMENT_SPLIT": "set dmabuf_max_command_kb to the drive's MDTS",
    "MOVE_UNTOLD": "call dma_buf_invalidate_mappings() (move_notify) in the exporter before its memory moves",
    "COPY_WRONG": "try the exporter without a drive (gpu-check), another driver",
    "IOMMU_UNMAPPED_PEER": "put drive and peer under one IOMMU setting, or below a switch that routes between its ports",
    "BOUNCED": "see preflight: IOMMU mode, swiotlb=force",
    "SIZE_CAP": "raise the limit of the layer named (udmabuf: size_limit_mb)",
    "MULTIPATH_HEAD": "check nvme list-subsys",
    "NO_P2P_ROUTE": "put both behind one PCIe switch, or check the IOMMU and ACS settings",
    "EAGAIN_STORM": "lower the queue depth, and report it",
    "INVALIDATE_HANG": "see dmesg for hung tasks, and report it",
    "IO_HANG": "see dmesg; the drive or its driver does not answer",
    "BENCH_ARITHMETIC": "do not use these figures",
    "SLOW_TAIL": "look for interrupts, power states and other load; compare with the other datapaths",
    "NOTHING_DONE": "look for a drive that stalls; see dmesg",
    "ENDED_EARLY": "look for what ended fio; see dmesg",
}


# A probe that ended with an error which says nothing of the datapath.
PROBE_FAILED = "PROBE_FAILED"


@dataclass
class Judged:
    """One requirement's verdict."""

    id: str
    status: str
    text: str
    remedy: str = ""
    evidence: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0
    names: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """In words."""
        return TITLES[self.id]


def findings(records: Iterable[Record]) -> list[tuple[Record, dict[str, Any]]]:
    """All findings with the records they are in."""
    return [(record, one) for record in records for one in record["findings"]]


def blame(record: Record, one: dict[str, Any], records: list[Record]) -> str:
    """What the udmabuf control beside a failing exporter says."""
    if not record["exporter"] or record["exporter"] == cases.CONTROL:
        return ""
    same = [r for r in records if r["exporter"] == cases.CONTROL and r["path"] == record["path"]
            and (r["test"], r["requirement"]) == (record["test"], record["requirement"])]
    if not same:
        return ""
    if any(found["name"] == one["name"] for r in same for found in r["findings"]):
        return "; the udmabuf control shows it too"
    good = all(not r["findings"] and "error" not in r for r in same)
    return "; the udmabuf control is right" if good else ""


def describe(record: Record, one: dict[str, Any], records: list[Record]) -> str:
    """A finding in a sentence."""
    who = " ".join(part for part in (record["exporter"], record["path"], record["test"]) if part)
    return f"{one['name']}: {who}: {one['text']}{blame(record, one, records)}"


def has_figures(record: Record) -> bool:
    """Whether a measurement is valid: nothing was found wrong with it, and it did I/O."""
    figures = record.get("figures") or {}
    return not record["findings"] and "error" not in record and any(
        figures.get(name, 0) > 0 for name in ("read_iops", "write_iops")
    )


def not_done(
    name: str, records: Iterable[Record], state: dict[str, Any], needs: Requirements
) -> tuple[list[str], int]:
    """The planned cases of a requirement of which there is no record, and how many were planned."""
    if "scale" not in state:
        return [], 0
    done = {record["id"] for record in records}
    paths = works(state)
    listed = cases.planned(list(paths), paths, needs, cases.Scale.of_words(state["scale"]))
    mine = [case.id for case in listed if case.requirement == name]
    return [one for one in mine if one not in done], len(mine)


def works(state: dict[str, Any]) -> dict[str, list[str]]:
    """The datapaths that work, by exporter."""
    return {
        exporter: [path for path, what in tried.items() if what["works"]]
        for exporter, tried in state.get("paths", {}).items()
    }


def steady(state: dict[str, Any]) -> bool:
    """Whether the run was to bring the drive into its steady state, by its scale where that is known."""
    return bool(cases.Scale.of_words(state["scale"]).steady if "scale" in state else state.get("steady"))


def unsteady(name: str, state: dict[str, Any], why: str) -> Judged:
    """The verdict of a run that was not to. Only a quick one is never to."""
    if state.get("quick") is False:
        return Judged(name, INCONCLUSIVE, "no steady state was asked for, and the run is not a quick one",
                      "choose another --output")
    return Judged(name, SKIP, f"not applicable: {why}")


# What fio does.
MEASURED = ("cell", "pts", "precondition")


def proven(record: Record) -> bool:
    """Whether the engine says of a measurement that it was made on its datapath."""
    report = record.get("report") or {}
    return report.get("proven") is True and report.get("datapath") == record["path"]


# Fewer repeats, or shorter ones, differ by chance as much as datapaths may.
LEAST_REPEATS = 5


def too_little(state: dict[str, Any], measured: list[Record]) -> str:
    """What a run has too little of for its ratios to fail or pass, by what was asked for and by what was
    measured; empty when it has enough."""
    if "scale" not in state:
        return ""
    scale = cases.Scale.of_words(state["scale"])
    wrong = []
    if scale.repeats < LEAST_REPEATS:
        wrong.append(f"{scale.repeats} repeats, of which {LEAST_REPEATS} are needed")
    if scale.cell_seconds < cases.PTS_SECONDS:
        wrong.append(f"measurements of {scale.cell_seconds} s, not {cases.PTS_SECONDS}")
    short = [r["id"] for r in measured if has_figures(r)
             and r.get("runtime_s", 0.0) < cases.LEAST_RUNTIME * cases.PTS_SECONDS]
    if short and not wrong:
        wrong.append(f"measurements of less than {cases.PTS_SECONDS} s, or of unknown length: {short[0]}")
    return " and ".join(wrong)


def nothing_done(record: Record, state: dict[str, Any]) -> str:
    """What a case that ended well left undone; empty when nothing. A size case only has to work, and
    laying data down compares none."""
    if record["kind"] != "integrity":
        return "" if has_figures(record) else "it says of no I/O that was done"
    requirement = record["requirement"]
    if requirement.startswith("integrity.") and record["test"] != "lay":
        compared = record.get("compared_bytes", 0)
        least = 1
        if record["test"] == "load" and "scale" in state:
            # Its reads alone compare the whole load, and what it wrote comes on top.
            least = cases.Scale.of_words(state["scale"]).load_bytes
        return f"{compared} bytes compared, of {least} at least" if compared < least else ""
    if (requirement.startswith("faults.") or requirement == "path.size") and not record.get("transfers", 0):
        return "no transfer was made"
    if requirement == "path.commands" and not any(key.startswith("commands_") for key in record.get("facts", {})):
        return "the commands of no transfer were counted"
    return ""


def verdict(name: str, records: list[Record], every: list[Record], good: Callable[[list[Record]], str],
             state: dict[str, Any]) -> Judged:
    """The common rule: a finding fails, an error or nothing done is inconclusive."""
    seconds = sum(record["seconds"] for record in records)
    found = findings(records)
    ran = [r for r in records if "skip" not in r and "missing" not in r]
    evidence = [(r["id"], f"{r.get('compared_bytes', 0)}", "bytes compared") for r in ran
                if r.get("compared_bytes")]
    if found:
        names = sorted({one["name"] for _, one in found})
        evidence = [(r["id"], describe(r, one, every), "") for r, one in found]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        text = describe(found[0][0], found[0][1], every) + more
        remedy = REMEDY.get(found[0][1]["name"], "see docs/errors.md")
        return Judged(name, FAIL, text, remedy, evidence, seconds, names)
    errors = [record for record in ran if "error" in record]
    if errors:
        return Judged(name, INCONCLUSIVE, f"{errors[0]['id']} could not be done: "
                      f"{errors[0]['error']}", "", evidence, seconds)
    missing = [record for record in records if "missing" in record]
    if missing:
        return Judged(name, INCONCLUSIVE, f"{missing[0]['id']} was not done: {missing[0]['missing']}",
                      "modprobe dmabuf_testexp, docs/testexp.md", evidence, seconds)
    undone = next(((r["id"], what) for r in ran
                   if r["requirement"] == name and (what := nothing_done(r, state))), None)
    if undone:
        return Judged(name, INCONCLUSIVE, f"{undone[0]} did too little: {undone[1]}", "look for what kept it from its work",
                      evidence, seconds)
    if records and not ran:
        return Judged(name, SKIP, f"not applicable: {records[0]['skip']}", "", [], seconds)
    if not records:
        return Judged(name, INCONCLUSIVE, "nothing was done for it", "run it to the end (--resume)")
    return Judged(name, PASS, good(ran), "", evidence, seconds)
