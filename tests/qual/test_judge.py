# SPDX-License-Identifier: GPL-2.0-only
"""A requirement passes only when it was seen to hold; each failure keeps its name."""

import dataclasses
from typing import Any

import pytest

from dmabuf_common.nvme import Health
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP, overall
from dmabuf_qual import cases, execute, judge, judge_steady, requirements, rules, snia
from dmabuf_qual.store import Record

NEEDS = requirements.load(None)
HEALTH = dataclasses.asdict(Health(critical=0, temperature_c=40, used_percent=1, written_bytes=1, media_errors=0,
                                   spare_threshold=10))  # fmt: skip


def record(test: str, path: str = "premapped", exporter: str = "udmabuf", **more: Any) -> Record:
    if test in ("lay", "check"):
        exporter = path = ""
    case = cases.integrity(test, exporter, path)
    return {"id": case.id, "kind": "integrity", "requirement": case.requirement, "exporter": exporter,
            "path": path, "test": test, "params": {}, "started": 0.0, "seconds": 1.0, "findings": [],
            "compared_bytes": 1 << 20, "transfers": 5, "facts": {}, **more}  # fmt: skip


def found(name: str) -> dict[str, Any]:
    return {"name": name, "text": "a place", "count": 3}


def verdict(name: str, *records: Record, **state: Any) -> rules.Judged:
    by_id = {r["id"]: r for r in records}
    return next(v for v in judge.judge(by_id, state, NEEDS) if v.id == name)


def test_nothing_done_passes_nothing() -> None:
    every = cases.Scale(1, 60, 5, True, tests=",".join(snia.TESTS)).as_words()
    verdicts = judge.judge({}, {"steady": True, "scale": every}, NEEDS)
    assert not [v.id for v in verdicts if v.status == PASS]
    assert {v.id for v in verdicts} == set(rules.TITLES)
    assert overall(v.status for v in verdicts) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("test", "name"),
    [("read", "READ_NOT_LANDED"), ("write", "WRITE_NOT_FETCHED"), ("segments", "MULTI_SEGMENT_MISADDRESSED"),
     ("load", "FOREIGN_DATA_UNDER_LOAD"), ("size", "SIZE_CAP"), ("close", "CLOSE_HANG"),
     ("liar", "SG_4G_TRUNCATED"), ("invalidate", "INVALIDATE_HANG"), ("check", "DRIVE_CORRUPTED")],
)  # fmt: skip
def test_a_finding_fails_its_requirement_by_name(test: str, name: str) -> None:
    wanted = cases.REQUIREMENT[test]
    good = verdict(wanted, record("check"), record(test))
    assert good.status == PASS
    bad = verdict(wanted, record("check"), record(test, findings=[found(name)]))
    assert (bad.status, bad.names) == (FAIL, [name])
    assert name in bad.text and bad.remedy


def test_an_error_is_inconclusive_and_a_finding_outweighs_it() -> None:
    assert verdict("integrity.read", record("read", error="no memory")).status == INCONCLUSIVE
    both = [record("read", error="x"), record("read", "bvec", findings=[found("READ_NOT_LANDED")])]
    assert verdict("integrity.read", *both).status == FAIL


def test_not_applicable_is_no_pass() -> None:
    assert verdict("faults.liar", record("liar", skip="no testexp")).status == SKIP


def test_what_is_not_installed_is_not_what_does_not_apply() -> None:
    judged = verdict("faults.liar", record("liar", missing="dmabuf_testexp.ko is not loaded"))
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert "dmabuf_testexp.ko is not loaded" in judged.text and judged.remedy
    both = [record("liar", missing="x"), {**record("liar", skip="y"), "id": "other"}]
    assert verdict("faults.liar", *both).status == INCONCLUSIVE


@pytest.mark.parametrize("test", ["read", "write", "segments", "roundtrip", "load", "check"])
def test_a_case_that_compared_nothing_does_not_pass(test: str) -> None:
    idle = record(test, compared_bytes=0)
    both = [record("check"), idle]
    judged = verdict(cases.REQUIREMENT[test], *both)
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert idle["id"] in judged.text and "0 bytes compared" in judged.text
    without = {key: value for key, value in idle.items() if key != "compared_bytes"}
    assert verdict(cases.REQUIREMENT[test], record("check"), without).status == INCONCLUSIVE
    assert verdict("integrity.drive", record("check"), record("lay", compared_bytes=0)).status == PASS
    assert verdict("path.size", record("size", compared_bytes=0)).status == PASS


def test_a_load_has_to_compare_as_much_as_was_asked_for() -> None:
    scale = cases.Scale(4 << 20, 60, 5, True).as_words()
    for bytes_, status in (((4 << 20) - 1, INCONCLUSIVE), (4 << 20, PASS)):
        assert verdict("integrity.load", record("load", compared_bytes=bytes_), scale=scale).status == status


@pytest.mark.parametrize("test", ["close", "liar", "fence", "invalidate", "revoke"])
def test_a_fault_without_a_transfer_was_not_tried(test: str) -> None:
    assert verdict(f"faults.{test}", record(test, transfers=0)).status == INCONCLUSIVE
    assert verdict(f"faults.{test}", record(test, transfers=1)).status == PASS
    assert verdict(f"faults.{test}", record(test, transfers=0, skip="x")).status == SKIP


def test_commands_that_were_not_counted_are_not_few() -> None:
    judged = verdict("path.commands", record("geometry"), mdts=131072)
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and "counted" in judged.text
    assert verdict("path.commands", record("geometry", skip="x"), mdts=131072).status == SKIP


def test_laid_down_and_not_looked_at_is_inconclusive() -> None:
    assert verdict("integrity.drive", record("lay")).status == INCONCLUSIVE
    assert verdict("integrity.drive", record("lay"), record("check")).status == PASS
    bad = record("lay", findings=[found("IO_ERROR")])
    assert verdict("integrity.drive", bad).names == ["IO_ERROR"]


def test_the_control_is_asked_who_is_to_blame() -> None:
    bad = record("read", exporter="heap", findings=[found("READ_NOT_LANDED")])
    assert "control is right" in verdict("integrity.read", bad, record("read")).text
    both = verdict("integrity.read", bad, record("read", findings=[found("READ_NOT_LANDED")]))
    assert "control shows it too" in both.text


def test_a_round_trip_that_agrees_while_a_direction_is_wrong_is_masked() -> None:
    trip = record("roundtrip", facts={"agree": 5, "differ": 0})
    wrong = record("write", findings=[found("WRITE_NOT_FETCHED")])
    assert verdict("integrity.roundtrip", trip, record("write")).status == PASS
    bad = verdict("integrity.roundtrip", trip, wrong)
    assert bad.names == ["ROUNDTRIP_MASKED"]
    honest = record("roundtrip", facts={"agree": 0, "differ": 5})
    assert verdict("integrity.roundtrip", honest, wrong).status == PASS


