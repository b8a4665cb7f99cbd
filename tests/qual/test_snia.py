# SPDX-License-Identifier: GPL-2.0-only
"""SNIA's tests: each has its own cells, its own preconditioning and its own rule of the steady state."""

from typing import Any

import pytest
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from dmabuf_qual import cases, cli, judge, judge_steady, requirements, rules, snia
from dmabuf_qual.errors import QualError
from dmabuf_qual.store import CELL_ID, PTS_ID, Record

NEEDS = requirements.load(None)
ALL = "iops,throughput,latency,saturation"


def state(tests: str = ALL, **scale: Any) -> dict[str, Any]:
    words = {**cases.Scale(1 << 30, 60, 5, True, tests=tests).as_words(), **scale}
    return {"steady": True, "whole_drive": True, "scale": words, "drive_bytes": 1 << 20}


def window(rounds: snia.Rounds, count: int, figures: Any = None) -> list[Record]:
    """Preconditioning and so many whole rounds; `figures`: of a cell, by name and round."""
    made = [rounds.precondition()] if rounds.prepares else []
    for number in range(1, count + 1):
        made += rounds.cells(512, number)
    flat = {"read_iops": 50.0, "write_iops": 50.0, "read_mib_s": 9.0, "write_mib_s": 9.0, "read_mean_us": 20.0,
            "write_mean_us": 20.0}
    times = {"precondition": 2, "pts": 1}
    return [{"id": case.id, "kind": case.kind, "requirement": case.requirement, "exporter": case.exporter,
             "path": case.path, "test": case.test, "params": case.params, "started": 0.0, "seconds": 60.0,
             "findings": [], "part": 1, "runtime_s": 60.0, "size": "100%",
             "written_bytes": times[case.kind] << 20,
             "figures": {**flat, **(figures(case.id) if figures else {})}} for case in made]


def verdicts(records: list[Record], of: dict[str, Any]) -> dict[str, rules.Judged]:
    return {v.id: v for v in judge.judge({r["id"]: r for r in records}, of, NEEDS)}


def everything() -> list[Record]:
    counts = {snia.SATURATION: 4}
    return [r for rounds in snia.ALL for r in window(rounds, counts.get(rounds, 5))]


def test_the_matrix_of_each_test_is_the_specifications() -> None:
    assert len(snia.IOPS.cells(512, 1)) == 56 and len(snia.IOPS.cells(4096, 1)) == 49
    assert [c.id for c in snia.of_tests("throughput")[0].cells(512, 2)] == [
        "throughput-128k/round-02/100-128k", "throughput-128k/round-02/0-128k"]
    assert {rounds.sizes for rounds in snia.of_tests("throughput")} == {("128k",), ("1m",)}
    latency = snia.of_tests("latency")[0].cells(512, 1)
    assert {(c.params["READS"], c.params["BS"]) for c in latency} == {
        (mix, size) for mix in ("100", "65", "0") for size in ("8k", "4k", "512")}
    assert all(c.test == "pts-latency" and c.params["DEPTH"] == "1" for c in latency)
    saturation = snia.of_tests("saturation")[0].cells(512, 1)
    assert [(c.params["READS"], c.params["BS"]) for c in saturation] == [("0", "4k")]
    sequential = snia.of_tests("throughput")[1].cells(512, 1)
    assert [c.params["RW"] for c in sequential] == ["read", "write"]
    assert all(c.test == "pts-throughput" for c in sequential)


def test_names_of_all_tests_are_names_of_rounds() -> None:
    for rounds in snia.ALL:
        for case in rounds.cells(512, 12):
            assert PTS_ID.fullmatch(case.id) and not CELL_ID.fullmatch(case.id)
            assert rounds.mine(case.id) and [one for one in snia.ALL if one.mine(case.id)] == [rounds]
    assert len({rounds.prefix for rounds in snia.ALL}) == len(snia.ALL)


def test_saturation_begins_on_the_drive_as_it_was_given() -> None:
    assert [rounds.test for rounds in snia.of_tests(ALL)] == [
        "saturation", "iops", "throughput", "throughput", "latency"]
    assert not snia.SATURATION.prepares and snia.IOPS.prepares


