# SPDX-License-Identifier: GPL-2.0-only
"""Would this be direct? For each drive and exporter, which datapath there is and by which way, or why
there is none. By MAP, INFO and UNMAP alone: no byte is written or read, and no drive is claimed."""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dmabuf_common import drive_identity, process
from dmabuf_common.sysfs import System
from dmabuf_common.verdict import EXIT_PASS, EXIT_UNDECIDED

from . import cases, drive as drives, execute
from .drive import Drive
from .errors import QualError

FORMAT, VERSION = "libdmabuf-paths", 1
DATAPATHS = ("premapped", "registered", "bvec")
ASK_S = 60.0
NOT_AVAILABLE, IO_HANG, FAILED = "NOT_AVAILABLE", "IO_HANG", "PROBE_FAILED"

# A refusal of the module in the engine's words: what it is about: the sentence (NAME, EIO); what to do.
_REFUSED = re.compile(r"datapath \w+: (?P<text>.*) \((?P<name>[A-Z_0-9]+), [^)]*\)(?:; (?P<remedy>.*))?$")
# A name that the exporter itself gives.
_NAMED = re.compile(r"(?P<name>[A-Z][A-Z0-9]*_[A-Z0-9_]+): (?P<text>.*)$")

Words = dict[str, Any]


@dataclass(frozen=True)
class No:
    """Why there is none: by the names of docs/errors.md, where they have one."""

    reason: str
    text: str

    def words(self) -> Words:
        """For JSON."""
        return {"reason": self.reason, "text": self.text}


@dataclass(frozen=True)
class Way:
    """One datapath of a drive with an exporter."""

    exporter: str
    datapath: str
    memory: str = ""
    route: str = ""
    command_bytes: int = 0  # 0: not known
    segments: int = 0
    controller: str = ""  # by which the commands go, of a multipath head
    no: No | None = None

    def words(self) -> Words:
        """For JSON."""
        said: Words = {"exporter": self.exporter, "datapath": self.datapath, "works": self.no is None}
        if self.no:
            return said | self.no.words()
        said |= {"memory": self.memory, "route": self.route, "segments": self.segments}
        said |= {"command_bytes": self.command_bytes} if self.command_bytes else {}
        return said | ({"controller": self.controller} if self.controller else {})


@dataclass(frozen=True)
class Exporter:
    """One exporter: the device that it took, or why it makes no buffer."""

    spec: str
    device: str = ""
    pci: str = ""
    no: No | None = None

    def words(self) -> Words:
        """For JSON."""
        said: Words = {"exporter": self.spec, "made": self.no is None}
        if self.no:
            return said | self.no.words()
        return said | {"device": self.device} | ({"pci": self.pci} if self.pci else {})


@dataclass
class Asked:
    """One drive and its ways."""

    drive: Drive
    ways: list[Way] = field(default_factory=list)

    def words(self) -> Words:
        """For JSON."""
        found = self.drive
        said: Words = {"device": found.path, "model": found.model, "serial": found.serial,
                       "multipath": found.multipath}  # fmt: skip
        said |= {"pci": found.pci} if found.pci else {}
        return said | {"paths": [way.words() for way in self.ways]}


@dataclass
class Answer:
    """All of it."""

    module: str
    exporters: list[Exporter]
    drives: list[Asked]

    @property
    def direct(self) -> int:
        """How many datapaths there are."""
        return sum(way.no is None for asked in self.drives for way in asked.ways)

    @property
    def status(self) -> int:
        """The exit status."""
        return EXIT_PASS if self.direct else EXIT_UNDECIDED

    def words(self) -> Words:
        """For JSON: docs/schema/paths.schema.json."""
        return {"format": FORMAT, "version": VERSION, "kernel": os.uname().release, "module": self.module,
                "direct": self.direct, "exporters": [one.words() for one in self.exporters],
                "drives": [one.words() for one in self.drives]}  # fmt: skip


def why(message: str) -> No:
    """The reason in a message of the engine."""
    match = _REFUSED.search(message)
    if match:
        remedy = f"; {match['remedy']}" if match["remedy"] else ""
        return No(match["name"], match["text"] + remedy)
    match = _NAMED.match(message)
    return No(match["name"], match["text"]) if match else No(NOT_AVAILABLE, message)


def ask(integrity: str, *words: str) -> Words | No:
    """The facts that dmabuf-integrity says, or why there are none."""
    ended = process.run([integrity, *words], ASK_S)
    if ended.hung:
        place = f", blocked in {ended.blocked}" if ended.blocked else ""
        return No(IO_HANG, f"no answer within {ASK_S:.0f} s{place}")
    try:
        said = json.loads(ended.out)
    except ValueError:
        said = None
    if not isinstance(said, dict) or execute.unexpected(ended.status, said):
        text = (ended.err or ended.out).strip()[-200:]
        return No(FAILED, f"dmabuf-integrity ended with status {ended.status}: {text}")
    if "error" in said:
        return why(said["error"])
    facts: Words = said["facts"]
    return facts


