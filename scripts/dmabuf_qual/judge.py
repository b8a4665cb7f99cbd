# SPDX-License-Identifier: GPL-2.0-only
"""From records to a verdict for each requirement. Nothing passes that was not seen to hold."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isnan
from statistics import median
from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import cases, preflight, steady
from .requirements import Requirements
from .store import Record

TITLES = {
    "integrity.drive": "The drive itself keeps what plain writes put there",
    "integrity.read": "Reads bring the right bytes into the memory",
    "integrity.write": "Writes bring the right bytes to the drive",
    "integrity.segments": "Data is right across the pieces of the memory",
    "integrity.roundtrip": "No fault hides in a round trip",
    "integrity.load": "Data is right with many I/Os in flight",
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
    "performance.ratio": "Datapaths keep up with host memory",
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
    "BOUNCED": "see preflight: IOMMU mode, swiotlb=force",
    "SIZE_CAP": "raise the limit of the layer named (udmabuf: size_limit_mb)",
    "MULTIPATH_HEAD": "check nvme list-subsys",
    "NO_P2P_ROUTE": "put both behind one PCIe switch, or check the IOMMU and ACS settings",
    "EAGAIN_STORM": "lower the queue depth, and report it",
    "INVALIDATE_HANG": "see dmesg for hung tasks, and report it",
    "IO_HANG": "see dmesg; the drive or its driver does not answer",
    "BENCH_ARITHMETIC": "do not use these figures",
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
    same = [r for r in records if r["exporter"] == cases.CONTROL and r["test"] == record["test"]
            and r["path"] == record["path"]]  # fmt: skip
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


def nothing_done(record: Record, state: dict[str, Any]) -> str:
    """What an integrity case that ended well left undone; empty when nothing. A size case only has to
    work, and laying data down compares none."""
    if record["kind"] != "integrity":
        return ""
    requirement = record["requirement"]
    if requirement.startswith("integrity.") and record["test"] != "lay":
        compared = record.get("compared_bytes", 0)
        least = 1
        if record["test"] == "load" and "scale" in state:
            # Its reads alone compare the whole load, and what it wrote comes on top.
            least = cases.Scale.of_words(state["scale"]).load_bytes
        return f"{compared} bytes compared, of {least} at least" if compared < least else ""
    if requirement.startswith("faults.") and not record.get("transfers", 0):
        return "no transfer was made"
    if requirement == "path.commands" and not any(key.startswith("commands_") for key in record.get("facts", {})):
        return "the commands of no transfer were counted"
    return ""


def _verdict(name: str, records: list[Record], every: list[Record], good: Callable[[list[Record]], str],
             state: dict[str, Any]) -> Judged:  # fmt: skip
    """The common rule: a finding fails, an error or nothing done is inconclusive."""
    seconds = sum(record["seconds"] for record in records)
    found = findings(records)
    ran = [r for r in records if "skip" not in r and "missing" not in r]
    evidence = [(r["id"], f"{r.get('compared_bytes', 0)}", "bytes compared") for r in ran
                if r.get("compared_bytes")]  # fmt: skip
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
                      f"{errors[0]['error']}", "", evidence, seconds)  # fmt: skip
    missing = [record for record in records if "missing" in record]
    if missing:
        return Judged(name, INCONCLUSIVE, f"{missing[0]['id']} was not done: {missing[0]['missing']}",
                      "load the test exporter, docs/testexp.md", evidence, seconds)  # fmt: skip
    undone = next(((r["id"], what) for r in ran
                   if r["requirement"] == name and (what := nothing_done(r, state))), None)
    if undone:
        return Judged(name, INCONCLUSIVE, f"{undone[0]} did too little: {undone[1]}", "look for what kept it from its work",
                      evidence, seconds)  # fmt: skip
    if records and not ran:
        return Judged(name, SKIP, f"not applicable: {records[0]['skip']}", "", [], seconds)
    if not records:
        return Judged(name, INCONCLUSIVE, "nothing was done for it", "run it to the end (--resume)")
    return Judged(name, PASS, good(ran), "", evidence, seconds)


def _compared(records: list[Record]) -> str:
    total = sum(r.get("compared_bytes", 0) for r in records)
    paths = sorted({f"{r['exporter']} {r['path']}".strip() for r in records if r["path"]})
    where = f" on {', '.join(paths)}" if paths else ""
    return f"{total / cases.MIB:.0f} MiB compared in {len(records)} cases{where}, all right"


def masked(records: list[Record]) -> list[Record]:
    """The round trips, with ROUNDTRIP_MASKED where one agrees although a direction alone is wrong."""
    judged = []
    for record in records:
        if record["test"] != "roundtrip":
            continue
        alone = [r for r in records if r["test"] in ("read", "write")
                 and (r["exporter"], r["path"]) == (record["exporter"], record["path"])]  # fmt: skip
        wrong = [one["name"] for r in alone for one in r["findings"] if one["name"] in (
            "READ_NOT_LANDED", "WRITE_NOT_LANDED", "WRITE_NOT_FETCHED", "MISADDRESSED",
            "MULTI_SEGMENT_MISADDRESSED", "STALE_DATA", "DATA_CORRUPTED")]  # fmt: skip
        facts = record.get("facts", {})
        copy = {**record, "findings": list(record["findings"])}
        if wrong and facts.get("agree") and not facts.get("differ"):
            copy["findings"].append({"name": "ROUNDTRIP_MASKED", "count": facts["agree"], "text":
                f"{facts['agree']} round trips agree, while one direction alone shows {wrong[0]}"})  # fmt: skip
        judged.append(copy)
    return judged


def _accepted(records: list[Record], paths: dict[str, Any], needs: Requirements) -> Judged:
    """Refusals of required datapaths, found when the run began or by any case."""
    name = "path.accepted"
    evidence, names, wrong = [], [], []
    for exporter, tried in paths.items():
        for path, what in tried.items():
            evidence.append((f"{exporter} {path}", what["text"], ""))
            hung = what.get("name") == "IO_HANG"
            refused = path in needs["datapaths"] and not what["works"] and what["name"] != PROBE_FAILED
            # A datapath that nobody requires may be absent, but must not hang.
            if hung or refused:
                names.append(what["name"])
                wrong.append(what)
    if names:
        first = wrong[0]
        return Judged(name, FAIL, f"{first['name']}: {first['text']}",
                      REMEDY.get(first["name"], "see docs/errors.md"), evidence, 0, names)  # fmt: skip
    if not paths or not records:
        return Judged(name, INCONCLUSIVE, "nothing was tried", "run it to the end (--resume)")
    failed = [f"{e} {p}: {w['text']}" for e, t in paths.items() for p, w in t.items()
              if w.get("name") == PROBE_FAILED]  # fmt: skip
    if failed:
        return Judged(name, INCONCLUSIVE, f"whether it works could not be found out: {failed[0]}",
                      "look for the cause and run again", evidence)  # fmt: skip
    works = [f"{e} {p}" for e, t in paths.items() for p, w in t.items() if w["works"]]
    return Judged(name, PASS, f"accepted: {', '.join(works)}", "", evidence)


def _memory_of(record: Record) -> Any:
    """Where a case's memory was by its addresses; None when it does not say."""
    facts = record.get("facts") or {}
    return facts.get("memory") or (record.get("report") or {}).get("memory")