@pytest.mark.parametrize("words", ["", "iops,wear", "IOPS"])
def test_a_test_that_there_is_not_is_refused(words: str) -> None:
    with pytest.raises(QualError, match="--tests"):
        cli.tests_of(words)


def test_tests_are_a_set() -> None:
    assert cli.tests_of("latency,iops,iops") == "iops,latency"


def test_all_tests_that_were_asked_for_are_judged_and_no_other() -> None:
    found = verdicts(everything(), state())
    for name in ("steady", "throughput", "latency", "saturation"):
        assert found[f"performance.{name}"].status == PASS, found[f"performance.{name}"]
    alone = verdicts(window(snia.IOPS, 5), state("iops"))
    assert "performance.latency" not in alone and alone["performance.steady"].status == PASS
    # What was not done passes nothing, and without the IOPS test the drive is not qualified.
    assert verdicts(window(snia.IOPS, 5), state())["performance.latency"].status == INCONCLUSIVE
    other = verdicts(window(snia.of_tests("latency")[0], 5), state("latency"))
    assert (other["performance.steady"].status, other["performance.latency"].status) == (INCONCLUSIVE, PASS)
    assert "--tests" in other["performance.steady"].text


@pytest.mark.parametrize(("rounds", "cell", "figure", "requirement"), [
    (snia.of_tests("throughput")[0], "0-128k", "write_mib_s", "performance.throughput"),
    (snia.of_tests("throughput")[1], "100-1m", "read_mib_s", "performance.throughput"),
    (snia.of_tests("latency")[0], "0-4k", "write_mean_us", "performance.latency"),
])
def test_what_the_test_tracks_has_to_be_steady(
    rounds: snia.Rounds, cell: str, figure: str, requirement: str
) -> None:
    def wild(case: str) -> dict[str, float]:
        number = int(case.split("/")[1].removeprefix("round-")) if "round" in case else 0
        return {figure: 10.0 + 9 * (number % 2)} if case.endswith(f"/{cell}") else {}

    def rest(count: int, figures: Any = None) -> list[Record]:
        others = [r for r in everything() if not rounds.mine(r["id"])]
        return others + window(rounds, count, figures)

    assert verdicts(rest(5), state())[requirement].status == PASS
    assert verdicts(rest(4), state())[requirement].status == INCONCLUSIVE
    assert verdicts(rest(24, wild), state())[requirement].status == INCONCLUSIVE
    bad = verdicts(rest(25, wild), state())[requirement]
    assert (bad.status, bad.names) == (FAIL, ["NOT_STEADY"])
    assert rounds.prefix in bad.text
    # And what it does not track need not be.
    assert judge_steady.settled(rest(5), rounds) and not judge_steady.settled(rest(24, wild), rounds)


def test_the_latency_test_does_not_track_reads() -> None:
    def wild(case: str) -> dict[str, float]:
        number = int(case.split("/")[1].removeprefix("round-")) if "round" in case else 0
        return {"read_mean_us": 10.0 + 9 * (number % 2)} if case.endswith("/100-8k") else {}

    latency = snia.of_tests("latency")[0]
    others = [r for r in everything() if not latency.mine(r["id"])]
    assert verdicts([*others, *window(latency, 5, wild)], state())["performance.latency"].status == PASS


def test_a_finding_in_a_cell_of_any_test_fails_it() -> None:
    for name, rounds in (("throughput", snia.of_tests("throughput")[1]), ("latency", snia.of_tests("latency")[0]),
                         ("saturation", snia.SATURATION)):
        records = everything()
        hit = next(r for r in records if rounds.mine(r["id"]) and r["kind"] == "pts")
        hit["findings"] = [{"name": "IO_HANG", "text": "x", "count": 1}]
        assert verdicts(records, state())[f"performance.{name}"].names == ["IO_HANG"]
        assert verdicts(records, state())["performance.steady"].status == PASS


@pytest.mark.parametrize("scale", [{"cell_seconds": 1}, {"size": "1g"}])
def test_a_test_that_was_made_smaller_is_not_snias(scale: dict[str, Any]) -> None:
    found = verdicts(everything(), state(**scale))
    for name in ("steady", "throughput", "latency", "saturation"):
        judged = found[f"performance.{name}"]
        assert judged.status == INCONCLUSIVE and "not SNIA" in judged.text, judged


