# SPDX-License-Identifier: GPL-2.0-only
"""Stored nights, judged here: those that nobody judged before come first, in their order, since what
a night decides rests on what the nights before it decided."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dmabuf_report import model

from . import judge, plan, results
from .judged import Judgement
from .progress import say
from .store import Night, Store


def plan_of(store: Store, night: Night) -> plan.Plan:
    """The plan as it was then, with the cases that the night had: it may have been begun with --case."""
    wanted = plan.parse(night.plan_text, Path("/"), check_files=False)
    tests = {run.series.test for run in store.runs(night.id)}
    return replace(wanted, cases=tuple(case for case in wanted.cases if case.name in tests))


def judge_night(store: Store, night: Night, need_baseline: bool = False) -> Judgement:
    """The judgement of a night, which is not stored."""
    return judge.judge(store, plan_of(store, night), night.id, need_baseline=need_baseline)


def complete(store: Store, night: Night) -> bool:
    """Whether all that was planned of a night came to its end."""
    return all(run.state == "done" for run in store.runs(night.id))


def keep(store: Store, judgement: Judgement) -> None:
    """Stores what a night decided and came to; a night that is not complete may still change."""
    if store.night(judgement.night).abandoned:
        say(f"night {judgement.night} was abandoned, and stays so")
        return
    if not complete(store, store.night(judgement.night)):
        say(f"night {judgement.night} is not complete, so that nothing of this is stored; "
            "`dmabuf-nightly run --resume` goes on with it")
        return
    judgement.save()
    verdict = results.build(judgement).verdict
    store.finish(judgement.night, verdict.status, verdict.text)


def before(
    store: Store, night: Night, need_baseline: bool = False,
    told: Callable[[Judgement], None] | None = None,
) -> None:
    """Judges and stores the nights of a plan before one that were only measured. told: called with each
    of them when it is stored."""
    for earlier in store.unjudged(night.plan, night.id):
        judgement = judge_night(store, earlier, need_baseline)
        keep(store, judgement)
        if told:
            told(judgement)


def look(store: Store, night: Night) -> model.Results:
    """What a night comes to by what is stored; nothing is stored. It rests on the nights before it, so
    that it is no verdict while these were only measured."""
    left = store.unjudged(night.plan, night.id) if night.kind == "night" else []
    return results.build(judge_night(store, night), [one.id for one in left])


def in_order(
    store: Store, night: Night, need_baseline: bool = False,
    told: Callable[[Judgement], None] | None = None,
) -> Judgement:
    """Judges a night, before it those of its plan that were only measured, and stores all that.
    told: called with each of these earlier ones when it is stored."""
    before(store, night, need_baseline, told)
    judgement = judge_night(store, night, need_baseline)
    if night.kind == "night":
        keep(store, judgement)
    return judgement