@pytest.mark.parametrize(
    ("count", "length", "mdts", "status"),
    [(1, 524288, 524288, PASS), (2, 524288, 524288, FAIL), (4, 524288, 524288, FAIL),
     (2, 1048576, 524288, PASS), (3, 1048576, 524288, FAIL), (8, 1048576, 524288, FAIL),
     (2, 524289, 524288, PASS), (1, 524288, None, INCONCLUSIVE),
     # No limit of the drive's own: that of the block layer.
     (8, 1048576, 0, PASS), (9, 1048576, 0, FAIL)],
)  # fmt: skip
def test_more_commands_than_the_drive_asks_for_are_a_split(
    count: int, length: int, mdts: int | None, status: str
) -> None:
    geometry = record("geometry", facts={f"commands_{length}": count, "max_command_bytes": 131072})
    judged = verdict("path.commands", geometry, mdts=mdts)
    assert judged.status == status
    assert ("SEGMENT_SPLIT" in judged.names) == (status == FAIL)


def test_memory_that_moved_or_is_elsewhere_has_migrated() -> None:
    there = record("read", exporter="drm", facts={"memory": "system", "invalidations": 0})
    moved = record("read", exporter="drm", facts={"memory": "system", "invalidations": 2})
    assert verdict("path.placement", there).status == PASS
    assert verdict("path.placement", moved).names == ["VRAM_MIGRATED"]
    needs = {**NEEDS, "memory": "peer"}
    by_id = {there["id"]: there}
    judged = next(v for v in judge.judge(by_id, {}, needs) if v.id == "path.placement")
    assert judged.names == ["VRAM_MIGRATED"]


def test_a_drive_that_does_not_tell_its_limit_is_not_judged_by_it() -> None:
    none = verdict("path.commands", mdts=None)
    assert (none.status, none.text) == (INCONCLUSIVE, "nothing was done for it")
    assert "MDTS" in verdict("path.commands", record("geometry"), mdts=None).text


def test_commands_beyond_what_is_needed_may_be_allowed() -> None:
    facts = {"commands_1048576": 4, "max_command_bytes": 131072}
    geometry = record("geometry", facts=facts)
    for extra, status in ((1, FAIL), (2, PASS)):
        needs = {**NEEDS, "extra_commands": extra}
        judged = judge.judge({geometry["id"]: geometry}, {"mdts": 524288}, needs)
        assert next(v for v in judged if v.id == "path.commands").status == status


def placed(needs: dict[str, Any], *records: Record) -> rules.Judged:
    by_id = {r["id"]: r for r in records}
    return next(v for v in judge.judge(by_id, {}, {**NEEDS, **needs}) if v.id == "path.placement")


def test_memory_may_move_as_often_as_is_allowed_and_no_more() -> None:
    for moves, status in ((0, PASS), (3, PASS), (4, FAIL)):
        moved = record("read", exporter="drm", facts={"memory": "system", "invalidations": moves})
        assert placed({"most_moves": 3}, moved).status == status
    one = record("read", exporter="drm", facts={"memory": "system", "invalidations": 1})
    assert placed({"most_moves": 0}, one).names == ["VRAM_MIGRATED"]


def test_the_control_and_the_copying_one_need_not_be_in_device_memory() -> None:
    control = record("read", facts={"memory": "system", "invalidations": 0})
    device = record("read", exporter="drm", facts={"memory": "peer", "invalidations": 0})
    bounce = record("read", "bounce", exporter="drm", facts={"memory": "system", "invalidations": 9})
    assert placed({"memory": "peer"}, control, device, bounce).status == PASS
    # But it is the control that must not move.
    moving = {**control, "facts": {"memory": "system", "invalidations": 1}}
    assert placed({"memory": "peer"}, moving, device).names == ["VRAM_MIGRATED"]
    # A measurement's report says it, too.
    cell = {**run("premapped", 1.0), "exporter": "drm", "report": {"memory": "system"}}
    assert placed({"memory": "peer"}, cell).names == ["VRAM_MIGRATED"]
    assert placed({"memory": "system"}, cell).status == PASS


def test_the_control_that_is_asked_had_the_same_test_on_the_same_datapath() -> None:
    bad = record("read", exporter="heap", findings=[found("READ_NOT_LANDED")])
    for other in (record("read", "bvec"), record("write")):
        assert "control" not in verdict("integrity.read", bad, other).text
    wrong = record("read", "bvec", findings=[found("READ_NOT_LANDED")])
    assert "control is right" in verdict("integrity.read", bad, wrong, record("read")).text
    # One that could not be done, or has another fault, is not right.
    for doubtful in (record("read", error="x"), record("read", findings=[found("STRAY_WRITE")])):
        text = verdict("integrity.read", bad, doubtful).text
        assert "heap" in text and "control" not in text
    assert "control" not in verdict("integrity.read", record("read", findings=[found("STALE_DATA")])).text


def test_a_round_trip_is_masked_by_its_own_exporter_and_datapath_alone() -> None:
    trip = record("roundtrip", facts={"agree": 5, "differ": 0})
    for other in (record("write", "bvec", findings=[found("WRITE_NOT_FETCHED")]),
                  record("write", exporter="heap", findings=[found("WRITE_NOT_FETCHED")]),
                  record("load", findings=[found("DATA_CORRUPTED")])):  # fmt: skip
        assert verdict("integrity.roundtrip", trip, other).status == PASS
    nothing = record("roundtrip", facts={"agree": 0, "differ": 0})
    assert verdict("integrity.roundtrip", nothing, record("read", findings=[found("STALE_DATA")])).status == PASS
    partly = record("roundtrip", facts={"agree": 5, "differ": 1})
    wrong = record("read", findings=[found("READ_NOT_LANDED")])
    assert verdict("integrity.roundtrip", partly, wrong).status == PASS
    assert verdict("integrity.roundtrip", trip, wrong).names == ["ROUNDTRIP_MASKED"]
    # What is no matter of data masks nothing.
    assert verdict("integrity.roundtrip", trip, record("read", findings=[found("BOUNCED")])).status == PASS


def test_a_required_datapath_that_is_refused_fails_by_the_reason() -> None:
    works = {"works": True, "name": "", "text": "", "facts": {}}
    no = {"works": False, "name": "REFUSED_MAP", "text": "the exporter failed", "facts": {}}
    paths = {"udmabuf": {"premapped": works, "bvec": no}}
    assert verdict("path.accepted", record("read"), paths=paths).status == PASS
    paths["heap"] = {"premapped": no}
    assert verdict("path.accepted", record("read"), paths=paths).names == ["REFUSED_MAP"]


def test_a_probe_that_hung_fails_and_one_that_broke_is_inconclusive() -> None:
    for path in ("premapped", "bvec"):
        for name, status in (("IO_HANG", FAIL), ("PROBE_FAILED", INCONCLUSIVE)):
            bad = {"works": False, "name": name, "text": "the probe did not end", "facts": {}}
            judged = verdict("path.accepted", record("read"), paths={"udmabuf": {"premapped": WORKS, path: bad}})
            assert (judged.status, judged.names) == (status, [name] if status == FAIL else [])
            assert "did not end" in judged.text
    none = {"works": False, "name": "NOT_AVAILABLE", "text": "no such kernel", "facts": {}}
    paths = {"udmabuf": {"premapped": WORKS, "registered": none}}
    assert verdict("path.accepted", record("read"), paths=paths).status == PASS


