# SPDX-License-Identifier: GPL-2.0-only
"""Steps of a bisection on a made-up machine, which may have drifted since the baseline was pinned."""

from pathlib import Path

import numpy as np
import pytest
from dmabuf_common import stats
from dmabuf_nightly import bisect, plan, runner
from dmabuf_nightly.bisect import ABORT, BAD, GOOD, SKIP
from dmabuf_nightly.errors import NightlyError
from made import KEY, PLAN, SERIES, Made


class Steps:
    """Bisects on a made-up machine: `level` is what a run gives there."""

    def __init__(self, folder: Path) -> None:
        (folder / "j.fio").write_text("[j]\n")
        self.made = Made(folder / "s.db")
        self.plan = plan.parse(PLAN.format(plan="p"), folder)
        self.level = 1000.0
        self.spread = 0.01
        self.key: dict[str, str] = KEY

    def execute(self, night: int) -> None:
        runs = self.made.store.runs(night)
        for run, value in zip(runs, self.made.runs(self.level, len(runs), self.spread), strict=True):
            self.made.complete(run.id, value, self.key)

    def known_good(self, level: float = 1000) -> bisect.Step:
        self.level = level
        return bisect.known_good(self.made.store, self.plan, SERIES, "read_iops", self.execute, "")

    def step(self, level: float) -> bisect.Step:
        self.level = level
        return bisect.step(self.made.store, self.plan, SERIES, "read_iops", self.execute, "")


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    made = Steps(tmp_path)
    for _ in range(3):
        made.made.night(1000)
    made.made.call("baseline", "pin", "--plan", "p", "--last", "3")
    return made


def test_the_known_good_commit_must_be_measured_first(steps: Steps) -> None:
    with pytest.raises(NightlyError, match="--known-good"):
        steps.step(1000)
    assert steps.known_good().status == GOOD
    assert [steps.step(level).status for level in (1000, 950)] == [GOOD, BAD]
    # It was measured on another day, or by another text of the plan.
    steps.made.store.db.execute("UPDATE night SET plan_hash = 'x' WHERE kind = 'reference'")
    with pytest.raises(NightlyError, match="--known-good"):
        steps.step(1000)
    assert steps.known_good().status == GOOD
    steps.made.store.db.execute("UPDATE night SET started = '2026-01-01T00:00:00Z'")
    with pytest.raises(NightlyError, match="--known-good"):
        steps.step(1000)


def test_a_machine_that_drifted_makes_no_commit_bad(steps: Steps) -> None:
    """All is 1.8 % slower than when the baseline was pinned, which is below what counts."""
    assert steps.known_good(982).status == GOOD
    assert steps.step(975).status == GOOD
    assert steps.step(940).status == BAD


def test_a_known_good_commit_that_is_not_good_ends_it(steps: Steps) -> None:
    refused = steps.known_good(900)
    assert refused.status == ABORT and "is itself" in refused.text
    with pytest.raises(NightlyError, match="--known-good"):
        steps.step(900)


def test_another_machine_cannot_tell(steps: Steps) -> None:
    steps.known_good()
    steps.key = {**KEY, "CPU": "another"}
    assert (steps.step(1000).status, "CPU differ" in steps.step(1000).text) == (SKIP, True)


def test_a_reference_is_of_one_commit(steps: Steps) -> None:
    """The newer commit was interrupted after its first round."""
    for level, commit, rounds in ((990, "old", 3), (1000, "new", 1)):
        for _ in range(rounds):
            night = runner.new_night(steps.made.store, steps.plan, 1, "", bisect.REFERENCE)
            for run in steps.made.store.runs(night):
                steps.made.complete(run.id, level, KEY, {"module": commit})
            steps.made.store.finish(night, bisect.REFERENCE, "")
    found = bisect._reference(steps.made.store, steps.plan, SERIES)
    assert [run.metrics["read_iops"] for run in found] == [1000] * 10


def test_looks_are_corrected_for() -> None:
    """p near 0.03 counts for one look, and not for one of three."""
    rng = np.random.default_rng(3)
    old = [float(v) for v in rng.normal(100, 4, 30)]
    for seed in range(20_000):
        new = [float(v) for v in np.random.default_rng(seed).normal(97, 4, 10)]
        contrast = stats.Contrast(old, new)
        if 0.02 < contrast.p < 0.05 and contrast.ratio < 0.98 and (
            stats.ratio_interval(old, new, 1 - 0.05 / 3)[1] < 1
        ):
            break
    else:
        pytest.fail("no such sample")
    one = bisect.classify(contrast, "higher", 0.02, 0.05, looks=1)
    assert one is not None and one.status == BAD
    assert bisect.classify(contrast, "higher", 0.02, 0.05) is None


def test_good_is_corrected_for_looks() -> None:
    """The interval leaves out what counts at 95 %, and not at that of one of three looks."""
    rng = np.random.default_rng(4)
    old = [float(v) for v in rng.normal(100, 2, 30)]
    new = [float(v) for v in rng.normal(99.5, 2, 10)]
    contrast = stats.Contrast(old, new)
    loss = 1 - stats.ratio_interval(old, new, 0.95)[0]
    wide = 1 - stats.ratio_interval(old, new, 1 - 0.05 / 3)[0]
    assert wide > loss + 1e-4
    limit = (loss + wide) / 2
    one = bisect.classify(contrast, "higher", limit, 0.05, looks=1)
    assert one is not None and one.status == GOOD
    assert bisect.classify(contrast, "higher", limit, 0.05) is None
