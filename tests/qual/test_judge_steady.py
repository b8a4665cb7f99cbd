# SPDX-License-Identifier: GPL-2.0-only
"""A steady state counts only as SNIA's test reaches it: prepared, in whole rounds, without a pause."""

from typing import Any

import pytest
from judged import NEEDS, READY, cell, found, names, pts, verdict

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from dmabuf_qual import cases, execute, judge_steady, rules, snia
from dmabuf_qual.store import Record


def test_preconditioning_that_did_not_write_all_twice_is_none() -> None:
    case = cases.Case("steady/precondition", "precondition", "performance.steady", "udmabuf",
                      "premapped", "precondition", {"DEPTH": "32"})
    made = cell(30000)
    made["job"]["read"], made["job"]["write"] = made["job"]["write"], made["job"]["read"]
    made["line"]["issued"] = {"reads": 0, "writes": 100}
    assert execute.check_cell(case, made["job"], made["line"], [0, 409600], NEEDS, 0, 409600) == []
    found = execute.check_cell(case, made["job"], made["line"], [0, 409600], NEEDS, 0, 819200)
    assert [f["name"] for f in found] == ["ENDED_EARLY"]


DRIVE_BYTES = (1 << 30) + 4096
SNIA: dict[str, Any] = {"steady": True, "whole_drive": True, "drive_bytes": DRIVE_BYTES,
                        "scale": cases.Scale(1 << 30, 60, 5, True).as_words()}


@pytest.mark.parametrize(
    ("change", "says"),
    [({"scale": {**SNIA["scale"], "cell_seconds": 1}}, "rounds of 1 s"),
     ({"scale": {**SNIA["scale"], "cell_seconds": 59}}, "rounds of 59 s"),
     ({"scale": {**SNIA["scale"], "size": "1g"}}, "1g of the drive"),
     ({"scale": {**SNIA["scale"], "size": "99%"}}, "99% of the drive"),
     ({"whole_drive": False}, "a partition"), ({"scale": None}, "not known")],
)
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
])
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


@pytest.mark.parametrize("change", [
    {"figures": None}, {"figures": {}}, {"written_bytes": None}, {"size": None}, {"runtime_s": None}, {"runtime_s": 0.0},
    {"size": "99%"}, {"written_bytes": (2 << 30) - 1}])
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