def test_device_memory_that_was_not_tested_does_not_pass() -> None:
    control = record("read", facts={"memory": "system"})
    device = record("read", exporter="drm", facts={"memory": "peer"})
    untold = record("write", exporter="drm")
    assert placed({"memory": "peer"}, control).status == INCONCLUSIVE
    assert placed({"memory": "peer"}, control, device).status == PASS
    judged = placed({"memory": "peer"}, control, device, untold)
    assert judged.status == INCONCLUSIVE and untold["id"] in judged.text
    # What was not done, or is not asked, has nothing to say.
    assert placed({"memory": "peer"}, device, {**untold, "skip": "x"}).status == PASS
    assert placed({"memory": "peer"}, device, record("roundtrip", exporter="drm")).status == PASS
    assert placed({"memory": "any"}, control, untold).status == PASS
    wrong = record("load", exporter="drm", facts={"memory": "system"})
    assert placed({"memory": "peer"}, wrong, untold).names == ["VRAM_MIGRATED"]


def test_datapaths_of_which_nothing_was_tried_are_not_accepted() -> None:
    paths = {"udmabuf": {"premapped": WORKS}}
    assert verdict("path.accepted", paths=paths).status == INCONCLUSIVE
    assert verdict("path.accepted", record("read"), paths={}).status == INCONCLUSIVE
    assert verdict("path.accepted", record("read"), paths=paths).status == PASS


def test_refusals_are_read_from_messages() -> None:
    text = "the exporter failed to map the memory (MAP, EOPNOTSUPP); try"
    assert (execute.refused(text) or {})["name"] == "REFUSED_MAP"
    assert (execute.refused("no path (MULTIPATH, ENODEV)") or {})["name"] == "MULTIPATH_HEAD"
    assert (execute.refused("no route (NO_P2P_ROUTE, EREMOTEIO)") or {})["name"] == "NO_P2P_ROUTE"
    assert execute.refused("cannot open /dev/x: ENOENT (No such file)") is None


def cell(iops: float, path: str = "premapped") -> dict[str, Any]:
    side = {"total_ios": 100, "iops": iops, "clat_ns": {"mean": 1e6}, "io_bytes": 409600, "bw_bytes": 1}
    none = {"total_ios": 0, "iops": 0.0, "clat_ns": {"mean": 0.0}, "io_bytes": 0}
    line = {"proven": True, "datapath": path, "proof": "p", "issued": {"reads": 100, "writes": 0},
            "retries": 0, "module": {"invalidations": 0}}  # fmt: skip
    return {"job": {"read": side, "write": none, "job_runtime": 60_000}, "line": line}


def names(made: dict[str, Any], path: str = "premapped", moved: int = 409600, rw: str = "randread") -> list[str]:
    case = cases.cell("udmabuf", path, rw, "4k", 32, 1)
    found = execute.check_cell(case, made["job"], made["line"], [moved, 0], NEEDS, 60)
    return [f["name"] for f in found]


def test_a_measurement_is_checked_against_itself() -> None:
    assert names(cell(30000)) == []
    # Little's law: 40 I/Os in flight cannot be at depth 32.
    assert names(cell(40000)) == ["BENCH_ARITHMETIC"]
    made = cell(30000)
    made["line"]["issued"]["reads"] = 99
    assert names(made) == ["BENCH_ARITHMETIC"]
    assert names(cell(30000, "registered"), "registered", moved=4096) == ["BENCH_ARITHMETIC"]
    # Each I/O has its latency, but for those in flight at the end.
    for count, wrong in ((100, []), (68, []), (67, ["BENCH_ARITHMETIC"]), (133, ["BENCH_ARITHMETIC"])):
        made = cell(30000)
        made["job"]["read"]["clat_ns"]["bins"] = {"1000": 60, "2000": count - 60}
        assert names(made) == wrong
    made = cell(30000)
    made["line"]["proven"] = False
    assert names(made) == ["BOUNCED"]
    assert names(cell(30000, "bounce")) == ["BOUNCED"]
    made = cell(30000)
    made["line"]["retries"] = 50
    assert names(made) == ["EAGAIN_STORM"]
    made = cell(30000)
    made["line"]["module"]["invalidations"] = 1
    assert names(made) == ["VRAM_MIGRATED"]


def test_a_measurement_that_did_no_io_is_none() -> None:
    idle = cell(0.0)
    idle["job"]["read"] = dict(idle["job"]["write"])
    idle["line"]["issued"]["reads"] = 0
    assert names(idle, moved=0) == ["NOTHING_DONE"]
    # Reads alone are no mix of reads and writes.
    assert names(cell(30000), rw="randrw") == ["NOTHING_DONE"]
    assert names(cell(30000), rw="write") == ["NOTHING_DONE"]
    assert names(cell(30000), rw="read") == []


@pytest.mark.parametrize(("mix", "wanted"), [("100", []), ("65", ["NOTHING_DONE"]), ("0", ["NOTHING_DONE"]), ("95", [])])
def test_a_mix_needs_both_of_its_directions_unless_few_would_be_one_of_them(mix: str, wanted: list[str]) -> None:
    made = cell(30000)
    case = cases.Case("steady/round-01/x", "pts", "performance.steady", "udmabuf", "premapped",
                      "pts-iops", {"READS": mix, "BS": "4k", "DEPTH": "32"})  # fmt: skip
    found = execute.check_cell(case, made["job"], made["line"], [409600, 0], NEEDS, 60)
    assert [f["name"] for f in found] == wanted


def test_a_measurement_that_ended_early_is_none() -> None:
    made = cell(30000)
    made["job"]["job_runtime"] = 59_400
    assert names(made) == []
    made["job"]["job_runtime"] = 30_000
    assert names(made) == ["ENDED_EARLY"]


def test_preconditioning_that_did_not_write_all_twice_is_none() -> None:
    case = cases.Case("steady/precondition", "precondition", "performance.steady", "udmabuf",
                      "premapped", "precondition", {"DEPTH": "32"})  # fmt: skip
    made = cell(30000)
    made["job"]["read"], made["job"]["write"] = made["job"]["write"], made["job"]["read"]
    made["line"]["issued"] = {"reads": 0, "writes": 100}
    assert execute.check_cell(case, made["job"], made["line"], [0, 409600], NEEDS, 0, 409600) == []
    found = execute.check_cell(case, made["job"], made["line"], [0, 409600], NEEDS, 0, 819200)
    assert [f["name"] for f in found] == ["ENDED_EARLY"]


# What the engine says of a premapped measurement.
PROOF = {"proven": True, "datapath": "premapped", "proof": "the module counted"}