def exporter_words(spec: str) -> list[str]:
    """How dmabuf-integrity is told an exporter."""
    kind, device = cases.split_exporter(spec)
    return ["--exporter", kind, *(["--exporter-device", device] if device else [])]


def of_exporter(integrity: str, spec: str) -> Exporter:
    """Does it make a buffer?"""
    facts = ask(integrity, "paths", *exporter_words(spec))
    if isinstance(facts, No):
        return Exporter(spec, no=facts)
    return Exporter(spec, str(facts["exporter_device"]), str(facts.get("pci", "")))


def _way(spec: str, datapath: str, said: Words, cut: int) -> Way:
    """One datapath from what dmabuf-integrity says. `cut`: where the block layer cuts, in bytes."""
    if not said["works"]:
        return Way(spec, datapath, no=why(said["text"]))
    number = said.get("controller")
    # Only premapped's commands are the module's own; all others are cut by the block layer.
    longest = said["max_command_bytes"] or cut
    return Way(spec, datapath, said["memory"], said["route"], longest, said["segments"],
               "" if number is None else f"nvme{number}")  # fmt: skip


def of_drive(integrity: str, system: System, found: Drive, wanted: Iterable[Exporter]) -> Asked:
    """The ways of one drive with each exporter that makes a buffer."""
    asked = Asked(found)
    cut = (system.number(f"/sys/block/{found.disk}/queue/max_sectors_kb") or 0) * 1024
    for exporter in wanted:
        if exporter.no:
            continue
        argv = ["paths", "--device", found.path, *exporter_words(exporter.spec)]
        argv += ["--max-command", str(found.mdts)] if found.mdts else []
        facts = ask(integrity, *argv)
        for datapath in DATAPATHS:
            asked.ways.append(Way(exporter.spec, datapath, no=facts) if isinstance(facts, No)
                              else _way(exporter.spec, datapath, facts[datapath], cut))  # fmt: skip
    return asked


def devices(system: System) -> list[str]:
    """The drives of this machine: whole disks that are devices, none made of others or of memory."""
    found = drive_identity.disks(system)
    return [one.node.path for one in found
            if one.node.number and one.node.bytes and system.exists(f"/sys/block/{one.node.disk}/device")]  # fmt: skip


def find(integrity: str, system: System, paths: Iterable[str], specs: Iterable[str],
         begin: Callable[[str], None]) -> Answer:  # fmt: skip
    """Asks all. `begin` is told what is asked next. QualError where nothing can be asked at all."""
    facts = ask(integrity, "query")
    if isinstance(facts, No):
        raise QualError(facts.text)
    made = []
    for spec in specs:
        begin(spec)
        made.append(of_exporter(integrity, spec))
    answered = []
    for path in paths:
        begin(path)
        answered.append(of_drive(integrity, system, drives.find(path, system), made))
    return Answer(system.read("/sys/module/dmabuf_rw/version") or "unknown", made, answered)


_ROUTES = {
    "memory": "by the memory bus",
    "host_bridge": "peer to peer by the host bridge",
    "switch": "peer to peer by a PCIe switch",
}
_MEMORIES = {"system": "the machine's memory", "peer": "a device's memory",
             "mixed": "memory of the machine and of a device"}  # fmt: skip


def _line(way: Way) -> tuple[str, str, str, str]:
    if way.no:
        return way.exporter, way.datapath, "no", f"{way.no.reason}: {way.no.text}"
    parts = [_MEMORIES.get(way.memory, f"{way.memory} memory"), _ROUTES.get(way.route, f"{way.route} route")]
    parts += [f"{way.command_bytes >> 10} KiB a command"] if way.command_bytes else []
    parts += [f"by {way.controller}"] if way.controller else []
    return way.exporter, way.datapath, "yes", ", ".join(parts)


def table(answer: Answer) -> str:
    """For a human."""
    lines = []
    for asked in answer.drives:
        found = asked.drive
        head = [found.path, found.model, found.serial, found.pci, "multipath head" if found.multipath else ""]
        lines.append("  ".join(part for part in head if part))
        rows = [_line(way) for way in asked.ways]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        lines += ["  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True))
                  for row in rows]  # fmt: skip
        lines.append("")
    absent = [one for one in answer.exporters if one.no]
    if absent:
        lines.append("not there:")
        width = max(len(one.spec) for one in absent)
        lines += [f"  {one.spec:<{width}}  {one.no.reason}: {one.no.text}" for one in absent if one.no]
        lines.append("")
    lines.append(f"{answer.direct} datapaths; nothing was read or written" if answer.direct
                 else "no datapath; nothing was read or written")  # fmt: skip
    return "\n".join(lines)
