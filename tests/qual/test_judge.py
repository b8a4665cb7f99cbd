# SPDX-License-Identifier: GPL-2.0-only
"""A requirement passes only when it was seen to hold; each failure keeps its name."""

from typing import Any

import pytest
from judged import NEEDS, SCALE, WORKS, found, record, run, verdict

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP, overall
from dmabuf_qual import cases, execute, judge, rules, snia
from dmabuf_qual.store import Record


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
)
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
)
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
                  record("load", findings=[found("DATA_CORRUPTED")])):
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


def test_a_requirement_of_which_a_part_was_done_does_not_pass() -> None:
    state = {"scale": SCALE, "exporters": ["udmabuf"],
             "paths": {"udmabuf": {"premapped": WORKS, "bvec": WORKS}}}
    one = verdict("integrity.read", record("read"), **state)
    assert (one.status, one.names) == (INCONCLUSIVE, [])
    assert "1 of 2 cases were not done: integrity/udmabuf/bvec/read" in one.text
    assert verdict("integrity.read", record("read"), record("read", "bvec"), **state).status == PASS
    bad = record("read", findings=[found("READ_NOT_LANDED")])
    assert verdict("integrity.read", bad, **state).status == FAIL
    assert verdict("integrity.drive", record("lay"), **state).status == INCONCLUSIVE
    assert verdict("integrity.drive", record("lay"), record("check"), **state).status == PASS


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
                                 "" if test in ("lay", "check") else path)
    return {**record(test, path, exporter), "id": case.id, "requirement": case.requirement, **more}


def test_what_goes_wrong_after_the_load_has_a_requirement_of_its_own() -> None:
    good = [record("check"), record("read"), record("roundtrip", facts={"agree": 5, "differ": 0}),
            after("lay", compared_bytes=0), after("read"), after("check")]
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


def test_a_size_that_was_not_used_and_a_measurement_without_figures_did_nothing() -> None:
    good = record("size")
    assert verdict("path.size", good).status == PASS
    for bad in ({**good, "transfers": 0}, {key: value for key, value in good.items() if key != "transfers"}):
        assert verdict("path.size", bad).status == INCONCLUSIVE
    bounce = run("bounce", 1.0)
    assert verdict("performance.paths", bounce).status == PASS
    for figures in ({}, {"read_iops": 0.0}):
        assert verdict("performance.paths", {**bounce, "figures": figures}).status == INCONCLUSIVE
