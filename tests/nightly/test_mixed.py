# SPDX-License-Identifier: GPL-2.0-only
"""Comparability is not transitive: a run that lacks a fact is alike with two that differ in it. No baseline
may be of all three, and each of its runs is compared with tonight's."""

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import pytest
from dmabuf_nightly import analyse, baseline, bisect, plan
from made import JOB, KEY, PLAN, SERIES, Made

SYSTEM, PEER = {**KEY, "memory": "system"}, {**KEY, "memory": "peer"}


def give_job(made: Made, night: int, job: Mapping[str, str] | None) -> None:
    name = made.store.add_facts(job) if job else None
    made.store.db.execute("UPDATE run SET job = ? WHERE night = ?", (name, night))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_keys_are_pinned_together_only_where_each_two_are_alike(
    tmp_path: Path, order: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path / "s.db")
    for index in order:
        # The order of hashes, by which they were compared, is another one with another processor.
        for cpu in ("a", "b", "c", "d"):
            made.night(1000, plan=cpu, key={**[KEY, SYSTEM, PEER][index], "CPU": cpu})
    for cpu in ("a", "b", "c", "d"):
        assert made.call("baseline", "pin", "--plan", cpu, "--last", "3") == 2
        assert "their machines differ in memory" in capsys.readouterr().err


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_jobs_are_pinned_together_only_where_each_two_are_alike(
    tmp_path: Path, order: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path / "s.db")
    for index in order:
        give_job(made, made.night(1000), [None, {**JOB, "rw": "randread"}, {**JOB, "rw": "randwrite"}][index])
    assert made.call("baseline", "pin", "--plan", "p", "--last", "3") == 2
    assert "their jobs differ" in capsys.readouterr().err


def test_each_run_of_a_baseline_has_a_key_of_its_own(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for key in (KEY, SYSTEM):
        made.night(1000, key=key)
    assert made.call("baseline", "pin", "--plan", "p", "--last", "2") == 0
    night = made.night(1000, key=PEER)
    finding = analyse.judge_night(made.store, made.store.night(night)).findings[0]
    assert finding.state == "inconclusive" and "memory differ" in finding.text


def test_a_known_good_commit_is_compared_with_each_run_of_the_baseline(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for key in (KEY, SYSTEM):
        made.night(1000, key=key)
    baseline.pin(made.store, "p", [1, 2], [], "", False)
    (tmp_path / "j.fio").write_text("[j]\n")
    wanted = plan.parse(PLAN.format(plan="p"), tmp_path)

    def execute(night: int) -> None:
        for run, value in zip(made.store.runs(night), made.runs(1000), strict=True):
            made.complete(run.id, value, PEER)

    good = bisect.known_good(made.store, wanted, SERIES, "read_iops", execute, "")
    assert good.status == bisect.ABORT and "memory differ" in good.text
