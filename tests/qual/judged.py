# SPDX-License-Identifier: GPL-2.0-only
"""Records of cases, as a run has them, and what is judged of them."""

from typing import Any

from dmabuf_qual import cases, execute, judge, requirements, rules, snia
from dmabuf_qual.store import Record

NEEDS = requirements.load(None)


def record(test: str, path: str = "premapped", exporter: str = "udmabuf", **more: Any) -> Record:
    if test in ("lay", "check"):
        exporter = path = ""
    case = cases.integrity(test, exporter, path)
    return {"id": case.id, "kind": "integrity", "requirement": case.requirement, "exporter": exporter,
            "path": path, "test": test, "params": {}, "started": 0.0, "seconds": 1.0, "findings": [],
            "compared_bytes": 1 << 20, "transfers": 5, "facts": {}, **more}


def found(name: str) -> dict[str, Any]:
    return {"name": name, "text": "a place", "count": 3}


def verdict(name: str, *records: Record, **state: Any) -> rules.Judged:
    by_id = {r["id"]: r for r in records}
    return next(v for v in judge.judge(by_id, state, NEEDS) if v.id == name)


def cell(iops: float, path: str = "premapped") -> dict[str, Any]:
    side = {"total_ios": 100, "iops": iops, "clat_ns": {"mean": 1e6}, "io_bytes": 409600, "bw_bytes": 1}
    none = {"total_ios": 0, "iops": 0.0, "clat_ns": {"mean": 0.0}, "io_bytes": 0}
    line = {"proven": True, "datapath": path, "proof": "p", "issued": {"reads": 100, "writes": 0},
            "retries": 0, "module": {"invalidations": 0}}
    return {"job": {"read": side, "write": none, "job_runtime": 60_000}, "line": line}


def names(made: dict[str, Any], path: str = "premapped", moved: int = 409600, rw: str = "randread") -> list[str]:
    case = cases.cell("udmabuf", path, rw, "4k", 32, 1)
    found = execute.check_cell(case, made["job"], made["line"], [moved, 0], NEEDS, 60)
    return [f["name"] for f in found]


# What the engine says of a premapped measurement.
PROOF = {"proven": True, "datapath": "premapped", "proof": "the module counted"}


def pts(number: int, iops: dict[str, float]) -> list[Record]:
    """A whole round: the cells that are not given do one I/O a second."""
    iops = {**iops, **{name: 1.0 for name in sorted(snia.IOPS.names(512)) if name not in iops}}
    return [{"id": f"steady/round-{number:02}/{name}", "kind": "pts", "figures": {"read_iops": value},
             "requirement": "performance.steady", "exporter": "udmabuf", "path": "premapped",
             "test": "pts-iops", "part": 1, "started": 0.0, "findings": [], "seconds": 1.0, "runtime_s": 60.0,
             "size": "100%", "report": PROOF} for name, value in iops.items()]


READY: Record = {"id": "steady/precondition", "kind": "precondition", "findings": [], "seconds": 1.0,
                 "requirement": "performance.steady", "exporter": "udmabuf", "path": "premapped",
                 "test": "precondition", "part": 1, "started": 0.0, "figures": {"write_iops": 1.0}, "runtime_s": 9.0, "size": "100%",
                 "written_bytes": 2 << 30, "report": PROOF}


def run(
    path: str, iops: float, cpu: float = 1.0, repeat: int = 1, cell_of: tuple[str, str, int] = ("randread", "4k", 32)
) -> Record:
    exporter = "" if path == "host" else "udmabuf"
    case = cases.cell(exporter, path, *cell_of, repeat)
    return {**record("read"), "id": case.id, "kind": "cell", "exporter": exporter, "path": path,
            "requirement": case.requirement, "params": case.params, "test": case.test,
            "figures": {"read_iops": iops, "cpu_s_per_gib": cpu}, "runtime_s": 60.0,
            "report": {**PROOF, "datapath": path}}


SCALE = cases.Scale(1 << 30, 60, 1, True).as_words()
WORKS = {"works": True, "name": "", "text": "", "facts": {}}