def pts(number: int, iops: dict[str, float]) -> list[Record]:
    """A whole round: the cells that are not given do one I/O a second."""
    iops = {**iops, **{name: 1.0 for name in sorted(snia.IOPS.names(512)) if name not in iops}}
    return [{"id": f"steady/round-{number:02}/{name}", "kind": "pts", "figures": {"read_iops": value},
             "requirement": "performance.steady", "exporter": "udmabuf", "path": "premapped",
             "test": "pts-iops", "part": 1, "started": 0.0, "findings": [], "seconds": 1.0, "runtime_s": 60.0,
             "size": "100%", "report": PROOF} for name, value in iops.items()]  # fmt: skip


DRIVE_BYTES = (1 << 30) + 4096
READY: Record = {"id": "steady/precondition", "kind": "precondition", "findings": [], "seconds": 1.0,
                 "requirement": "performance.steady", "exporter": "udmabuf", "path": "premapped",
                 "test": "precondition", "part": 1, "started": 0.0, "figures": {"write_iops": 1.0}, "runtime_s": 9.0, "size": "100%",
                 "written_bytes": 2 << 30, "report": PROOF}  # fmt: skip


SNIA: dict[str, Any] = {"steady": True, "whole_drive": True, "drive_bytes": DRIVE_BYTES,
                        "scale": cases.Scale(1 << 30, 60, 5, True).as_words()}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [({"scale": {**SNIA["scale"], "cell_seconds": 1}}, "rounds of 1 s"),
     ({"scale": {**SNIA["scale"], "cell_seconds": 59}}, "rounds of 59 s"),
     ({"scale": {**SNIA["scale"], "size": "1g"}}, "1g of the drive"),
     ({"scale": {**SNIA["scale"], "size": "99%"}}, "99% of the drive"),
     ({"whole_drive": False}, "a partition"), ({"scale": None}, "not known")],
)  # fmt: skip
def test_rounds_that_are_not_snias_are_never_a_steady_state(change: dict[str, Any], says: str) -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    steady = [r for n in range(1, 6) for r in pts(n, flat)]
    state = {key: value for key, value in {**SNIA, **change}.items() if value is not None}
    judged = verdict("performance.steady", READY, *steady, **state)
    assert judged.status == INCONCLUSIVE
    assert "not SNIA" in judged.text and says in judged.text
    wild = [r for n in range(1, 26) for r in pts(n, {**flat, "0-4k": 100.0 + 60 * (n % 2)})]
    assert verdict("performance.steady", READY, *wild, **state).status == INCONCLUSIVE


@pytest.mark.parametrize(("change", "says"), [
    ({"runtime_s": 1.0}, "1 s long"), ({"size": "1g"}, "over 1g"), ({"runtime_s": None}, "not known"), ({"size": None}, "not known"),
])  # fmt: skip
def test_what_was_measured_says_whether_it_was_snias_test_whatever_was_asked_for(
    change: dict[str, Any], says: str
) -> None:
    steady = [r for n in range(1, 6) for r in pts(n, {"0-4k": 100.0})]
    assert verdict("performance.steady", READY, *steady, **SNIA).status == PASS
    steady[70] = {key: value for key, value in {**steady[70], **change}.items() if value is not None}
    judged = verdict("performance.steady", READY, *steady, **SNIA)
    assert judged.status == INCONCLUSIVE
    assert says in judged.text and steady[70]["id"] in judged.text


def test_longer_rounds_are_snias() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    steady = [r for n in range(1, 6) for r in pts(n, flat)]
    state = {**SNIA, "scale": {**SNIA["scale"], "cell_seconds": 120}}
    assert verdict("performance.steady", READY, *steady, **state).status == PASS


def test_rounds_count_only_on_a_drive_that_was_prepared() -> None:
    flat = [r for n in range(1, 6) for r in pts(n, {"0-4k": 1.0, "65-64k": 1.0, "100-1m": 1.0})]
    assert verdict("performance.steady", READY, *flat, **SNIA).status == PASS
    assert verdict("performance.steady", *flat, **SNIA).status == INCONCLUSIVE
    for bad in ({**READY, "error": "x"}, {**READY, "findings": [found("BOUNCED")]}):
        assert verdict("performance.steady", bad, *flat, **SNIA).status == INCONCLUSIVE


@pytest.mark.parametrize("cell_name", ["50-8k", "0-4k"])
def test_every_cell_of_the_rounds_is_judged(cell_name: str) -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}

    def steady_with(**change: Any) -> rules.Judged:
        rounds = [r for n in range(1, 6) for r in pts(n, flat)]
        hit = next(r for r in rounds if r["id"] == f"steady/round-03/{cell_name}")
        hit.update(change)
        return verdict("performance.steady", READY, *rounds, **SNIA)

    hung = steady_with(findings=[found("IO_HANG")], figures={})
    assert (hung.status, hung.names) == (FAIL, ["IO_HANG"])
    assert steady_with(findings=[found("BENCH_ARITHMETIC")]).names == ["BENCH_ARITHMETIC"]
    error = steady_with(error="fio ended with status 1: Input/output error", figures={})
    assert (error.status, error.names) == (INCONCLUSIVE, [])
    assert "Input/output error" in error.text
    assert steady_with(figures={}).status == INCONCLUSIVE


def test_a_round_counts_only_with_all_of_its_cells() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    steady = [r for n in range(1, 6) for r in pts(n, flat)]
    tracked = [r for r in steady if r["id"].split("/")[2] in flat]
    assert len(tracked) == 15
    assert verdict("performance.steady", READY, *tracked, **SNIA).status == INCONCLUSIVE
    no_512 = [r for r in steady if not r["id"].endswith("-512")]
    assert verdict("performance.steady", READY, *no_512, **SNIA).status == INCONCLUSIVE
    # A drive with blocks of 4096 bytes cannot do them.
    assert verdict("performance.steady", READY, *no_512, **SNIA, block=4096).status == PASS


def test_a_round_that_is_missing_ends_the_window() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    rounds = [r for n in (1, 2, 4, 5, 6) for r in pts(n, flat)]
    assert len(judge_steady.tracked([READY, *rounds])["0-4k"]) == 2
    assert verdict("performance.steady", READY, *rounds, **SNIA).status == INCONCLUSIVE


def test_the_steady_state_needs_all_tracked_cells_and_never_passes_by_exhaustion() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    steady = [r for n in range(1, 6) for r in pts(n, flat)]
    assert verdict("performance.steady", READY, *steady, **SNIA).status == PASS
    assert verdict("performance.steady", READY, *steady[:-1], **SNIA).status == INCONCLUSIVE
    wild = [r for n in range(1, 26) for r in pts(n, {**flat, "0-4k": 100.0 + 60 * (n % 2)})]
    bad = verdict("performance.steady", READY, *wild, **SNIA)
    assert (bad.status, bad.names) == (FAIL, ["NOT_STEADY"])
    assert verdict("performance.steady", steady=False).status == SKIP