def _tells_memory(record: Record) -> bool:
    """Whether a case that was done has to say where the memory of another exporter than the control is."""
    if record["exporter"] in ("", cases.CONTROL) or record["path"] in cases.CONTROLS:
        return False
    done = not {"skip", "missing", "error"} & record.keys()
    return done and (record["kind"] == "cell" or record["test"] in ("read", "write", "load"))


def _placement(records: list[Record], needs: Requirements, every: list[Record]) -> Judged:
    """Addresses, and moves that nobody asked for."""
    seen: list[Record] = []
    for record in records:
        facts = record.get("facts", {})
        if record["kind"] == "cell" and record.get("report"):
            facts = {"memory": record["report"].get("memory")}
        if "memory" not in facts or not record["exporter"] or record["path"] == "bounce":
            continue
        own = [o for o in record["findings"] if o["name"] == "VRAM_MIGRATED"]
        copy: Record = {**record, "findings": own}
        copy.pop("compared_bytes", None)
        wanted = needs["memory"]
        control = record["exporter"] == cases.CONTROL
        if wanted != "any" and facts["memory"] != wanted and not control:
            copy["findings"].append({"name": "VRAM_MIGRATED", "count": 1, "text":
                f"the memory is {facts['memory']} memory by its addresses, not {wanted}"})  # fmt: skip
        moves = facts.get("invalidations", 0)
        if moves > needs["most_moves"]:
            copy["findings"].append({"name": "VRAM_MIGRATED", "count": moves, "text":
                f"the exporter moved the memory {moves} times while it was in use"})  # fmt: skip
        seen.append(copy)
    if needs["memory"] == "peer" and not findings(seen):
        untold = [r["id"] for r in records if _tells_memory(r) and _memory_of(r) is None]
        if untold:
            return Judged("path.placement", INCONCLUSIVE, f"where the memory was is not known: {untold[0]}",
                          "look for what kept it from being said")  # fmt: skip
        if not any(r["exporter"] != cases.CONTROL for r in seen):
            return Judged("path.placement", INCONCLUSIVE, "no exporter of a device's memory was tested, only the "
                          "control", "give --exporter")  # fmt: skip
    kinds = sorted({str((r.get("facts") or r.get("report") or {}).get("memory")) for r in seen})
    return _verdict("path.placement", seen, every,
                    lambda ran: f"{', '.join(kinds)} memory by its addresses in {len(ran)} cases, "
                    "and it did not move", {})  # fmt: skip


