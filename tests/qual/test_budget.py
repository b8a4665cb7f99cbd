# SPDX-License-Identifier: GPL-2.0-only
"""--most-written: no more is written than that, by the drive's own counter and by what cases may write."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import sizes
from dmabuf_common.nvme import Health
from dmabuf_qual import budget, cases, plan, requirements, results, snia
from dmabuf_qual.drive import Drive
from dmabuf_qual.errors import QualError

NEEDS = requirements.load(None)
BYTES = 10**12
DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", BYTES, 512, 0,
              False, 131072)
FULL = cases.Scale(16 << 30, 60, 5, True)
HEALTH = Health(critical=0, temperature_c=40, used_percent=1, written_bytes=7 * 10**12, media_errors=0)


def test_sizes_have_terabytes() -> None:
    assert sizes.parse("2t") == 2 << 40 and sizes.parse("1.5t") is None


@pytest.mark.parametrize(("case", "most"), [
    (cases.cell("udmabuf", "premapped", "randread", "4k", 32, 1), 0),
    (cases.cell("udmabuf", "premapped", "write", "1m", 8, 1), 61.5 * 1e9),
    (cases.cell("udmabuf", "premapped", "randrw", "4k", 32, 1), 61.5 * 0.5e9),
    (snia.IOPS.cells(512, 1)[8], 61.5 * 0.05e9),
    (snia.IOPS.precondition(), 2 * BYTES),
])
def test_a_case_writes_so_much_at_the_most(case: cases.Case, most: float) -> None:
    assert budget.most(case, DRIVE, FULL, 1e9) == pytest.approx(most, rel=0.1)
    assert budget.most(case, DRIVE, FULL, 1e9) >= most * 0.99


def test_integrity_writes_its_load_and_its_region() -> None:
    load = budget.most(cases.integrity("load", "udmabuf", "premapped"), DRIVE, FULL, 1e9)
    assert load >= 2 * FULL.load_bytes
    assert 0 < budget.most(cases.integrity("check", "", ""), DRIVE, FULL, 1e9) < load


def cell(number: int, written: int, seconds: float = 60.0) -> dict[str, Any]:
    case = cases.cell("udmabuf", "premapped", "write", "1m", 8, number)
    return {"id": case.id, "kind": case.kind, "params": case.params, "test": case.test, "findings": [],
            "written_bytes": written, "runtime_s": seconds, "exporter": "udmabuf", "path": "premapped",
            "requirement": case.requirement}


def test_the_larger_of_the_drives_count_and_ours_counts() -> None:
    before = dataclasses.asdict(HEALTH)
    after = dataclasses.replace(HEALTH, written_bytes=HEALTH.written_bytes + 5 * 10**9)
    assert budget.used(before, after, [cell(1, 10**9)], DRIVE, FULL, 1e9) == 5 * 10**9
    assert budget.used(before, HEALTH, [cell(1, 10**9), cell(2, 10**9)], DRIVE, FULL, 1e9) == 2 * 10**9
    # A case that hung says nothing of what it wrote: its most counts.
    hung = {key: value for key, value in cell(3, 0).items() if key not in ("written_bytes", "runtime_s")}
    assert budget.used(before, HEALTH, [hung], DRIVE, FULL, 1e9) > 59e9


def test_a_case_that_only_began_counts_at_the_most_it_could_write() -> None:
    before = dataclasses.asdict(HEALTH)
    began = [{**cell(number, 0), "part": 1, "may_write": 61.5e9} for number in (1, 2)]
    ended = {**cell(1, 10**9), "part": 1}
    assert budget.used(before, HEALTH, [ended], DRIVE, FULL, 1e9, began) == pytest.approx(62.5e9)
    # The drive is faster by now than it was thought to be then.
    assert budget.used(before, HEALTH, [ended], DRIVE, FULL, 2e9, began) == pytest.approx(124e9)
    # The same case of another part is another one.
    assert budget.used(before, HEALTH, [{**ended, "part": 2}], DRIVE, FULL, 1e9, began) == pytest.approx(124e9)


def test_a_drive_is_as_fast_as_it_was_seen_to_be() -> None:
    assert budget.speed([], 1e9) == 1e9
    assert budget.speed([cell(1, 60 * 10**9)], 1e9) == pytest.approx(1.25e9)
    assert budget.speed([cell(1, 60 * 10**9), cell(2, 600 * 10**9)], 1e9) == pytest.approx(12.5e9)
    # A slow cell does not make the next one slow.
    assert budget.speed([cell(1, 60)], 1e9) == 1e9


def test_a_run_that_cannot_stay_below_is_refused_before_it_begins() -> None:
    made = plan.parts(DRIVE, 1, NEEDS, FULL)
    least = plan.total(made).written[0]
    assert "at least" in budget.refusal(made, int(least) - 1, HEALTH)
    assert budget.refusal(made, int(least) + 1, HEALTH) == ""
    assert "SMART" in budget.refusal(made, int(least) + 1, None)


def test_what_was_spent_stands_in_the_verdict() -> None:
    run = {"scale": FULL.as_words(), "requirements": NEEDS, "quick": False, "only": [], "emulated": False,
           "ended": budget.ended(9 * 10**9, 10**10, "perf/x", 2 * 10**9)}
    verdict = results.summary([], run)
    assert verdict.status == "inconclusive" and verdict.text.startswith("MOST_WRITTEN: ")
    assert "9.0 GB" in verdict.text and "10.0 GB" in verdict.text and "perf/x" in verdict.text
    with_limit = results.scope({**run, "most_written": 10**10})
    assert any("--most-written 10.0 GB" in word for word in with_limit)


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(QualError, match="--most-written"):
        budget.parse("much")
    assert budget.parse("1t") == 1 << 40 and budget.parse(None) is None