def test_health_and_log_need_to_have_been_looked_at() -> None:
    log = {"lines": [], "complete": True, "newest": 7}
    state = {"health_before": HEALTH, "health_after": HEALTH, "parts": [{"log": log}]}
    assert verdict("drive.health", **state).status == PASS
    for name in ("health_before", "health_after"):
        assert verdict("drive.health", **{**state, name: None}).status == INCONCLUSIVE
    assert verdict("drive.log", **state).status == PASS
    worse = {**state, "health_after": {**HEALTH, "media_errors": 1}}
    assert verdict("drive.health", **worse).names == ["MEDIA_ERRORS"]
    hot = {**state, "health_after": {**HEALTH, "critical": 2}}
    assert verdict("drive.health", **hot).status == INCONCLUSIVE
    bad = {**log, "lines": ["nvme0: I/O timeout"]}
    assert verdict("drive.log", parts=[{"log": bad}]).status == FAIL
    assert verdict("drive.log", record("read", kernel_log=bad), **state).names == ["KERNEL_LOG"]
    assert verdict("drive.log", record("read", kernel_log={**log, "complete": False}), **state).status == INCONCLUSIVE
    assert verdict("drive.log", record("read", kernel_log=None), **state).status == INCONCLUSIVE
    assert verdict("drive.log", parts=[{}, {"log": log}]).status == INCONCLUSIVE


def run(
    path: str, iops: float, cpu: float = 1.0, repeat: int = 1, cell_of: tuple[str, str, int] = ("randread", "4k", 32)
) -> Record:
    exporter = "" if path == "host" else "udmabuf"
    case = cases.cell(exporter, path, *cell_of, repeat)
    return {**record("read"), "id": case.id, "kind": "cell", "exporter": exporter, "path": path,
            "requirement": case.requirement, "params": case.params, "test": case.test,
            "figures": {"read_iops": iops, "cpu_s_per_gib": cpu}, "runtime_s": 60.0,
            "report": {**PROOF, "datapath": path}}  # fmt: skip


def test_ratios_are_not_judged_on_an_emulated_drive() -> None:
    slow = (run("host", 100.0), run("premapped", 80.0))
    assert verdict("performance.ratio", *slow, emulated=True).status == SKIP
    assert verdict("performance.ratio", *slow).names == ["SLOWER"]
    assert verdict("performance.ratio", run("host", 100.0), run("premapped", 95.0)).status == PASS


def test_a_measurement_without_io_gives_no_ratio_and_no_traceback() -> None:
    empty = {**run("premapped", 0.0), "figures": {"map_ms": 1.0}}
    assert verdict("performance.ratio", run("host", 100.0), empty).status == INCONCLUSIVE
    # One repeat of two has figures: the other one is missing, and the median is of one.
    second = run("premapped", 95.0, repeat=2)
    judged = verdict("performance.ratio", run("host", 100.0), empty, second)
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert "perf/udmabuf/premapped/randread-4k-32/1" in judged.text
    no_control = {**run("host", 0.0), "figures": {"map_ms": 1.0}}
    assert verdict("performance.ratio", no_control, run("premapped", 95.0)).status == INCONCLUSIVE
    # A slow datapath is slow, whatever else is missing.
    slow = verdict("performance.ratio", run("host", 100.0), empty, run("premapped", 50.0, repeat=2))
    assert (slow.status, slow.names) == (FAIL, ["SLOWER"])


SCALE = cases.Scale(1 << 30, 60, 1, True).as_words()
WORKS = {"works": True, "name": "", "text": "", "facts": {}}


def test_one_repeat_still_has_every_cell_and_no_ratio_passes_without_its_writes() -> None:
    full = cases.measuring(["udmabuf"], {"udmabuf": ["premapped"]}, cases.Scale(1, 60, 1, True))
    assert {(c.params["RW"], c.params["BS"], int(c.params["DEPTH"])) for c in full} == set(cases.CELLS)
    quick = cases.measuring(["udmabuf"], {"udmabuf": ["premapped"]}, cases.QUICK)
    assert len(quick) == 3 * len(cases.QUICK_CELLS)
    state = {"scale": SCALE, "exporters": ["udmabuf"], "paths": {"udmabuf": {"premapped": WORKS}}}
    reads = [cell_of for cell_of in cases.CELLS if "write" not in cell_of[0] and "rw" not in cell_of[0]]
    done = [run(path, 100.0, cell_of=cell_of) for path in ("host", "bounce", "premapped") for cell_of in cases.CELLS]
    only_reads = [run(path, 100.0, cell_of=cell_of) for path in ("host", "bounce", "premapped") for cell_of in reads]
    assert verdict("performance.ratio", *done, **state).status == INCONCLUSIVE
    five = [run(path, 100.0, cell_of=cell_of, repeat=n) for path in ("host", "bounce", "premapped")
            for cell_of in cases.CELLS for n in range(1, 6)]  # fmt: skip
    assert verdict("performance.ratio", *five, **{**state, "scale": {**SCALE, "repeats": 5}}).status == PASS
    assert verdict("performance.ratio", *only_reads, **state).status == INCONCLUSIVE
    assert verdict("performance.paths", *done, **state).status == PASS
    partly = verdict("performance.paths", *only_reads, **state)
    assert partly.status == INCONCLUSIVE and "were not done" in partly.text


@pytest.mark.parametrize(("change", "quick", "status"), [
    ({"repeats": 5, "cell_seconds": 60}, False, FAIL), ({"repeats": 4, "cell_seconds": 60}, False, INCONCLUSIVE),
    ({"repeats": 5, "cell_seconds": 59}, False, INCONCLUSIVE), (cases.QUICK.as_words(), True, SKIP),
])  # fmt: skip
def test_few_or_short_repeats_make_no_drive_slower(change: dict[str, int], quick: bool, status: str) -> None:
    state = {"scale": {**SCALE, **change}, "quick": quick}
    slow = [run(path, iops, repeat=n, cell_of=cell_of) for path, iops in (("host", 100.0), ("premapped", 89.0))
            for n in range(1, 6) for cell_of in (*cases.CELLS, *cases.QUICK_CELLS)]  # fmt: skip
    judged = verdict("performance.ratio", *slow, **state)
    assert (judged.status, judged.names) == (status, ["SLOWER"] if status == FAIL else [])
    if status == FAIL:
        for short in (1.0, 56.9):
            slow[3]["runtime_s"] = short
            assert verdict("performance.ratio", *slow, **state).status == INCONCLUSIVE
        slow[3]["runtime_s"] = 57.0
        assert verdict("performance.ratio", *slow, **state).status == FAIL
        del slow[3]["runtime_s"]
        assert verdict("performance.ratio", *slow, **state).status == INCONCLUSIVE


def test_a_figure_that_is_no_number_is_within_no_limit() -> None:
    for iops, cpu in ((float("nan"), 1.0), (100.0, float("nan"))):
        bad = {**run("premapped", 100.0), "figures": {"read_iops": iops, "write_iops": 1.0, "cpu_s_per_gib": cpu}}
        assert verdict("performance.ratio", run("host", 100.0), bad).status != PASS


