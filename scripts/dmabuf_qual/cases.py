# SPDX-License-Identifier: GPL-2.0-only
"""What a run consists of: each case is one thing done, for one requirement."""

from dataclasses import dataclass, field, replace
from typing import Any

from dmabuf_common import sizes

from .requirements import Requirements

MIB = 1 << 20
GIB = 1 << 30

CONTROL = "udmabuf"
CONTROLS = ("bounce", "host")
# Where the integrity cases work, and where data lies untouched meanwhile.
REGION_OFFSET, REGION_BYTES = 0, 16 * MIB
RETENTION_OFFSET, RETENTION_BYTES = 64 * MIB, 16 * MIB
LEAST_DRIVE = RETENTION_OFFSET + RETENTION_BYTES

EACH_PATH = ("read", "write", "segments", "roundtrip", "load", "close")
AFTER_LOAD = ("read", "write", "load")
FAULTS = ("liar", "fence", "invalidate", "revoke")
# Those that a plug-in may be able to do with its own memory; one that is not says so.
OWN_FAULTS = ("invalidate", "revoke")

REQUIREMENT = {
    "read": "integrity.read",
    "write": "integrity.write",
    "segments": "integrity.segments",
    "roundtrip": "integrity.roundtrip",
    "load": "integrity.load",
    "close": "faults.close",
    "geometry": "path.commands",
    "size": "path.size",
    "lay": "integrity.drive",
    "check": "integrity.drive",
    "liar": "faults.liar",
    "fence": "faults.fence",
    "invalidate": "faults.invalidate",
    "revoke": "faults.revoke",
}

# rw, block size, depth: the comparison of datapaths.
QUICK_CELLS = (("randread", "4k", 32), ("read", "128k", 8))
CELLS = (
    ("randread", "4k", 1),
    ("randread", "4k", 32),
    ("randwrite", "4k", 32),
    ("randrw", "4k", 32),
    ("read", "128k", 16),
    ("write", "128k", 16),
    ("read", "1m", 8),
    ("write", "1m", 8),
)
# Of the specification of SNIA: depth, where it leaves it open, and length.
PTS_DEPTH = 32
PTS_SECONDS = 60
USUAL_TESTS = "iops"
# A measurement may end so much earlier than asked for: fio stops at a tick of its clock.
LEAST_RUNTIME = 0.95
PRECONDITION_SIZE = "128k"
BLOCK_BYTES = {"512": 512, "4k": 4096, "8k": 8192, "16k": 16384, "32k": 32768, "64k": 65536,
               "128k": 131072, "1m": MIB}


@dataclass(frozen=True)
class Scale:
    """How long things are done."""

    load_bytes: int
    cell_seconds: int
    repeats: int
    steady: bool
    size: str = "100%"
    tests: str = USUAL_TESTS  # SNIA's, with commas between them

    def as_words(self) -> dict[str, str | int | bool]:
        """For run.json."""
        words: dict[str, str | int | bool] = {
            "load_bytes": self.load_bytes, "cell_seconds": self.cell_seconds, "repeats": self.repeats,
            "steady": self.steady, "size": self.size,
        }
        # Left out where it is the usual, as in runs of older releases: they stay comparable.
        return words if self.tests == USUAL_TESTS else {**words, "tests": self.tests}

    @staticmethod
    def of_words(words: dict[str, Any]) -> "Scale":
        """From run.json."""
        return Scale(int(words["load_bytes"]), int(words["cell_seconds"]), int(words["repeats"]),
                     bool(words["steady"]), str(words["size"]), str(words.get("tests", USUAL_TESTS)))


# The load of a whole run is a requirement.
FULL = Scale(16 * GIB, PTS_SECONDS, 5, True)
QUICK = Scale(64 * MIB, 1, 1, False)


def usual(needs: Requirements, quick: bool) -> Scale:
    """The scale of a run that nobody changed."""
    load = int(needs["load_gib"] * GIB)
    if quick:
        return replace(QUICK, load_bytes=min(load, QUICK.load_bytes))
    return replace(FULL, load_bytes=load)


@dataclass(frozen=True)
class Case:
    """One thing to do. kind: integrity, cell, precondition, pts."""

    id: str
    kind: str
    requirement: str
    exporter: str = ""
    path: str = ""
    test: str = ""
    params: dict[str, str] = field(default_factory=dict)


def size_bytes(size: str, drive_bytes: int) -> int | None:
    """The bytes of a drive that a size such as "100%" or "1g" means; None when it is no such size,
    or the drive has not as many."""
    if size.endswith("%") and size[:-1].isdecimal():
        share = int(size[:-1])
        return drive_bytes * share // 100 if 0 < share <= 100 else None
    found = sizes.parse(size)
    return found if found is not None and found <= drive_bytes else None