def needed_commands(length: int, mdts: int) -> int:
    """Commands the drive's limit asks for; 0: it has no limit."""
    return -(-length // mdts) if mdts else 1


def _commands(records: list[Record], needs: Requirements, mdts: int | None,
              every: list[Record]) -> Judged:  # fmt: skip
    judged = []
    for record in records:
        copy = {**record, "findings": list(record["findings"])}
        for key, count in record.get("facts", {}).items():
            if not key.startswith("commands_") or mdts is None:
                continue
            length = int(key.removeprefix("commands_"))
            # Without a limit of the drive the block layer's own may cut.
            least = needed_commands(length, mdts or record["facts"]["max_command_bytes"])
            if count > least + needs["extra_commands"]:
                copy["findings"].append({"name": "SEGMENT_SPLIT", "count": count - least, "text":
                    f"a read of {length} bytes took {count} commands, {least} would do"})  # fmt: skip
        judged.append(copy)
    if mdts is None and judged:
        return Judged("path.commands", INCONCLUSIVE, "the drive does not tell its MDTS",
                      "run as root on an NVMe drive")  # fmt: skip
    return _verdict("path.commands", judged, every,
                    lambda ran: f"every length takes as few commands as the drive's limit of "
                    f"{(mdts or 0) // 1024} KiB asks for", {})  # fmt: skip


WINDOW_KINDS = ("precondition", "pts")


def window(records: Iterable[Record]) -> list[Record]:
    """Preconditioning, and those of the rounds that followed it without an interruption."""
    both = [record for record in records if record["kind"] in WINDOW_KINDS]
    parts = [record.get("part") for record in both if record["kind"] == "precondition"]
    return [record for record in both if record.get("part") == parts[-1]] if parts else []


def settled(records: Iterable[Record], block: int = 512) -> bool:
    """Whether there is nothing more to be done for the steady state: it was reached, or will not be."""
    rounds = pts_rounds(records, block)
    looked = [steady.examine(values) for values in rounds.values()]
    return bool(looked) and (
        all(one.steady for one in looked) or looked[0].rounds >= steady.MOST_ROUNDS
    )


def not_snia(state: dict[str, Any], measured: list[Record]) -> str:
    """In what the rounds are not those of SNIA's test, by what was asked for and by what was measured;
    empty when they are."""
    if "scale" not in state or "whole_drive" not in state:
        return "how long its rounds were is not known"
    scale = cases.Scale.of_words(state["scale"])
    wrong = []
    if scale.cell_seconds < cases.PTS_SECONDS:
        wrong.append(f"rounds of {scale.cell_seconds} s, not {cases.PTS_SECONDS}")
    if scale.size != "100%":
        wrong.append(f"over {scale.size} of the drive, not 100%")
    if not state["whole_drive"]:
        wrong.append("over a partition, not the drive")
    for record in () if wrong else measured:
        runtime, size = record.get("runtime_s"), record.get("size")
        if runtime is None or size is None:
            return f"how long {record['id']} was is not known"
        if runtime < cases.LEAST_RUNTIME * cases.PTS_SECONDS:
            return f"{record['id']} was {runtime:.0f} s long, not {cases.PTS_SECONDS}"
        if size != "100%":
            return f"{record['id']} was over {size} of the drive, not 100%"
    return ", ".join(wrong)


def _steady(records: list[Record], state: dict[str, Any]) -> Judged:
    name = "performance.steady"
    if not state.get("steady"):
        return Judged(name, SKIP, "not applicable: a quick run does not bring the drive into its "
                      "steady state")  # fmt: skip
    before = [record for record in records if record["kind"] == "precondition"]
    for record in before:
        if record["findings"] or "error" in record:
            what = record.get("error") or describe(record, record["findings"][0], records)
            return Judged(name, INCONCLUSIVE, f"the drive was not brought into its state: {what}",
                          "look for the cause and run again")  # fmt: skip
    seconds = sum(record["seconds"] for record in records)
    # No cell of the rounds is judged anywhere else, and SNIA's test tracks three of 56.
    measured = [record for record in window(records) if record["kind"] == "pts"]
    if any(record["findings"] or "error" in record for record in measured):
        return _verdict(name, measured, records, lambda ran: "", state)
    rounds = pts_rounds(records, int(state.get("block", 512)))
    if not rounds:
        return Judged(name, INCONCLUSIVE, "no round was completed", "run it to the end (--resume)")
    texts = []
    worst = None
    for cell, values in rounds.items():
        looked = steady.examine(values)
        texts.append((cell, looked.text(), ""))
        if not looked.steady and worst is None:
            worst = (cell, looked)
    scaled = not_snia(state, measured)
    if scaled:
        text = "; ".join(f"{c}: {t}" for c, t, _ in texts)
        return Judged(name, INCONCLUSIVE, f"not SNIA's test ({scaled}): {text}",
                      "run it without --cell-seconds and --size, on the whole drive", texts, seconds)  # fmt: skip
    if worst is None:
        return Judged(name, PASS, "; ".join(f"{c}: {t}" for c, t, _ in texts), "", texts, seconds)
    ended = worst[1].rounds >= steady.MOST_ROUNDS
    return Judged(name, FAIL if ended else INCONCLUSIVE, f"NOT_STEADY: {worst[0]}: {worst[1].text()}",
                  "look for throttling, other users of the drive, a worn drive", texts, seconds,
                  ["NOT_STEADY"] if ended else [])  # fmt: skip


def pts_rounds(records: Iterable[Record], block: int = 512) -> dict[str, list[float]]:
    """IOPS of the tracked cells, round by round from the first on, up to the first round of which a
    cell, tracked or not, is missing or not valid. `block`: the drive's logical block."""
    by_round: dict[int, dict[str, float]] = {}
    for record in window(records):
        if record["kind"] != "pts" or not has_figures(record):
            continue
        number = int(record["id"].split("/")[1].removeprefix("round-"))
        cell = record["id"].split("/")[2]
        figures = record["figures"]
        total = figures.get("read_iops", 0) + figures.get("write_iops", 0)
        by_round.setdefault(number, {})[cell] = total
    tracked = [f"{mix}-{size}" for mix, size in cases.PTS_TRACKED]
    rounds: dict[str, list[float]] = {}
    for number in range(1, len(by_round) + 1):
        if not cases.pts_names(block) <= by_round.get(number, {}).keys():
            break
        for cell in tracked:
            rounds.setdefault(cell, []).append(by_round[number][cell])
    return rounds


def medians(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[str, float]]:
    """By exporter, path and cell: the median of each figure over the repeats."""
    samples: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for record in records:
        if record["kind"] != "cell" or not has_figures(record):
            continue
        cell = record["id"].split("/")[-2]
        key = (record["exporter"], record["path"], cell)
        for figure, value in record["figures"].items():
            samples.setdefault(key, {}).setdefault(figure, []).append(value)
    return {key: {f: median(v) for f, v in figures.items()} for key, figures in samples.items()}


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
             and r.get("runtime_s", 0.0) < cases.LEAST_RUNTIME * cases.PTS_SECONDS]  # fmt: skip
    if short and not wrong:
        wrong.append(f"measurements of less than {cases.PTS_SECONDS} s, or of unknown length: {short[0]}")
    return " and ".join(wrong)