@pytest.mark.parametrize("name", ["media_errors", "unsafe_shutdowns", "num_err_log_entries"])
def test_a_counter_that_fell_or_is_missing_is_inconclusive(name: str) -> None:
    judged = health({name: 9}, {name: 0})
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and name in judged.text
    without = {key: value for key, value in HEALTH.items() if key != name}
    for before, after in ((without, without), (HEALTH, without), (without, HEALTH)):
        judged = verdict("drive.health", health_before=before, health_after=after)
        assert judged.status == INCONCLUSIVE and name in judged.text


def test_a_requirement_of_which_a_part_was_done_does_not_pass() -> None:
    state = {"scale": SCALE, "exporters": ["udmabuf"],
             "paths": {"udmabuf": {"premapped": WORKS, "bvec": WORKS}}}  # fmt: skip
    one = verdict("integrity.read", record("read"), **state)
    assert (one.status, one.names) == (INCONCLUSIVE, [])
    assert "1 of 2 cases were not done: integrity/udmabuf/bvec/read" in one.text
    assert verdict("integrity.read", record("read"), record("read", "bvec"), **state).status == PASS
    bad = record("read", findings=[found("READ_NOT_LANDED")])
    assert verdict("integrity.read", bad, **state).status == FAIL
    assert verdict("integrity.drive", record("lay"), **state).status == INCONCLUSIVE
    assert verdict("integrity.drive", record("lay"), record("check"), **state).status == PASS


def health(before: dict[str, int], after: dict[str, int]) -> rules.Judged:
    return verdict("drive.health", health_before={**HEALTH, **before}, health_after={**HEALTH, **after})


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [({}, {"critical": 4}, "CRITICAL_WARNING"), ({"critical": 8}, {}, "CRITICAL_WARNING"),
     ({"critical": 6}, {"critical": 2}, "CRITICAL_WARNING"),
     ({"used_percent": 91}, {"used_percent": 91}, "WORN"),
     ({"media_errors": 3}, {"media_errors": 4}, "MEDIA_ERRORS"),
     ({}, {"spare_percent": 9}, "SPARE_LOW"), ({"spare_percent": 9}, {"spare_percent": 9}, "SPARE_LOW")],
)  # fmt: skip
def test_what_is_wrong_with_a_drive_has_its_name(
    before: dict[str, int], after: dict[str, int], name: str
) -> None:
    judged = health(before, after)
    assert (judged.status, judged.names) == (FAIL, [name])
    assert name in judged.text and judged.remedy


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [({"critical": 2}, {}, "too hot"), ({}, {"warning_temp_time": 1}, "too hot"),
     ({}, {"critical_comp_time": 1}, "too hot"), ({}, {"thm_temp1_trans_count": 1}, "throttled"),
     ({}, {"thm_temp2_trans_count": 1}, "throttled"), ({}, {"unsafe_shutdowns": 1}, "lost power"),
     ({}, {"num_err_log_entries": 2}, "2 errors")],
)  # fmt: skip
def test_what_makes_a_drives_figures_doubtful_is_inconclusive(
    before: dict[str, int], after: dict[str, int], says: str
) -> None:
    judged = health(before, after)
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert says in judged.text and judged.remedy


def test_what_was_there_before_the_run_is_not_the_runs() -> None:
    old = {"media_errors": 5, "unsafe_shutdowns": 9, "warning_temp_time": 7, "thm_temp1_trans_count": 3,
           "num_err_log_entries": 100, "used_percent": 90, "spare_percent": 10}  # fmt: skip
    assert health(old, old).status == PASS


def check(name: str, level: str) -> dict[str, str]:
    return {"name": name, "level": level, "text": "a text", "remedy": "a remedy"}


def test_what_preflight_found_is_judged() -> None:
    good = {"preflight": [check("link", "ok"), check("emulated", "warn")]}
    assert verdict("machine.ready", parts=[good]).status == PASS
    assert verdict("machine.ready").status == INCONCLUSIVE
    assert verdict("machine.ready", parts=[good, {}]).status == INCONCLUSIVE
    slow = {"preflight": [check("LINK_DOWNTRAINED", "warn")]}
    judged = verdict("machine.ready", parts=[good, slow])
    assert judged.status == INCONCLUSIVE and "LINK_DOWNTRAINED" in judged.text
    bounced = {"preflight": [check("LINK_DOWNTRAINED", "warn"), check("BOUNCED", "stop")]}
    judged = verdict("machine.ready", parts=[bounced, good])
    assert (judged.status, judged.names) == (FAIL, ["BOUNCED"])
    # One name may stand for several things.
    both = {"preflight": [check("exporter", "stop"), check("exporter", "ok")]}
    assert verdict("machine.ready", parts=[both]).names == ["exporter"]


@pytest.mark.parametrize(
    ("iops", "cpu", "names"),
    [(90.0, 1.2, []), (89.9, 1.0, ["SLOWER"]), (100.0, 1.21, ["SLOWER"]), (100.0, 1.2, []), (200.0, 0.1, [])],
)
def test_a_datapath_may_be_as_slow_and_as_dear_as_is_allowed(iops: float, cpu: float, names: list[str]) -> None:
    judged = verdict("performance.ratio", run("host", 100.0), run("premapped", iops, cpu))
    assert judged.names == names
    assert judged.status == (FAIL if names else PASS)


def test_a_ratio_is_of_medians_and_of_the_same_cell() -> None:
    host = [run("host", iops, repeat=n) for n, iops in enumerate((10.0, 100.0, 100.0), 1)]
    path = [run("premapped", iops, repeat=n) for n, iops in enumerate((95.0, 95.0, 1.0), 1)]
    assert verdict("performance.ratio", *host, *path).status == PASS
    other = run("host", 1000.0, cell_of=("randread", "4k", 1))
    assert verdict("performance.ratio", *host, *path, other).status == PASS
    # bounce and host are the controls, and are not judged.
    assert verdict("performance.ratio", *host, *path, run("bounce", 1.0)).status == PASS
    assert verdict("performance.ratio", run("host", 1.0), run("bounce", 1.0)).status == INCONCLUSIVE


def test_a_measurement_in_which_something_was_found_gives_no_ratio() -> None:
    wrong = {**run("premapped", 200.0), "findings": [found("BENCH_ARITHMETIC")]}
    assert verdict("performance.ratio", run("host", 100.0), wrong).status == INCONCLUSIVE
    assert verdict("performance.paths", run("host", 100.0), wrong).names == ["BENCH_ARITHMETIC"]
    # Found under another requirement, and therefore not twice.
    for name, where in (("BOUNCED", "path.proven"), ("VRAM_MIGRATED", "path.placement")):
        moved = {**run("premapped", 200.0), "findings": [found(name)], "report": {"memory": "system"}}
        assert verdict("performance.paths", moved).status == PASS
        assert verdict(where, moved).names == [name]


