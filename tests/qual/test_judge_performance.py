# SPDX-License-Identifier: GPL-2.0-only
"""A measurement has to prove itself, and a ratio both of its figures."""

from typing import Any

import pytest
from judged import NEEDS, PROOF, READY, SCALE, WORKS, cell, found, names, pts, record, run, verdict

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from dmabuf_qual import cases, execute
from dmabuf_qual.store import Record


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
                      "pts-iops", {"READS": mix, "BS": "4k", "DEPTH": "32"})
    found = execute.check_cell(case, made["job"], made["line"], [409600, 0], NEEDS, 60)
    assert [f["name"] for f in found] == wanted


def test_a_measurement_that_ended_early_is_none() -> None:
    made = cell(30000)
    made["job"]["job_runtime"] = 59_400
    assert names(made) == []
    made["job"]["job_runtime"] = 30_000
    assert names(made) == ["ENDED_EARLY"]


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
            for cell_of in cases.CELLS for n in range(1, 6)]
    assert verdict("performance.ratio", *five, **{**state, "scale": {**SCALE, "repeats": 5}}).status == PASS
    assert verdict("performance.ratio", *only_reads, **state).status == INCONCLUSIVE
    assert verdict("performance.paths", *done, **state).status == PASS
    partly = verdict("performance.paths", *only_reads, **state)
    assert partly.status == INCONCLUSIVE and "were not done" in partly.text


@pytest.mark.parametrize(("change", "quick", "status"), [
    ({"repeats": 5, "cell_seconds": 60}, False, FAIL), ({"repeats": 4, "cell_seconds": 60}, False, INCONCLUSIVE),
    ({"repeats": 5, "cell_seconds": 59}, False, INCONCLUSIVE), (cases.QUICK.as_words(), True, SKIP),
])
def test_few_or_short_repeats_make_no_drive_slower(change: dict[str, int], quick: bool, status: str) -> None:
    state = {"scale": {**SCALE, **change}, "quick": quick}
    slow = [run(path, iops, repeat=n, cell_of=cell_of) for path, iops in (("host", 100.0), ("premapped", 89.0))
            for n in range(1, 6) for cell_of in (*cases.CELLS, *cases.QUICK_CELLS)]
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


@pytest.mark.parametrize("report", [None, {}, {**PROOF, "proven": False}, {**PROOF, "proven": "yes"},
                                    {**PROOF, "datapath": "bounce"}])
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
