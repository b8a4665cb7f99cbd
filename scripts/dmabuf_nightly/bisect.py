# SPDX-License-Identifier: GPL-2.0-only
"""One step of git bisect: build, run one case, compare one metric with the pinned baseline.

bad (1): it is worse by the rule. good (0): the interval rules out that it is worse by as much as
would count. Otherwise the case is run again, and in the end it is 125: git takes another commit.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from dmabuf_common import stats
from dmabuf_common.fingerprint import differences
from dmabuf_common.verdict import EXIT_FAIL, EXIT_PASS

from . import baseline, decide, fio, runner
from .errors import EXIT_BISECT_SKIP, NightlyError
from .plan import Plan, metric_kind
from .store import Series, Store

ROUNDS = 3

GOOD = EXIT_PASS
BAD = EXIT_FAIL
SKIP = EXIT_BISECT_SKIP


@dataclass
class Step:
    """What was decided about a commit, as git bisect run wants it, and why."""

    status: int
    text: str


def classify(contrast: stats.Contrast, better: str, limit: float, alpha: float) -> Step | None:
    """good, bad, or None where the runs so far do not tell."""
    low, high = contrast.interval
    worst = max(decide.worsening(low, better), decide.worsening(high, better))
    worse = decide.worsening(contrast.ratio, better)
    text = f"ratio {contrast.ratio:.3f}, 95 % interval {low:.3f} … {high:.3f}, {limit:.1%} counts"
    if worse >= limit and decide.excludes_one(contrast) and contrast.p <= alpha:
        return Step(BAD, f"bad: {text}")
    if worst < limit:
        return Step(GOOD, f"good: {text}")
    return None


def step(
    store: Store, plan: Plan, series: Series, metric: str,
    execute: Callable[[int], None], label: str, effect: float | None = None,
) -> Step:  # fmt: skip
    """Runs up to ROUNDS rounds of the plan (one case, one side) until the metric is decided.

    execute: runs what is planned of a night."""
    pinned = baseline.of(store, plan.name, series)
    if pinned is None:
        raise NightlyError(
            f"{series} has no pinned baseline to bisect against; "
            f"`dmabuf-nightly baseline pin --plan {plan.name}` pins one"
        )
    old = [run.metrics[metric] for run in pinned.runs if metric in run.metrics]
    if not old:
        raise NightlyError(f"the {pinned.name} of {series} has no {metric}")
    better = metric_kind(metric)[1]
    limit = effect if effect is not None else plan.rules.floor(metric)
    new: list[float] = []
    for number in range(1, ROUNDS + 1):
        night = runner.new_night(store, plan, None, label, "bisect")
        execute(night)
        runs = [run for run in store.runs(night) if run.series == series]
        for run in runs:
            if run.status == fio.FAILED:
                return Step(SKIP, f"cannot tell: a run failed: {run.reasons[0]}")
            if run.valid and run.key != pinned.key:
                changed = differences(store.facts(run.key), store.facts(pinned.key))
                return Step(SKIP, f"cannot tell: not the machine of the {pinned.name}: "
                                  f"{', '.join(changed)} differ")  # fmt: skip
        new += [run.metrics[metric] for run in runs if run.valid and metric in run.metrics]
        store.finish(night, "bisect", f"{len(new)} valid runs so far")
        if len(new) >= plan.rules.least_runs:
            decided = classify(stats.Contrast(old, new), better, limit, plan.rules.alpha)
            if decided:
                decided.text += f" ({len(new)} runs, {number} of {ROUNDS} rounds)"
                return decided
    if len(new) < plan.rules.least_runs:
        return Step(SKIP, f"cannot tell: {len(new)} valid runs, {plan.rules.least_runs} are needed")
    contrast = stats.Contrast(old, new)
    low, high = contrast.interval
    return Step(
        SKIP,
        f"cannot tell after {len(new)} runs: ratio {contrast.ratio:.3f}, "
        f"95 % interval {low:.3f} … {high:.3f}, {limit:.1%} counts",
    )


def build(command: str) -> Step | None:
    """Builds the commit; a commit that cannot be built cannot be judged."""
    done = subprocess.run(["/bin/sh", "-c", command], check=False)
    if done.returncode:
        return Step(SKIP, f"cannot tell: the build ended with status {done.returncode}")
    return None