def test_the_sums_are_checked_at_their_limits() -> None:
    # Little's law with a tenth of slack, reissues of one in a hundred.
    assert names(cell(35_200)) == []
    assert names(cell(35_300)) == ["BENCH_ARITHMETIC"]
    made = cell(30_000)
    made["line"]["retries"] = 1
    assert names(made) == []
    made["line"]["retries"] = 2
    assert names(made) == ["EAGAIN_STORM"]
    # The block layer sees what does not pass the module, of both directions.
    assert names(cell(30_000, "registered"), "registered", moved=409600) == []
    assert names(cell(30_000, "registered"), "registered", moved=409599) == ["BENCH_ARITHMETIC"]
    made = cell(30_000)
    made["line"]["issued"]["writes"] = 1
    assert names(made) == ["BENCH_ARITHMETIC"]


def test_the_rounds_end_with_the_first_that_is_not_whole() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}
    rounds = [r for n in range(1, 6) for r in pts(n, flat)]
    assert len(judge_steady.tracked([READY, *rounds])["0-4k"]) == 5
    del rounds[len(snia.IOPS.names(512))]
    assert len(judge_steady.tracked([READY, *rounds])["0-4k"]) == 1
    # Reads and writes of a mix count together.
    both = pts(1, flat)
    both[0]["figures"] = {"read_iops": 30.0, "write_iops": 12.0}
    assert judge_steady.tracked([READY, *both])["0-4k"] == [42.0]


def test_25_rounds_without_a_steady_state_are_the_last() -> None:
    flat = {"0-4k": 100.0, "65-64k": 50.0, "100-1m": 10.0}

    def wild(count: int) -> list[Record]:
        return [r for n in range(1, count + 1) for r in pts(n, {**flat, "65-64k": 100.0 + 60 * (n % 2)})]

    early = verdict("performance.steady", READY, *wild(24), **SNIA)
    assert (early.status, early.names) == (INCONCLUSIVE, [])
    assert not judge_steady.settled([READY, *wild(24)])
    assert verdict("performance.steady", READY, *wild(25), **SNIA).names == ["NOT_STEADY"]
    assert judge_steady.settled([READY, *wild(25)])
    assert judge_steady.settled([READY, *(r for n in range(1, 6) for r in pts(n, flat))])
    assert not judge_steady.settled([READY, *(r for n in range(1, 5) for r in pts(n, flat))])
    assert not judge_steady.settled([])


def test_a_ratio_is_of_one_to_the_other_and_of_the_middle_one() -> None:
    def costs(path: str, *cpu: float) -> list[Record]:
        return [run(path, 100.0, value, repeat=n) for n, value in enumerate(cpu, 1)]

    # The same cost, whatever its unit, and the median: neither the best nor the worst decides.
    assert verdict("performance.ratio", *costs("host", 4.0), *costs("premapped", 4.0)).status == PASS
    assert verdict("performance.ratio", *costs("host", 0.1), *costs("premapped", 0.5)).names == ["SLOWER"]
    middle = verdict("performance.ratio", *costs("host", 1.0, 1.0, 9.0), *costs("premapped", 0.1, 2.0, 2.0))
    assert middle.names == ["SLOWER"]
    assert verdict("performance.ratio", *costs("host", 1.0, 1.0, 1.0), *costs("premapped", 1.0, 1.0, 9.0)).status == PASS


def test_a_ratio_needs_both_of_its_figures() -> None:
    without = run("premapped", 100.0)
    del without["figures"]["cpu_s_per_gib"]
    assert verdict("performance.ratio", run("host", 100.0), without).status == PASS
    control = run("host", 100.0, 0.0)
    assert verdict("performance.ratio", control, run("premapped", 100.0, 5.0)).status == PASS
    # Rounds of the steady state are no part of the comparison.
    rounds = [READY, *pts(1, {"0-4k": 1.0})]
    assert verdict("performance.ratio", *rounds, run("host", 100.0), run("premapped", 100.0)).status == PASS
    lost = {**run("bounce", 0.0), "figures": {}}
    assert verdict("performance.ratio", lost, run("host", 100.0), run("premapped", 100.0)).status == PASS


def test_no_measurement_proves_no_datapath() -> None:
    assert verdict("path.proven", record("read")).status == INCONCLUSIVE
    assert verdict("path.proven", record("read", findings=[found("STALE_DATA")])).status == INCONCLUSIVE
    assert verdict("path.proven", record("read", findings=[found("BOUNCED")])).names == ["BOUNCED"]


def test_the_first_of_the_datapaths_that_are_required_is_named() -> None:
    no = {"works": False, "name": "REFUSED_MAP", "text": "not required", "facts": {}}
    paths = {"udmabuf": {"bvec": no, "premapped": {**no, "name": "REFUSED_ATTACH", "text": "required"}}}
    judged = verdict("path.accepted", record("read"), paths=paths)
    assert judged.names == ["REFUSED_ATTACH"] and judged.text == "REFUSED_ATTACH: required"


def test_what_is_said_counts_what_it_says() -> None:
    two = [record("read", findings=[found("STALE_DATA")]), record("read", "bvec", findings=[found("STALE_DATA")])]
    assert "(and 1 more)" in verdict("integrity.read", *two).text
    assert "more)" not in verdict("integrity.read", two[0]).text
    assert "2 MiB compared in 2 cases" in verdict("integrity.read", record("read"), record("read", "bvec")).text
    there = record("read", exporter="drm", facts={"memory": "peer", "invalidations": 0})
    assert "peer memory by its addresses in 1 cases" in verdict("path.placement", there).text
    measured = {**run("premapped", 1.0), "report": {"memory": "system"}}
    assert "system memory" in verdict("path.placement", measured).text
    geometry = record("geometry", facts={"commands_524288": 1, "max_command_bytes": 131072, "other": 99})
    assert "limit of 512 KiB" in verdict("path.commands", geometry, mdts=524288).text


def after(test: str, path: str = "premapped", exporter: str = "udmabuf", **more: Any) -> Record:
    case = cases.integrity_after(test, "" if test in ("lay", "check") else exporter,
                                 "" if test in ("lay", "check") else path)  # fmt: skip
    return {**record(test, path, exporter), "id": case.id, "requirement": case.requirement, **more}


def test_what_goes_wrong_after_the_load_has_a_requirement_of_its_own() -> None:
    good = [record("check"), record("read"), record("roundtrip", facts={"agree": 5, "differ": 0}),
            after("lay", compared_bytes=0), after("read"), after("check")]  # fmt: skip
    assert verdict("integrity.after", *good, steady=True).status == PASS
    bad = [*good[:4], after("read", findings=[found("READ_NOT_LANDED")]), after("check")]
    judged = verdict("integrity.after", *bad, steady=True)
    assert (judged.status, judged.names) == (FAIL, ["READ_NOT_LANDED"])
    # What was right before stays right.
    for name in ("integrity.read", "integrity.drive", "integrity.roundtrip"):
        assert verdict(name, *bad, steady=True).status == PASS, name
    lost = [*good[:5], after("check", findings=[found("DRIVE_CORRUPTED")])]
    assert verdict("integrity.after", *lost, steady=True).names == ["DRIVE_CORRUPTED"]
    assert verdict("integrity.drive", *lost, steady=True).status == PASS


