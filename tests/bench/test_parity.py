# SPDX-License-Identifier: GPL-2.0-only
"""What tests/host/bench_parity.py makes of its pairs."""

import importlib.util
import math
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("bench_parity", Path(__file__).parents[1] / "host/bench_parity.py")
assert _SPEC and _SPEC.loader
bench_parity = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench_parity)


def around(ratio: float, count: int, width: float = 0.01) -> list[float]:
    return [ratio + width * (i - (count - 1) / 2) / count for i in range(count)]


@pytest.mark.parametrize("count,rank", [(7, 1), (21, 5), (35, 11)])
def test_the_interval_leaves_out_as_many_pairs_as_the_sign_test_allows(count: int, rank: int) -> None:
    """So many or more heads of `count` coins come by chance less than once in 100, one fewer more often."""
    def tail(most: int) -> float:
        return sum(math.comb(count, n) for n in range(most + 1)) / 2**count
    assert tail(rank - 1) <= 0.01 < tail(rank)
    assert bench_parity.interval(range(count)) == (rank - 1, count - rank)


def test_too_few_pairs_have_no_interval() -> None:
    with pytest.raises(ValueError):
        bench_parity.interval([1.0, 1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("ratio,status", [(1.0, 0), (0.98, 1), (0.99, None)])
def test_the_verdict_needs_the_whole_interval(ratio: float, status: int | None) -> None:
    assert bench_parity.verdict(around(ratio, 21), 0.99) == status


def test_a_few_pairs_that_the_machine_spoilt_decide_nothing() -> None:
    assert bench_parity.verdict([*around(1.0, 17), 0.5, 0.6, 0.7, 3.0], 0.99) == 0
    assert bench_parity.verdict([*around(0.98, 17), 0.5, 2.0, 2.0, 3.0], 0.99) == 1


def test_cpu_time_is_that_of_the_job_for_each_io() -> None:
    run = {"cpu_s": 1.0, "read": {"total_ios": 500_000, "iops": 125_000.0}}
    assert bench_parity.cost("cpu", run) == pytest.approx(2.0)
    assert bench_parity.cost("iops", run) == pytest.approx(8.0)