def _ratio(records: list[Record], state: dict[str, Any], needs: Requirements) -> Judged:
    name = "performance.ratio"
    if state.get("emulated"):
        return Judged(name, SKIP, "not applicable: the drive is emulated, its figures say nothing "
                      "about hardware")  # fmt: skip
    measured = [r for r in records if r["kind"] == "cell" and r["path"] != "bounce"]
    lost = [r["id"] for r in measured if not has_figures(r)]
    lost += not_done("performance.paths", records, state, needs)[0]
    by_case = medians(records)
    limits, evidence, bad = needs["performance"], [], []
    for (exporter, path, cell), figures in sorted(by_case.items()):
        control = by_case.get(("", "host", cell))
        if path in cases.CONTROLS or control is None:
            continue
        for figure, value in figures.items():
            if figure.endswith("_iops") and control.get(figure):
                ratio = value / control[figure]
                evidence.append((f"{exporter} {path} {cell} {figure}", f"{ratio:.3f}", "of host"))
                if isnan(ratio) or ratio < limits["least_iops_ratio"]:
                    bad.append(f"{exporter} {path} {cell}: {figure} is {ratio:.2f} of host memory's")
        if control.get("cpu_s_per_gib") and "cpu_s_per_gib" in figures:
            ratio = figures["cpu_s_per_gib"] / control["cpu_s_per_gib"]
            evidence.append((f"{exporter} {path} {cell} CPU", f"{ratio:.3f}", "of host"))
            if isnan(ratio) or ratio > limits["most_cpu_ratio"]:
                bad.append(f"{exporter} {path} {cell}: CPU time is {ratio:.2f} of host memory's")
    few = too_little(state, measured)
    if few and not lost:
        seen = f"; {bad[0]}" if bad else ""
        return Judged(name, SKIP if state.get("quick") else INCONCLUSIVE, f"not judged by {few}{seen}",
                      "run it without --quick, --repeats and --cell-seconds", evidence)  # fmt: skip
    if bad and not few:
        return Judged(name, FAIL, f"SLOWER: {bad[0]}", "see the comparison of datapaths", evidence,
                      0, ["SLOWER"])  # fmt: skip
    if not evidence or lost:
        what = f"{len(lost)} measurements are missing or not valid: {lost[0]}" if lost else "nothing was measured"
        return Judged(name, INCONCLUSIVE, what, "run it to the end (--resume)", evidence)
    return Judged(name, PASS, f"{len(evidence)} ratios within limits", "", evidence)


