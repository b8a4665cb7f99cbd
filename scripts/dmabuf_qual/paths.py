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

from . import cases, drive as drives, execute, exporters
from .drive import Drive
from .errors import QualError

FORMAT, VERSION = "libdmabuf-paths", 1
DATAPATHS = ("premapped", "registered", "bvec")
ASK_S = 60.0
NOT_AVAILABLE, IO_HANG, FAILED, BOUNCED = "NOT_AVAILABLE", "IO_HANG", "PROBE_FAILED", "BOUNCED"

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
    direct: bool = False  # it leads to the memory that the exporter stands for
    no: No | None = None

    def words(self) -> Words:
        """For JSON."""
        said: Words = {"exporter": self.exporter, "datapath": self.datapath, "works": self.no is None}
        if self.no:
            return said | self.no.words()
        said |= {"memory": self.memory, "route": self.route, "segments": self.segments, "direct": self.direct}
        said |= {"command_bytes": self.command_bytes} if self.command_bytes else {}
        return said | ({"controller": self.controller} if self.controller else {})


@dataclass(frozen=True)
class Exporter:
    """One exporter: the device that it took, or why it makes no buffer."""

    spec: str
    device: str = ""
    pci: str = ""
    no: No | None = None
    exported: str = ""  # how it made its memory, where it has several ways
    says: str = ""  # of itself, where it is the user's own

    def words(self) -> Words:
        """For JSON."""
        said: Words = {"exporter": self.spec, "made": self.no is None}
        if self.no:
            return said | self.no.words()
        said |= {"says": self.says} if self.says else {}
        said |= {"device": self.device} | ({"pci": self.pci} if self.pci else {})
        return said | ({"exported": self.exported} if self.exported else {})


@dataclass
class Asked:
    """One drive and its ways."""

    drive: Drive
    ways: list[Way] = field(default_factory=list)

    def words(self) -> Words:
        """For JSON."""
        found = self.drive
        said: Words = {"device": found.path, "model": found.model, "serial": found.serial,
                       "multipath": found.multipath}
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
        """How many datapaths lead to the memory that was asked about."""
        return sum(way.direct for asked in self.drives for way in asked.ways)

    @property
    def others(self) -> int:
        """How many work, over other memory: the machine's own where a device's is meant, or nobody asked."""
        return sum(way.no is None and not way.direct for asked in self.drives for way in asked.ways)

    @property
    def status(self) -> int:
        """The exit status."""
        return EXIT_PASS if self.direct else EXIT_UNDECIDED

    def words(self) -> Words:
        """For JSON: docs/schema/paths.schema.json."""
        return {"format": FORMAT, "version": VERSION, "kernel": os.uname().release, "module": self.module,
                "direct": self.direct, "not_direct": self.others, "exporters": [one.words() for one in self.exporters],
                "drives": [one.words() for one in self.drives]}


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
    return Exporter(spec, str(facts["exporter_device"]), str(facts.get("pci", "")),
                    exported=str(facts.get("exported", "")), says=str(facts.get("exporter_says", "")))


def bounced(system: System) -> No | None:
    """Why no data goes to the machine's memory directly, whoever asks; None where it may."""
    for word in system.read("/proc/cmdline").split():
        if word.startswith("swiotlb=") and "force" in word.removeprefix("swiotlb=").split(","):
            return No(BOUNCED, "swiotlb=force: the kernel copies all data for devices; remove it from the kernel "
                      "command line")
    return None


def is_direct(spec: str, memory: str, named: bool) -> bool:
    """Whether memory by its addresses is what an exporter stands for: a device's for one of device memory.
    What another one lends is the machine's own: an answer only where the user `named` that exporter."""
    return memory == "peer" if exporters.of_devices(spec) else named


