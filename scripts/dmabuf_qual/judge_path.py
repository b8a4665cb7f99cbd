# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on the datapath: path.*"""

from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS

from . import cases
from .rules import MEASURED, PROBE_FAILED, REMEDY, Judged, findings, proven, verdict
from .requirements import Requirements
from .store import Record
from .whereabouts import memory_of


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
                      REMEDY.get(first["name"], "see docs/errors.md"), evidence, 0, names)
    if not paths or not records:
        return Judged(name, INCONCLUSIVE, "nothing was tried", "run it to the end (--resume)")
    failed = [f"{e} {p}: {w['text']}" for e, t in paths.items() for p, w in t.items()
              if w.get("name") == PROBE_FAILED]
    if failed:
        return Judged(name, INCONCLUSIVE, f"whether it works could not be found out: {failed[0]}",
                      "look for the cause and run again", evidence)
    works = [f"{e} {p}" for e, t in paths.items() for p, w in t.items() if w["works"]]
    return Judged(name, PASS, f"accepted: {', '.join(works)}", "", evidence)


def _proven(every: list[Record], state: dict[str, Any]) -> Judged:
    """Measurements, and whatever the kernel copied in any case."""
    bounced: list[Record] = [{**r, "findings": [o for o in r["findings"] if o["name"] == "BOUNCED"]} for r in every]
    cells = [r for r in bounced if r["kind"] in MEASURED or r["findings"]]
    judged = verdict("path.proven", cells, every,
                   lambda ran: f"{len(ran)} measurements, each proven by counters"
                   + ("" if all(r.get("bounces_seen") for r in ran) else
                      "; whether swiotlb copied could not be seen"), state)
    bare = [r["id"] for r in every if r["kind"] in MEASURED and not r["findings"] and not proven(r)
            and not {"skip", "missing", "error"} & r.keys()]
    if bare and judged.status == PASS:
        return Judged("path.proven", INCONCLUSIVE, f"{bare[0]} does not say that it was made on its datapath",
                      "run it again", judged.evidence, judged.seconds)
    return judged


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
                f"the memory is {facts['memory']} memory by its addresses, not {wanted}"})
        moves = facts.get("invalidations", 0)
        if moves > needs["most_moves"]:
            copy["findings"].append({"name": "VRAM_MIGRATED", "count": moves, "text":
                f"the exporter moved the memory {moves} times while it was in use"})
        seen.append(copy)
    if needs["memory"] == "peer" and not findings(seen):
        untold = [r["id"] for r in records if _tells_memory(r) and memory_of(r) is None]
        if untold:
            return Judged("path.placement", INCONCLUSIVE, f"where the memory was is not known: {untold[0]}",
                          "look for what kept it from being said")
        if not any(r["exporter"] != cases.CONTROL for r in seen):
            return Judged("path.placement", INCONCLUSIVE, "no exporter of a device's memory was tested, only the "
                          "control", "give --exporter")
    kinds = sorted({str((r.get("facts") or r.get("report") or {}).get("memory")) for r in seen})
    return verdict("path.placement", seen, every,
                    lambda ran: f"{', '.join(kinds)} memory by its addresses in {len(ran)} cases, "
                    "and it did not move", {})


def needed_commands(length: int, mdts: int) -> int:
    """Commands the drive's limit asks for; 0: it has no limit."""
    return -(-length // mdts) if mdts else 1


def _commands(records: list[Record], needs: Requirements, mdts: int | None,
              every: list[Record]) -> Judged:
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
                    f"a read of {length} bytes took {count} commands, {least} would do"})
        judged.append(copy)
    if mdts is None and judged:
        return Judged("path.commands", INCONCLUSIVE, "the drive does not tell its MDTS",
                      "run as root on an NVMe drive")
    return verdict("path.commands", judged, every,
                    lambda ran: f"every length takes as few commands as the drive's limit of "
                    f"{(mdts or 0) // 1024} KiB asks for", {})


def path(every: list[Record], state: dict[str, Any], needs: Requirements) -> list[Judged]:
    """path.*"""

    def of(name: str) -> list[Record]:
        return [record for record in every if record["requirement"] == name]

    return [
        _accepted(every, state.get("paths", {}), needs),
        _proven(every, state),
        _placement(every, needs, every),
        _commands(of("path.commands"), needs, state.get("mdts"), every),
        verdict("path.size", of("path.size"), every,
                lambda ran: f"{needs['buffer_mib']} MiB work in {len(ran)} cases", state),
    ]