def _ready(state: dict[str, Any]) -> Judged:
    """What preflight said as each part of the run began."""
    name = "machine.ready"
    parts = state.get("parts", [])
    checks = [check for part in parts for check in part.get("preflight", ())]
    told = {(c["name"], c["text"], "") for c in checks if c["level"] != preflight.GREEN}
    evidence = sorted(told)
    for c in checks:
        if c["level"] == preflight.RED:
            return Judged(name, FAIL, f"{c['name']}: {c['text']}", c["remedy"], evidence, 0, [c["name"]])
    if not parts or not all(part.get("preflight") for part in parts):
        return Judged(name, INCONCLUSIVE, "the machine was not looked at before the run",
                      "run it anew", evidence)  # fmt: skip
    for c in checks:
        if c["name"] in preflight.WEAKENING:
            return Judged(name, INCONCLUSIVE, f"{c['name']}: {c['text']}", c["remedy"], evidence)
    return Judged(name, PASS, f"{len(checks)} checks, none of which speaks against the run", "", evidence)


# Counters of the SMART log whose growth makes a run's figures doubtful: what to say, and to do.
DOUBTFUL = {
    "warning_temp_time": ("the drive was too hot for {} min", "cool it and run again"),
    "critical_comp_time": ("the drive was too hot for {} min", "cool it and run again"),
    "thm_temp1_trans_count": ("the drive throttled {} times", "cool it and run again"),
    "thm_temp2_trans_count": ("the drive throttled {} times", "cool it and run again"),
    "unsafe_shutdowns": ("the drive lost power {} times", "see power supply and dmesg"),
    "num_err_log_entries": ("the drive logged {} errors of commands", "see nvme error-log"),
}