def test_the_control_after_the_load_says_whose_fault_is_after_the_load() -> None:
    bad = after("read", exporter="heap", findings=[found("READ_NOT_LANDED")])
    early = record("read", findings=[found("READ_NOT_LANDED")])
    assert "control is right" in verdict("integrity.after", bad, after("read"), early, steady=True).text


def test_nothing_after_the_load_passes_nothing_and_a_quick_run_has_none() -> None:
    assert verdict("integrity.after", record("read"), steady=True).status == INCONCLUSIVE
    assert verdict("integrity.after", record("read"), steady=False).status == SKIP
    state = {"steady": True, "scale": SCALE, "paths": {"udmabuf": {"premapped": WORKS}}}
    left = [after("lay", compared_bytes=0), after("read"), after("check")]
    assert "were not done" in verdict("integrity.after", *left, **state).text
    assert verdict("integrity.after", after("read", compared_bytes=0), steady=True).status == INCONCLUSIVE


def test_spare_that_was_used_during_the_run_is_doubtful() -> None:
    judged = health({"spare_percent": 100}, {"spare_percent": 99})
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and "100 % to 99 %" in judged.text and judged.remedy
    assert health({"spare_percent": 99}, {"spare_percent": 99}).status == PASS


def test_what_the_drive_said_between_two_cases_counts_although_it_is_over() -> None:
    def between(critical: int, temperature: int) -> rules.Judged:
        hot = {**record("read"), "health": {"critical": critical, "temperature_c": temperature}}
        return verdict("drive.health", record("write"), hot, health_before=HEALTH, health_after=HEALTH)

    fine = between(0, 71)
    assert fine.status == PASS and ("hottest", "71", "°C") in fine.evidence
    judged = between(2, 90)
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and "too hot" in judged.text
    assert "integrity/udmabuf/premapped/read" in judged.text
    judged = between(4, 40)
    assert (judged.status, judged.names) == (FAIL, ["CRITICAL_WARNING"])
    assert "integrity/udmabuf/premapped/read" in judged.text


@pytest.mark.parametrize("report", [None, {}, {**PROOF, "proven": False}, {**PROOF, "proven": "yes"},
                                    {**PROOF, "datapath": "bounce"}])  # fmt: skip
@pytest.mark.parametrize("kind", ["cell", "round", "precondition"])
def test_a_measurement_without_its_proof_is_not_proven(kind: str, report: Any) -> None:
    whole = [run("premapped", 1.0), READY, *pts(1, {"0-4k": 1.0})]
    assert verdict("path.proven", *whole).status == PASS
    at = ("cell", "precondition", "round").index(kind)
    whole[at] = {**whole[at], "report": report}
    judged = verdict("path.proven", *whole)
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and whole[at]["id"] in judged.text
    # What was found stands, and what could not be done has no proof to show.
    assert verdict("path.proven", *whole, {**run("bvec", 1.0), "findings": [found("BOUNCED")]}).names == ["BOUNCED"]


@pytest.mark.parametrize("change", [
    {"figures": None}, {"figures": {}}, {"written_bytes": None}, {"size": None}, {"runtime_s": None}, {"runtime_s": 0.0},
    {"size": "99%"}, {"written_bytes": (2 << 30) - 1}])  # fmt: skip
def test_preconditioning_says_itself_that_it_was_done(change: dict[str, Any]) -> None:
    steady = [r for n in range(1, 6) for r in pts(n, {"0-4k": 100.0})]
    assert verdict("performance.steady", READY, *steady, **SNIA).status == PASS
    ready = {key: value for key, value in {**READY, **change}.items() if value is not None}
    judged = verdict("performance.steady", ready, *steady, **SNIA)
    assert judged.status == INCONCLUSIVE and READY["id"] in judged.text
    small = {key: value for key, value in SNIA.items() if key != "drive_bytes"}
    assert verdict("performance.steady", READY, *steady, **small).status == INCONCLUSIVE


@pytest.mark.parametrize("name", ["performance.steady", "integrity.after"])
def test_what_was_asked_for_says_whether_a_steady_state_was(name: str) -> None:
    for told in ({}, {"steady": False}):
        assert verdict(name, **told, scale=SNIA["scale"]).status == INCONCLUSIVE
    quick = cases.QUICK.as_words()
    assert verdict(name, steady=True, scale=quick, quick=True).status == SKIP
    # Only a quick run goes without.
    assert verdict(name, scale=quick, quick=False).status == INCONCLUSIVE


def test_a_size_that_was_not_used_and_a_measurement_without_figures_did_nothing() -> None:
    good = record("size")
    assert verdict("path.size", good).status == PASS
    for bad in ({**good, "transfers": 0}, {key: value for key, value in good.items() if key != "transfers"}):
        assert verdict("path.size", bad).status == INCONCLUSIVE
    bounce = run("bounce", 1.0)
    assert verdict("performance.paths", bounce).status == PASS
    for figures in ({}, {"read_iops": 0.0}):
        assert verdict("performance.paths", {**bounce, "figures": figures}).status == INCONCLUSIVE


def timed(records: list[Record], pause_at: str = "", pause_s: float = 0.0, **longer: float) -> list[Record]:
    """One after the other by the clock, but for a pause before one of them; or one that lasted longer."""
    made, clock = [], 1e9
    for one in records:
        clock += pause_s if one["id"] == pause_at else 0.0
        seconds = one["runtime_s"] + 2.0 + longer.get("seconds", 0.0) * (one["id"] == pause_at)
        made.append({**one, "started": clock, "seconds": seconds})
        clock += seconds + 1.0
    return made


@pytest.mark.parametrize("at", ["steady/round-01/0-128k", "steady/round-05/100-1m", "steady/round-03/0-4k"])
def test_a_pause_ends_the_window_as_an_interruption_does(at: str) -> None:
    whole = [READY, *(r for n in range(1, 6) for r in pts(n, {"0-4k": 100.0}))]
    assert verdict("performance.steady", *timed(whole, at, 60.0), **SNIA).status == PASS
    # The machine slept: its clock went on, and that of the case did not.
    slept = verdict("performance.steady", *timed(whole, at, 12 * 3600.0), **SNIA)
    # The program was stopped and went on (Ctrl-Z) while a case was at work.
    stopped = verdict("performance.steady", *timed(whole, at, seconds=12 * 3600.0), **SNIA)
    for judged in (slept, stopped):
        assert judged.status == INCONCLUSIVE
        assert "pause" in judged.text and at in judged.text and "12.0 h" in judged.text, judged.text


def test_a_pause_after_the_steady_state_changes_nothing() -> None:
    whole = [READY, *(r for n in range(1, 7) for r in pts(n, {"0-4k": 100.0}))]
    assert verdict("performance.steady", *timed(whole, "steady/round-06/0-4k", 9999.0), **SNIA).status == PASS
