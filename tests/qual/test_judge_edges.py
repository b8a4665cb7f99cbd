# SPDX-License-Identifier: GPL-2.0-only
"""What decides a verdict at its edges: which finding is whose, and what only half of a run shows."""

from typing import Any

import pytest

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS
from dmabuf_qual import cases, judge, requirements, rules
from dmabuf_qual.store import Record

NEEDS = requirements.load(None)
CELL = ("randread", "4k", 32)


def found(name: str) -> dict[str, Any]:
    return {"name": name, "text": "a place", "count": 3}


def integrity(test: str, path: str = "premapped", exporter: str = "udmabuf", **more: Any) -> Record:
    case = cases.integrity(test, exporter, path)
    return {"id": case.id, "kind": "integrity", "requirement": case.requirement, "exporter": exporter,
            "path": path, "test": test, "params": {}, "started": 0.0, "seconds": 1.0, "findings": [],
            "compared_bytes": 1 << 20, "transfers": 5, "facts": {}, **more}


def measured(path: str, iops: float, repeat: int = 1, exporter: str = "", **more: Any) -> Record:
    case = cases.cell(exporter or ("" if path == "host" else "udmabuf"), path, *CELL, repeat)
    return {"id": case.id, "kind": "cell", "requirement": case.requirement, "exporter": case.exporter, "path": path,
            "test": case.test, "params": case.params, "started": 0.0, "seconds": 60.0, "runtime_s": 60.0,
            "findings": [], "figures": {"read_iops": iops, "cpu_s_per_gib": 1.0},
            "report": {"memory": "system"}, **more}


def verdict(name: str, *records: Record, needs: dict[str, Any] = NEEDS, **state: Any) -> rules.Judged:
    by_id = {r["id"]: r for r in records}
    assert len(by_id) == len(records)
    return next(v for v in judge.judge(by_id, state, needs) if v.id == name)


def test_a_measurement_that_ended_with_an_error_gives_no_ratio() -> None:
    """Whatever figures it left."""
    broken = measured("premapped", 200.0, error="fio ended with status 1")
    judged = verdict("performance.ratio", measured("host", 100.0), broken)
    assert judged.status == INCONCLUSIVE and broken["id"] in judged.text


@pytest.mark.parametrize("name", ["IO_HANG", "BOUNCED", "SEGMENT_SPLIT", "EAGAIN_STORM"])
def test_a_finding_comes_with_its_own_remedy(name: str) -> None:
    assert verdict("integrity.read", integrity("read", findings=[found(name)])).remedy == rules.REMEDY[name]
    unknown = verdict("integrity.read", integrity("read", findings=[found("A_NEW_ONE")]))
    assert unknown.remedy == "see docs/errors.md"


@pytest.mark.parametrize("name", ["READ_NOT_LANDED", "WRITE_NOT_LANDED", "WRITE_NOT_FETCHED", "MISADDRESSED",
                                  "MULTI_SEGMENT_MISADDRESSED", "STALE_DATA", "DATA_CORRUPTED"])
def test_a_round_trip_is_masked_by_each_fault_of_a_direction(name: str) -> None:
    trip = integrity("roundtrip", facts={"agree": 4, "differ": 0})
    judged = verdict("integrity.roundtrip", integrity("read", findings=[found(name)]), trip)
    assert (judged.status, judged.names) == (FAIL, ["ROUNDTRIP_MASKED"])
    assert name in judged.text
    other = verdict("integrity.roundtrip", integrity("read", findings=[found("IO_ERROR")]), trip)
    assert other.status == PASS


def test_the_controls_need_not_say_where_their_memory_is() -> None:
    peer = {**NEEDS, "memory": "peer"}
    device = integrity("read", exporter="drm", facts={"memory": "peer"})
    silent = [integrity("read"), integrity("write"),  # udmabuf, the control
              measured("bounce", 1.0, exporter="drm", report={}), measured("host", 1.0, report={})]
    assert verdict("path.placement", device, *silent, needs=peer).status == PASS
    untold = integrity("write", exporter="drm")
    assert verdict("path.placement", device, *silent, untold, needs=peer).status == INCONCLUSIVE


def test_a_fault_of_another_kind_is_none_of_the_memorys_place() -> None:
    wrong = integrity("read", facts={"memory": "system", "invalidations": 0}, findings=[found("READ_NOT_LANDED")])
    assert verdict("path.placement", wrong).status == PASS
    assert verdict("integrity.read", wrong).names == ["READ_NOT_LANDED"]


WORKS = {"udmabuf": {"premapped": {"works": True, "name": "", "text": "", "facts": {}}}}


def whole(repeats: int = 5, **figures: float) -> list[Record]:
    """Every measurement that such a run plans, host at 100 IOPS."""
    scale = cases.Scale(1 << 30, 60, repeats, True)
    made = []
    for case in cases.measuring(["udmabuf"], {"udmabuf": ["premapped"]}, scale):
        iops = figures.get(case.path, 100.0)
        record = measured(case.path, iops)
        made.append({**record, "id": case.id, "exporter": case.exporter, "params": case.params})
    return made


def of_run(repeats: int = 5) -> dict[str, Any]:
    return {"scale": cases.Scale(1 << 30, 60, repeats, True).as_words(), "paths": WORKS}


def test_ratios_of_a_part_of_the_measurements_do_not_pass() -> None:
    every = whole()
    assert verdict("performance.ratio", *every, **of_run()).status == PASS
    judged = verdict("performance.ratio", *every[:-1], **of_run())
    assert judged.status == INCONCLUSIVE and every[-1]["id"] in judged.text


def test_few_repeats_of_which_some_are_lost_make_no_drive_slower() -> None:
    slow = whole(4, premapped=50.0)
    assert verdict("performance.ratio", *slow, **of_run(4)).status == INCONCLUSIVE
    judged = verdict("performance.ratio", *slow[:-1], **of_run(4))
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    # With all of them, it is.
    assert verdict("performance.ratio", *whole(5, premapped=50.0), **of_run()).names == ["SLOWER"]


def test_a_run_that_is_still_on_is_told_from_a_part_that_was_killed() -> None:
    log = {"lines": [], "complete": True}
    on = verdict("drive.log", parts=[{"log": log}, {}])
    killed = verdict("drive.log", parts=[{}, {"log": log}])
    assert (on.status, killed.status) == (INCONCLUSIVE, INCONCLUSIVE)
    assert "not read to the end" in on.text and "--resume" in on.remedy
    assert "part 1 of the run was killed" in killed.text