HEALTH_KEYS = {"media_errors", "critical", "spare_percent", "spare_threshold", "used_percent"}


def _health(state: dict[str, Any], needs: Requirements) -> Judged:
    name, limits = "drive.health", needs["drive"]
    before, after = state.get("health_before"), state.get("health_after")
    if not before or not after:
        return Judged(name, INCONCLUSIVE, "the drive's SMART log was not read before and after",
                      "run it to the end (--resume), as root")  # fmt: skip
    missing = sorted((HEALTH_KEYS | DOUBTFUL.keys()) - (before.keys() & after.keys()))
    if missing:
        return Judged(name, INCONCLUSIVE, f"the drive's SMART log was kept without {missing[0]}",
                      "run it anew with this release")  # fmt: skip
    evidence = [(f"{key} before, after", f"{before[key]}, {after.get(key)}", "") for key in before]

    def fails(known: str, text: str, remedy: str) -> Judged:
        return Judged(name, FAIL, f"{known}: {text}", remedy, evidence, 0, [known])

    new = after["media_errors"] - before["media_errors"]
    if new > limits["new_media_errors"]:
        return fails("MEDIA_ERRORS", f"{new} new media errors", "replace the drive")
    # Bit 0: spare; 1: temperature; 2: reliability; 3: read-only; 4: backup of volatile memory.
    critical = after["critical"] | before["critical"]
    if critical & ~(1 << 1):
        return fails("CRITICAL_WARNING", f"0x{critical:02x}", "see nvme smart-log")
    if after["spare_percent"] < after["spare_threshold"]:
        return fails("SPARE_LOW", f"{after['spare_percent']} % of the spare blocks are left, the drive's own "
                     f"limit is {after['spare_threshold']} %", "replace the drive")  # fmt: skip
    if before["used_percent"] > limits["most_used_percent"]:
        return fails("WORN", f"{before['used_percent']} % of its endurance is used", "use a fresher drive")
    if critical:
        return Judged(name, INCONCLUSIVE, "the drive was too hot: it may have throttled",
                      "cool it and run again", evidence)  # fmt: skip
    for counter in ("media_errors", *DOUBTFUL):
        if after[counter] < before[counter]:
            return Judged(name, INCONCLUSIVE, f"{counter} fell from {before[counter]} to {after[counter]} during "
                          "the run: the drive's counters cannot be relied on", "see nvme smart-log", evidence)  # fmt: skip
    for counter, (text, remedy) in DOUBTFUL.items():
        grown = after[counter] - before[counter]
        if grown > 0:
            return Judged(name, INCONCLUSIVE, f"{text.format(grown)} during the run", remedy, evidence)
    return Judged(name, PASS, "no new media errors, no critical warning, spare left; it did not throttle",
                  "", evidence)  # fmt: skip


