# SPDX-License-Identifier: GPL-2.0-only
"""One step of git bisect: build, run one case, compare one metric with the known-good commit, which
was measured before the first step.

bad (1): it is worse by the rule. good (0): the interval rules out that it is worse by as much as
would count. Otherwise the case is run again, and in the end it is 125: git takes another commit.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dmabuf_common import clock, stats
from dmabuf_common.verdict import EXIT_FAIL, EXIT_PASS

from . import baseline, fio, jobfacts, runner
from .errors import EXIT_BISECT_ABORT, EXIT_BISECT_SKIP, NightlyError
from .plan import Plan, metric_kind
from .question import worsening
from .store import Run, Series, Store

ROUNDS = 3
# Kinds of nights: of a step, and of the known-good commit; and the status of one that is not good.
BISECT = "bisect"
REFERENCE = "reference"
REFUSED = "refused"
# A reference of longer ago is no better than the baseline.
REFERENCE_DAYS = 7

GOOD = EXIT_PASS
BAD = EXIT_FAIL
SKIP = EXIT_BISECT_SKIP
ABORT = EXIT_BISECT_ABORT


@dataclass
class Step:
    """What was decided about a commit, as git bisect run wants it, and why."""

    status: int
    text: str


def classify(
    contrast: stats.Contrast, better: str, limit: float, alpha: float, looks: int = ROUNDS
) -> Step | None:
    """good, bad, or None where the runs so far do not tell. looks: how often the growing runs are
    looked at; each look may be wrong, so that each gets its share of alpha."""
    level = 1 - alpha / looks
    low, high = stats.ratio_interval(contrast.old, contrast.new, level)
    worst = max(worsening(low, better), worsening(high, better))
    worse = worsening(contrast.ratio, better)
    text = f"ratio {contrast.ratio:.3f}, {level:.1%} interval {low:.3f} … {high:.3f}, {limit:.1%} counts"
    if worse >= limit and not low <= 1 <= high and contrast.p <= alpha / looks:
        return Step(BAD, f"bad: {text}")
    if worst < limit:
        return Step(GOOD, f"good: {text}")
    return None


@dataclass
class _Measured:
    """What a commit gave so far. why: why it gives no more; "" when all is well."""

    values: list[float]
    rounds: int
    why: str = ""


def _rounds(
    store: Store, plan: Plan, series: Series, metric: str, like: Sequence[Run], name: str,
    execute: Callable[[int], None], label: str, kind: str,
) -> Iterator[_Measured]:
    """Runs round after round, up to ROUNDS of them. like: of the machine and
    the job that it must be, each of them, called `name`."""
    values: list[float] = []
    for number in range(1, ROUNDS + 1):
        night = runner.new_night(store, plan, None, label, kind)
        execute(night)
        runs = [run for run in store.runs(night) if run.series == series]
        for run in runs:
            if run.status == fio.FAILED:
                yield _Measured(values, number, f"a run failed: {run.reasons[0]}")
                return
            others = store.unlike(like) if run.valid else []
            if changed := sorted({name for one in others for name in store.differences(run.key, one.key)}):
                yield _Measured(
                    values, number, f"not the machine of {name}: {', '.join(changed)} differ"
                )
                return
            if changed := list(dict.fromkeys(d for one in others for d in store.job_differences(run, one))):
                yield _Measured(values, number, f"not the job of {name}: {jobfacts.shown(changed)}")
                return
        values += [run.metrics[metric] for run in runs if run.valid and metric in run.metrics]
        store.finish(night, kind, f"{len(values)} valid runs so far")
        if len(values) >= plan.rules.least_runs:
            yield _Measured(values, number)
    if len(values) < plan.rules.least_runs:
        yield _Measured(
            values, ROUNDS, f"{len(values)} valid runs, {plan.rules.least_runs} are needed"
        )


def _pinned(store: Store, plan: Plan, series: Series) -> baseline.Baseline:
    pinned = baseline.of(store, plan.name, series)
    if pinned is None:
        raise NightlyError(
            f"{series} has no pinned baseline to bisect against; "
            f"`dmabuf-nightly baseline pin --plan {plan.name}` pins one"
        )
    return pinned


def _values(runs: Sequence[Run], metric: str, what: str) -> list[float]:
    found = [run.metrics[metric] for run in runs if metric in run.metrics]
    if not found:
        raise NightlyError(f"{what} has no {metric}")
    return found


def known_good(
    store: Store, plan: Plan, series: Series, metric: str,
    execute: Callable[[int], None], label: str, effect: float | None = None,
) -> Step:
    """Measures the commit that is known to be good, as a reference for the steps: machines drift, and
    one that did since the baseline was pinned would make every commit bad."""
    pinned = _pinned(store, plan, series)
    old = _values(pinned.runs, metric, f"the {pinned.name} of {series}")
    limit = effect if effect is not None else plan.rules.floor(metric)
    begun = [night.id for night in store.nights(plan.name, REFERENCE)]
    measured = _Measured([], 0, "nothing was run")
    like = [replace(pinned.runs[0], key=pinned.key), *pinned.runs]
    for measured in _rounds(store, plan, series, metric, like, f"the {pinned.name}", execute, label,
                            REFERENCE):
        if measured.why:
            break
    fresh = [n.id for n in store.nights(plan.name, REFERENCE) if n.id not in begun]
    decided = None
    if not measured.why:
        contrast = stats.Contrast(old, measured.values)
        # All rounds are run whatever they give: they are looked at once.
        decided = classify(contrast, metric_kind(metric)[1], limit, plan.rules.alpha, looks=1)
    if measured.why or (decided and decided.status == BAD):
        for night in fresh:
            store.finish(night, REFUSED, measured.why or "worse than the baseline")
    if measured.why:
        return Step(ABORT, f"this commit is no reference: {measured.why}")
    if decided and decided.status == BAD:
        return Step(
            ABORT,
            f"this commit is itself worse than the {pinned.name}: {decided.text}; it is not good, or "
            "the machine changed, and a bisection would find no commit",
        )
    text = decided.text if decided else f"it cannot be told from the {pinned.name} for certain"
    return Step(GOOD, f"known good, the reference of {len(measured.values)} runs: {text}")


def _reference(store: Store, plan: Plan, series: Series) -> list[Run]:
    """The valid runs of the last known-good commit that was measured."""
    limit = clock.iso(clock.seconds(clock.now()) - REFERENCE_DAYS * 86400)
    nights = [
        night for night in store.nights(plan.name, REFERENCE)
        if night.status == REFERENCE and night.plan_hash == plan.digest and night.started >= limit
    ]
    runs = [
        run for night in nights[-ROUNDS:] for run in store.runs(night.id)
        if run.series == series and run.valid
    ]
    # Of rounds on machines that differ, or of other commits, only the newest say what this one gives.
    runs = [
        run for run in runs
        if store.alike(runs[-1], run) and run.subject == runs[-1].subject
    ]
    if len(runs) < plan.rules.least_runs:
        raise NightlyError(
            f"no known-good commit of {series} was measured by this text of the plan within "
            f"{REFERENCE_DAYS} days; check it out, build it, and run this with --known-good"
        )
    return runs


def step(
    store: Store, plan: Plan, series: Series, metric: str,
    execute: Callable[[int], None], label: str, effect: float | None = None,
) -> Step:
    """Runs up to ROUNDS rounds of the plan (one case, one side) until the metric is decided against
    the known-good commit.

    execute: runs what is planned of a night."""
    _pinned(store, plan, series)
    reference = _reference(store, plan, series)
    old = _values(reference, metric, f"the known-good commit of {series}")
    better = metric_kind(metric)[1]
    limit = effect if effect is not None else plan.rules.floor(metric)
    measured = _Measured([], 0, "nothing was run")
    for measured in _rounds(store, plan, series, metric, reference, "the known-good commit",
                            execute, label, BISECT):
        if measured.why:
            return Step(SKIP, f"cannot tell: {measured.why}")
        contrast = stats.Contrast(old, measured.values)
        decided = classify(contrast, better, limit, plan.rules.alpha)
        if decided:
            decided.text += f" ({len(measured.values)} runs, {measured.rounds} of {ROUNDS} rounds)"
            return decided
    contrast = stats.Contrast(old, measured.values)
    low, high = contrast.interval
    return Step(
        SKIP,
        f"cannot tell after {len(measured.values)} runs: ratio {contrast.ratio:.3f}, "
        f"95 % interval {low:.3f} … {high:.3f}, {limit:.1%} counts",
    )


def build(command: str) -> Step | None:
    """Builds the commit; a commit that cannot be built cannot be judged."""
    done = subprocess.run(["/bin/sh", "-c", command], check=False)
    if done.returncode:
        return Step(SKIP, f"cannot tell: the build ended with status {done.returncode}")
    return None
