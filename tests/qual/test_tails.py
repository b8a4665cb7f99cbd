# SPDX-License-Identifier: GPL-2.0-only
"""The latency's tail against that of host memory: only an interval decides, and never too few samples."""

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from dmabuf_qual import cases, execute, judge, requirements, rules, tails
from dmabuf_qual.errors import QualError
from dmabuf_qual.store import Record, Store

NEEDS = requirements.load(None)
SCALE = cases.Scale(1 << 30, 60, 5, True)
Bins = list[list[int]]


def samples(scale: float, count: int = 100_000, seed: int = 1) -> Bins:
    """Latencies about as a drive has them: most near 100 µs, some much longer, all times `scale`."""
    rng = random.Random(seed)
    bins: dict[int, int] = {}
    for _ in range(count // 100):
        # 100 at a time: what is random is where they lie.
        ns = int(100_000 * scale * (1 + rng.random() * 0.2)) // 1000 * 1000
        bins[ns] = bins.get(ns, 0) + 98
        ns = int(300_000 * scale * (1 + rng.random() * 0.2)) // 1000 * 1000
        bins[ns] = bins.get(ns, 0) + 2
    return [[ns, bins[ns]] for ns in sorted(bins)]


def run(path: str, bins: Bins | None, repeat: int, exporter: str = "udmabuf", way: str = "read") -> Record:
    exporter = "" if path == "host" else exporter
    case = cases.cell(exporter, path, "randread" if way == "read" else "randwrite", "4k", 32, repeat)
    rate = sum(count for _, count in bins) / 60 if bins else 100.0
    record: Record = {
        "id": case.id, "kind": "cell", "exporter": exporter, "path": path, "requirement": case.requirement,
        "params": case.params, "test": case.test, "started": 0.0, "seconds": 60.0, "findings": [],
        "figures": {f"{way}_iops": rate, "cpu_s_per_gib": 1.0}, "runtime_s": 60.0}
    return record if bins is None else {**record, "latency": {way: bins}}


def five(path: str, scales: list[float], count: int = 100_000, **more: Any) -> list[Record]:
    return [run(path, samples(scale, count, n), n, **more) for n, scale in enumerate(scales, 1)]


def verdict(records: list[Record], **state: Any) -> rules.Judged:
    found = judge.judge({r["id"]: r for r in records}, state, NEEDS)
    return next(v for v in found if v.id == "performance.tails")


HOST = five("host", [1.0, 1.01, 0.99, 1.02, 0.98])


def test_the_default_thresholds_are_there_and_are_limited(tmp_path: Path) -> None:
    assert NEEDS["performance"]["most_p99_ratio"] >= 1 and NEEDS["performance"]["most_p999_ratio"] >= 1
    for text in ("most_p99_ratio = 0", "most_p999_ratio = nan", "most_p99_ratio = 1000.0"):
        (tmp_path / "r.toml").write_text(f"[performance]\n{text}\n")
        with pytest.raises(QualError, match="ratio must be"):
            requirements.load(tmp_path / "r.toml")


def test_a_tail_like_the_hosts_is_right() -> None:
    judged = verdict(HOST + five("premapped", [1.0, 0.99, 1.01, 1.0, 1.02]))
    assert (judged.status, judged.names) == (PASS, [])
    assert any("p99.9" in name for name, _, _ in judged.evidence)
    assert "…" in judged.evidence[0][1]


def test_a_tail_that_is_much_longer_in_every_repeat_fails_by_name() -> None:
    judged = verdict(HOST + five("premapped", [3.0, 3.1, 2.9, 3.0, 3.05]))
    assert (judged.status, judged.names) == (FAIL, ["SLOW_TAIL"])
    assert "premapped randread-4k-32" in judged.text and judged.remedy


def test_an_interval_that_has_the_threshold_in_it_decides_nothing() -> None:
    # One repeat of five was slow: its I/Os are the whole tail, or none of it, by chance.
    judged = verdict(HOST + five("premapped", [1.0, 1.0, 1.0, 1.0, 30.0]))
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert "--repeats" in judged.remedy


def test_a_percentile_that_too_few_samples_lie_beyond_is_not_judged() -> None:
    few = [*five("host", [1.0] * 5, 10_000), *five("premapped", [1.0] * 5, 10_000)]
    judged = verdict(few)
    assert judged.status == INCONCLUSIVE and "p99.9" in judged.text and "samples" in judged.text
    # That p99 is too long is known all the same.
    slow = [*five("host", [1.0] * 5, 10_000), *five("premapped", [3.0] * 5, 10_000)]
    assert verdict(slow).names == ["SLOW_TAIL"]


def test_a_run_without_latencies_or_without_a_control_decides_nothing() -> None:
    bare = [run(path, None, n) for path in ("host", "premapped") for n in range(1, 6)]
    assert verdict(bare).status == INCONCLUSIVE
    assert verdict(five("premapped", [1.0] * 5)).status == INCONCLUSIVE
    assert verdict([]).status == INCONCLUSIVE
    half = HOST + five("premapped", [1.0] * 4) + [run("premapped", None, 5)]
    assert verdict(half).status == INCONCLUSIVE


def test_where_figures_say_nothing_tails_do_not_either() -> None:
    slow = HOST + five("premapped", [3.0] * 5)
    assert verdict(slow, emulated=True).status == SKIP
    short = dataclasses.replace(SCALE, cell_seconds=1).as_words()
    assert verdict(slow, scale=short).status == INCONCLUSIVE
    assert verdict(slow, scale=cases.QUICK.as_words(), quick=True).status == SKIP


def test_the_control_of_copies_is_not_judged() -> None:
    good = HOST + five("premapped", [1.0] * 5)
    assert verdict(good + five("bounce", [9.0] * 5)).status == PASS


def test_percentiles_are_of_each_repeat() -> None:
    both = tails.Side([[[100, 9_800], [200, 200]], [[100, 9_850], [300, 150]]])
    assert both.percentiles(99) == [200.0, 300.0]
    # Fewer than 100 of all are beyond it; or of a repeat so few that it says nothing by itself.
    assert tails.Side([[[100, 9_000], [300, 900]]]).percentiles(99) is None
    thin, thick = [[100, 10]], [[100, 29_700], [200, 300]]
    assert tails.Side([thick, thin]).percentiles(99) is None and tails.Side([thick]).percentiles(99) == [100.0]
    for sides in (([thin, thick], [thick, thick]), ([thick, thick], [thin, thick])):
        assert tails.ratio(tails.Side(sides[0]), tails.Side(sides[1]), 99, 0.95) is None
    # Exactly 99 of 100 are no longer than this.
    assert tails.Side([[[100, 9_900], [200, 100]]]).percentiles(99) == [100.0]
    # One repeat has no spread, and so no interval.
    assert tails.ratio(tails.Side([thick]), tails.Side([thick, thick]), 99, 0.95) is None


def test_analysing_twice_says_the_same() -> None:
    a, b = tails.Side([samples(1, seed=n) for n in range(5)]), tails.Side([samples(2, seed=n) for n in range(5)])
    first, second = tails.ratio(a, b, 99, 0.95), tails.ratio(a, b, 99, 0.95)
    assert first == second and first is not None
    assert 1.8 < first.low <= first.ratio <= first.high < 2.2


@pytest.mark.parametrize(("chance", "freedom", "value"), [
    (0.975, 1.0, 12.7062), (0.975, 8.0, 2.30600), (0.9995, 4.0, 8.61030), (0.95, 2.0, 2.91999), (0.99, 30.0, 2.45726),
    (0.9995, 8.0, 5.04131), (0.975, 1e6, 1.95996), (0.5, 5.0, 0.0)])
def test_students_t(chance: float, freedom: float, value: float) -> None:
    assert tails.student(chance, freedom) == pytest.approx(value, rel=1e-3, abs=1e-6)


def repeat_of(rng: random.Random, scale: float, sigma: float) -> Bins:
    """A repeat whose tail is `scale` times, or about so: repeats differ by `sigma`."""
    factor = scale * math.exp(rng.gauss(0, sigma))
    return [[100_000, 19_400], *([int(200_000 * factor * (1 + place / 50)), 60] for place in range(10))]


def test_all_intervals_together_hold_what_they_are_of_as_often_as_they_say() -> None:
    # Of a run with 27 pairs and two percentiles: 54 intervals, none of which may miss in 95 of 100 runs.
    rng, count, missed, runs = random.Random(7), 54, 0, 1500
    level = 1 - 0.05 / count
    for _ in range(runs):
        old, new = (tails.Side([repeat_of(rng, scale, 0.1) for _ in range(5)]) for scale in (1.0, 1.45))
        looked = tails.ratio(old, new, 99, level)
        assert looked is not None
        missed += not looked.low <= 1.45 <= looked.high
    # 1.4 of 1500 on average. Seven or more happen to one of 1700 such tests; bootstraps of five miss 100.
    assert missed < 7


def test_bins_that_do_not_hold_all_samples_decide_nothing() -> None:
    def tenth(record: Record) -> Record:
        return {**record, "figures": {**record["figures"], "read_iops": 10 * record["figures"]["read_iops"]}}

    whole = HOST + five("premapped", [1.0] * 5)
    assert verdict(whole).status == PASS
    for part in (0, -1):
        records = [tenth(r) if r is whole[part] else r for r in whole]
        judged = verdict(records)
        assert judged.status == INCONCLUSIVE and whole[part]["id"] in judged.text


def test_a_latency_of_nothing_kills_no_report(tmp_path: Path) -> None:
    none = [run("host", [[0, 100_000]], n) for n in range(1, 6)]
    assert verdict(none + five("premapped", [1.0] * 5)).status == INCONCLUSIVE
    assert verdict(HOST + [run("premapped", [[0, 100_000]], n) for n in range(1, 6)]).status == INCONCLUSIVE
    (tmp_path / "run.json").write_text("{}")
    Store(tmp_path).add(none[0])
    with pytest.raises(QualError, match="latency"):
        Store(tmp_path).load()
    job = {"read": {"clat_ns": {"bins": {"0": 5, "1000": 7}}}, "write": {"clat_ns": {}}}
    assert execute.latency_of(job) == {"read": [[1, 5], [1000, 7]]}


@pytest.mark.parametrize("odd", [[[1, "x"]], [[1]], [[float("nan"), 1]], "x", [[1, -1]], [[0, 1]]])
def test_bins_that_are_none_are_refused(tmp_path: Path, odd: Any) -> None:
    record = {**run("premapped", None, 1), "latency": {"read": odd}}
    (tmp_path / "run.json").write_text("{}")
    store = Store(tmp_path)
    store.add(record)
    with pytest.raises(QualError, match="latency"):
        Store(tmp_path).load()


def test_a_measurement_keeps_its_bins() -> None:
    job = {"read": {"clat_ns": {"bins": {"2000": 5, "1000": 7}}}, "write": {"clat_ns": {}}}
    assert execute.latency_of(job) == {"read": [[1000, 7], [2000, 5]]}


def test_each_datapath_is_compared_with_the_host_and_the_host_with_nothing() -> None:
    judged = verdict(HOST + five("premapped", [1.0] * 5) + five("bvec", [1.0] * 5))
    assert [name for name, _, _ in judged.evidence] == [
        f"udmabuf {path} randread-4k-32 read p{p}" for path in ("bvec", "premapped") for p in ("99", "99.9")]


def test_among_many_percentiles_each_interval_is_wider() -> None:
    def width(records: list[Record]) -> float:
        shown = next(v for name, v, _ in verdict(records).evidence if name == "udmabuf premapped randread-4k-32 read p99")
        low, high = shown.split("(")[1].rstrip(")").split(" … ")
        return float(high) - float(low)

    # Each repeat's tail is another's: the interval has many steps.
    host = [run("host", [[1000, 90_000], [2000 + 97 * n, 10_000]], n) for n in range(1, 16)]
    path = [run("premapped", [[1000, 90_000], [2100 + 131 * n, 10_000]], n) for n in range(1, 16)]
    others = [{**r, "path": f"other{n}", "id": r["id"].replace("premapped", f"other{n}")} for r in path for n in range(20)]
    assert width(host + path + others) > width(host + path)


def test_student_t_agrees_with_scipy() -> None:
    """The verdict is made without scipy, which a machine with the drive need not have."""
    from scipy import stats
    for freedom in (1.0, 1.7, 4.0, 8.0, 31.5):
        for chance in (0.5, 0.975, 0.99885, 0.99955):
            assert tails.student(chance, freedom) == pytest.approx(stats.t.ppf(chance, freedom), rel=1e-5, abs=1e-5)