def test_saturation_ends_when_four_times_the_drive_is_written_or_after_a_day() -> None:
    others = [r for r in everything() if not snia.SATURATION.mine(r["id"])]
    # Each round writes as much as the drive has.
    assert not judge_steady.saturated(window(snia.SATURATION, 3), 1 << 20)
    assert judge_steady.saturated(window(snia.SATURATION, 4), 1 << 20)
    early = verdicts([*others, *window(snia.SATURATION, 3)], state())["performance.saturation"]
    assert early.status == INCONCLUSIVE and "3.0 times" in early.text
    assert judge_steady.saturated(window(snia.SATURATION, 1440), 1 << 40)
    assert not judge_steady.saturated(window(snia.SATURATION, 1439), 1 << 40)
    done = verdicts(everything(), state())["performance.saturation"]
    assert done.status == PASS and "no purge" in done.text


def test_a_quick_run_does_none_of_it() -> None:
    quick = {"steady": False, "quick": True, "scale": cases.QUICK.as_words()}
    assert verdicts([], quick)["performance.steady"].status == SKIP


def test_the_scale_of_older_runs_has_the_test_that_they_did() -> None:
    words = cases.Scale(1, 60, 5, True).as_words()
    assert "tests" not in words and cases.Scale.of_words(words).tests == "iops"
    more = cases.Scale(1, 60, 5, True, tests="iops,latency")
    assert cases.Scale.of_words(more.as_words()) == more


def test_a_quick_run_takes_no_tests() -> None:
    args = cli.parser().parse_args(["run", "--quick", "--tests", "iops,latency", "--output", "q", "/dev/x"])
    with pytest.raises(QualError, match="--quick"):
        cli.scale_of(args, NEEDS, 1 << 40)


def test_of_a_day_of_rounds_a_report_shows_some() -> None:
    for count, shown in ((4, 4), (60, 60), (61, 31), (1440, 60)):
        others = [r for r in everything() if not snia.SATURATION.mine(r["id"])]
        judged = verdicts([*others, *window(snia.SATURATION, count)], state())["performance.saturation"]
        assert len(judged.evidence) == shown and judged.evidence[0][0] == "saturation 1"


def test_rounds_that_ended_without_a_steady_state_outweigh_those_that_were_cut_off() -> None:
    def wild(case: str) -> dict[str, float]:
        number = int(case.split("/")[1].removeprefix("round-")) if "round" in case else 0
        return {"write_mib_s": 10.0 + 9 * (number % 2)}

    first, second = snia.THROUGHPUT
    others = [r for r in everything() if not first.mine(r["id"]) and not second.mine(r["id"])]
    for one, other in ((first, second), (second, first)):
        records = [*others, *window(one, 4), *window(other, 25, wild)]
        assert verdicts(records, state())["performance.throughput"].names == ["NOT_STEADY"]


def test_the_mean_latency_of_a_mix_is_that_of_its_ios() -> None:
    figures = {"read_iops": 30.0, "write_iops": 10.0, "read_mean_us": 100.0, "write_mean_us": 20.0, "read_mib_s": 3.0,
               "write_mib_s": 1.0}
    record: Record = {"figures": figures}
    assert judge_steady.value(record, "mean_us") == 80.0
    assert (judge_steady.value(record, "iops"), judge_steady.value(record, "mib_s")) == (40.0, 4.0)
    assert judge_steady.value({"figures": {"read_iops": 5.0, "read_mean_us": 7.0}}, "mean_us") == 7.0
    assert judge_steady.value({"figures": {}}, "mean_us") == 0.0


def test_what_a_test_reports_is_the_mean_of_the_last_five_rounds() -> None:
    def first_slow(case: str) -> dict[str, float]:
        return {"read_mib_s": 900.0} if "round-01" in case else {}

    rounds = snia.THROUGHPUT[0]
    others = [r for r in everything() if not rounds.mine(r["id"])]
    judged = verdicts([*others, *window(rounds, 6, first_slow)], state())["performance.throughput"]
    assert ("throughput-128k 100-128k", "18", "MiB/s") in judged.evidence