def twice(size: str, drive_bytes: int) -> int:
    """The bytes that preconditioning has to write, whole blocks of it."""
    block = BLOCK_BYTES[PRECONDITION_SIZE]
    return 2 * ((size_bytes(size, drive_bytes) or 0) // block * block)


def shares(case: Case) -> tuple[float, float]:
    """How much of a measurement's I/Os are reads, and how much writes."""
    if case.kind == "precondition":
        reads = 0.0
    elif "READS" in case.params:
        reads = int(case.params["READS"]) / 100
    else:
        reads = 0.5 if "rw" in case.params["RW"] else 0.0 if "write" in case.params["RW"] else 1.0
    return reads, 1 - reads


def split_exporter(spec: str) -> tuple[str, str]:
    """`drm:/dev/dri/card1` as kind and device."""
    kind, _, device = spec.partition(":")
    return kind, device


def integrity(test: str, exporter: str, path: str, **params: str) -> Case:
    """A case of dmabuf-integrity."""
    name = "/".join(part for part in ("integrity", exporter.replace("/", "_"), path, test) if part)
    return Case(name, "integrity", REQUIREMENT[test], exporter, path, test, dict(params))


def integrity_after(test: str, exporter: str, path: str) -> Case:
    """Likewise, once more after the measurements."""
    case = integrity(test, exporter, path)
    return replace(case, id=case.id.replace("integrity", "integrity-after", 1), requirement="integrity.after")


def cell(exporter: str, path: str, rw: str, bs: str, depth: int, repeat: int) -> Case:
    """One measurement of the comparison."""
    name = f"perf/{exporter.replace('/', '_')}/{path}/{rw}-{bs}-{depth}/{repeat}"
    words = {"RW": rw, "BS": bs, "DEPTH": str(depth)}
    return Case(name, "cell", "performance.paths", exporter, path, "datapath-cell", words)


def before_measuring(
    exporters: list[str], paths: dict[str, list[str]], needs: Requirements
) -> list[Case]:
    """Integrity first: the drive alone, each exporter and datapath, then faults."""
    listed = [integrity("lay", "", "")]
    for exporter in exporters:
        for path in paths[exporter]:
            listed += [integrity(test, exporter, path) for test in EACH_PATH]
            if path == "premapped":
                listed.append(integrity("geometry", exporter, path))
        buffer = str(needs["buffer_mib"] * MIB)
        for path in paths[exporter]:
            listed.append(integrity("size", exporter, path, buffer=buffer))
    listed += [integrity(test, "", "premapped") for test in FAULTS]
    listed += [integrity(test, exporter, "premapped") for exporter in exporters
               if split_exporter(exporter)[0] == "plugin" and "premapped" in paths[exporter]
               for test in OWN_FAULTS]
    return listed


def cells_of(scale: Scale) -> tuple[tuple[str, str, int], ...]:
    """What is compared: all cells, unless the run is a quick one."""
    return CELLS if scale.steady else QUICK_CELLS


def measuring(exporters: list[str], paths: dict[str, list[str]], scale: Scale) -> list[Case]:
    """The comparison of datapaths; the order within a repeat is the caller's to shuffle."""
    listed = []
    cells = cells_of(scale)
    for repeat in range(1, scale.repeats + 1):
        for exporter in exporters:
            for path in [*paths[exporter], "bounce"]:
                listed += [cell(exporter, path, *what, repeat) for what in cells]
        listed += [cell("", "host", *what, repeat) for what in cells]
    return listed


def after_measuring() -> list[Case]:
    """Does what was laid down before everything still lie there?"""
    return [integrity("check", "", "")]


def after_load(exporters: list[str], paths: dict[str, list[str]]) -> list[Case]:
    """Data once more, when all was measured; and what is laid down before that has to lie there at the end."""
    return [
        integrity_after("lay", "", ""),
        *(integrity_after(test, exporter, path) for exporter in exporters for path in paths[exporter]
          for test in AFTER_LOAD),
        integrity_after("check", "", ""),
    ]


def planned(
    exporters: list[str], paths: dict[str, list[str]], needs: Requirements, scale: Scale
) -> list[Case]:
    """All that a whole run does, but for its rounds to the steady state, whose number is the drive's."""
    return [
        *before_measuring(exporters, paths, needs),
        *measuring(exporters, paths, scale),
        *after_measuring(),
        *(after_load(exporters, paths) if scale.steady else ()),
    ]