@dataclass(frozen=True)
class Cut:
    """Where the block layer cuts a transfer: bytes, pieces, bytes of a piece; 0 for no limit."""

    longest: int
    pieces: int
    piece: int

    @classmethod
    def of(cls, system: System, disk: str) -> "Cut":
        """Of a disk."""
        queue = f"/sys/block/{disk}/queue"
        words = [system.number(f"{queue}/{name}") or 0 for name in ("max_sectors_kb", "max_segments", "max_segment_size")]
        return cls(words[0] * 1024, words[1], words[2])

    def command(self, buffer: int, segments: int) -> int:
        """The longest command over a buffer in so many pieces, where those are alike; 0 where not known."""
        if not (buffer and segments and self.pieces):
            return self.longest
        piece = buffer // segments
        most = self.pieces * (min(piece, self.piece) if self.piece else piece)
        return min(self.longest, most) if self.longest else most


def _way(exporter: Exporter, datapath: str, facts: Words, cut: Cut, system: System, named: bool) -> Way:
    """One datapath from what dmabuf-integrity says."""
    said, spec = facts[datapath], exporter.spec
    if not said["works"]:
        return Way(spec, datapath, no=why(said["text"]))
    # Of premapped the module knows it itself, and refuses.
    if datapath != "premapped" and (no := bounced(system)):
        return Way(spec, datapath, no=no)
    number = said.get("controller")
    # Only premapped's commands are the module's own; all others are cut by the block layer.
    longest = said["max_command_bytes"] or cut.command(facts.get("buffer_bytes", 0), said["segments"])
    return Way(spec, datapath, said["memory"], said["route"], longest, said["segments"],
               "" if number is None else f"nvme{number}", is_direct(spec, said["memory"], named))


def of_drive(
    integrity: str, system: System, found: Drive, wanted: Iterable[Exporter], named: bool = True
) -> Asked:
    """The ways of one drive with each exporter that makes a buffer. `named`: by the user."""
    asked = Asked(found)
    cut = Cut.of(system, found.disk)
    for exporter in wanted:
        if exporter.no:
            continue
        argv = ["paths", "--device", found.path, *exporter_words(exporter.spec)]
        argv += ["--max-command", str(found.mdts)] if found.mdts else []
        facts = ask(integrity, *argv)
        for datapath in DATAPATHS:
            asked.ways.append(Way(exporter.spec, datapath, no=facts) if isinstance(facts, No)
                              else _way(exporter, datapath, facts, cut, system, named))
    return asked


def devices(system: System) -> list[str]:
    """The drives of this machine: whole disks that are devices, none made of others or of memory."""
    found = drive_identity.disks(system)
    return [one.node.path for one in found
            if one.node.number and one.node.bytes and system.exists(f"/sys/block/{one.node.disk}/device")]


def find(integrity: str, system: System, paths: Iterable[str], specs: Iterable[str], named: bool,
         begin: Callable[[str], None]) -> Answer:
    """Asks all. `named`: the user named the exporters; `begin` is told what is asked next. QualError where
    nothing can be asked at all."""
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
        answered.append(of_drive(integrity, system, drives.find(path, system), made, named))
    return Answer(system.read("/sys/module/dmabuf_rw/version") or "unknown", made, answered)


_ROUTES = {
    "memory": "by the memory bus",
    "host_bridge": "peer to peer by the host bridge",
    "switch": "peer to peer by a PCIe switch",
}
_MEMORIES = {"system": "the machine's memory", "peer": "a device's memory",
             "mixed": "memory of the machine and of a device"}


def _line(way: Way) -> tuple[str, str, str, str]:
    if way.no:
        return way.exporter, way.datapath, "no", f"{way.no.reason}: {way.no.text}"
    memory = _MEMORIES.get(way.memory, f"{way.memory} memory")
    if way.memory == "system" and exporters.of_devices(way.exporter):
        memory += ", no device's"
    parts = [memory, _ROUTES.get(way.route, f"{way.route} route")]
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
                  for row in rows]
        lines.append("")
    absent = [one for one in answer.exporters if one.no]
    if absent:
        lines.append("not there:")
        width = max(len(one.spec) for one in absent)
        lines += [f"  {one.spec:<{width}}  {one.no.reason}: {one.no.text}" for one in absent if one.no]
        lines.append("")
    count = f"{answer.direct or 'no'} direct datapath{'s' * (answer.direct > 1)}"
    others = f", {answer.others} over other memory" if answer.others else ""
    lines.append(f"{count}{others}; nothing was read or written")
    return "\n".join(lines)