def judge(records: dict[str, Record], state: dict[str, Any], needs: Requirements) -> list[Judged]:
    """All requirements. `state`: what run.json holds beside the records."""
    every = list(records.values())

    def of(name: str) -> list[Record]:
        return [record for record in every if record["requirement"] == name]

    verdicts = [
        _verdict(name, of(name), every, _compared, state)
        for name in ("integrity.drive", "integrity.read", "integrity.write", "integrity.segments")
    ]
    laid = "integrity/check" in records
    if verdicts[0].status == PASS and not laid:
        verdicts[0] = Judged("integrity.drive", INCONCLUSIVE, "what was laid down was not looked at",
                             "run it to the end (--resume)")  # fmt: skip
    trips = masked(every)
    verdicts.append(_verdict("integrity.roundtrip", trips, every, _compared, state))
    verdicts.append(_verdict("integrity.load", of("integrity.load"), every, _compared, state))
    verdicts.append(_accepted(every, state.get("paths", {}), needs))
    bounced: list[Record] = [{**r, "findings": [o for o in r["findings"] if o["name"] == "BOUNCED"]} for r in every]
    cells = [r for r in bounced if r["kind"] == "cell" or r["findings"]]
    verdicts.append(_verdict("path.proven", cells, every,
                             lambda ran: f"{len(ran)} measurements, each proven by counters"
                             + ("" if all(r.get("bounces_seen") for r in ran) else
                                "; whether swiotlb copied could not be seen"), state))  # fmt: skip
    verdicts.append(_placement(every, needs, every))
    verdicts.append(_commands(of("path.commands"), needs, state.get("mdts"), every))
    verdicts.append(_verdict("path.size", of("path.size"), every,
                             lambda ran: f"{needs['buffer_mib']} MiB work in {len(ran)} cases", state))  # fmt: skip
    for name in ("close", "liar", "fence", "invalidate", "revoke"):
        verdicts.append(_verdict(f"faults.{name}", of(f"faults.{name}"), every,
                                 lambda ran: f"{sum(r['transfers'] for r in ran)} transfers in "
                                 f"{len(ran)} cases ended as they must", state))  # fmt: skip
    others = ("BOUNCED", "VRAM_MIGRATED")
    sums: list[Record] = [{**r, "findings": [o for o in r["findings"] if o["name"] not in others]}
            for r in of("performance.paths")]  # fmt: skip
    verdicts.append(_verdict("performance.paths", sums, every,
                             lambda ran: f"the sums of {len(ran)} measurements agree", state))  # fmt: skip
    verdicts.append(_steady([r for r in every if r["kind"] in WINDOW_KINDS], state))
    verdicts.append(_ratio(every, state, needs))
    verdicts.append(_ready(state))
    verdicts.append(_health(state, needs))
    verdicts.append(_log(every, state))
    return [_whole(one, every, state, needs) for one in verdicts]


def _whole(
    judged: Judged, every: list[Record], state: dict[str, Any], needs: Requirements
) -> Judged:
    """The verdict, but nothing passes of which only a part was done."""
    left, planned = not_done(judged.id, every, state, needs)
    if judged.status not in (PASS, SKIP) or not left:
        return judged
    text = f"{len(left)} of {planned} cases were not done: {left[0]}"
    return Judged(judged.id, INCONCLUSIVE, text, "run it to the end (--resume)", judged.evidence,
                  judged.seconds)  # fmt: skip


def _log(records: list[Record], state: dict[str, Any]) -> Judged:
    """Of all parts of the run, after each case and at the end of each part."""
    name = "drive.log"
    parts = state.get("parts", [])
    looks = [(record["id"], record.get("kernel_log")) for record in records]
    looks += [(f"the end of part {number}", part.get("log")) for number, part in enumerate(parts, 1)]
    lines = {line: place for place, seen in reversed(looks) if seen for line in seen["lines"]}
    if lines:
        evidence = [(place, line, "") for line, place in reversed(lines.items())]
        return Judged(name, FAIL, f"KERNEL_LOG: {evidence[0][1]} ({evidence[0][0]})", "see dmesg",
                      evidence, 0, ["KERNEL_LOG"])  # fmt: skip
    if not parts or "log" not in parts[-1]:
        return Judged(name, INCONCLUSIVE, "the kernel log was not read to the end",
                      "run it to the end (--resume), as root")  # fmt: skip
    for number, part in enumerate(parts, 1):
        if "log" not in part:
            return Judged(name, INCONCLUSIVE, f"part {number} of the run was killed, and what the kernel "
                          "said then was lost with that boot", "choose another --output")  # fmt: skip
    for place, seen in looks:
        if seen is None:
            return Judged(name, INCONCLUSIVE, f"the kernel log cannot be read ({place})",
                          "give the run /dev/kmsg, as root")  # fmt: skip
        if not seen["complete"]:
            return Judged(name, INCONCLUSIVE, f"the kernel log overran: messages were lost ({place})",
                          "see what floods it, and boot with a larger log_buf_len")  # fmt: skip
    return Judged(name, PASS, "no error of the drive, PCIe, the IOMMU or a hung task, read after each "
                  f"of {len(records)} cases")  # fmt: skip
