# SPDX-License-Identifier: GPL-2.0-only
"""How much nights differ by themselves, and whether a loss is more than that.

A night alone confirms only what nights do not differ by; less is confirmed when another one of three
nights in a row agrees.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from dmabuf_common import stats

from .earlier import BEFORE
from .question import LEAST_SHIFTED, Finding, Question, worsening

# How often, at most, a night may confirm by itself what is none but the night: of all its metrics.
NIGHT_ALPHA = 0.02
# The same while too few nights are known to say how much nights differ: what is assumed may be wrong.
FEW_ALPHA = 0.003
# Fewer nights do not say how much nights differ, and a baseline of fewer may be off by as much.
LEAST_NIGHTS = 6
LEAST_PINNED = 3
# Steps from night to night say as much of how nights differ as this share of them would.
STEPS_FREEDOM = 2 / 3
# As SHIFTED of question.py, of the variance: nights of one level are further below this.
SHIFTED_VARIANCE = 6.25


def _spread_nights(question: Question) -> list[list[int]]:
    """The nights, by their eras, that say how much nights differ."""
    nights = len(question.past_runs)
    return [part for part in ([i for i in era if i < nights] for era in question.usual()) if part]


def few_nights(question: Question) -> bool:
    """Whether too few nights are known to say how much nights differ."""
    eras = _spread_nights(question)
    return sum(map(len, eras)) - max(0, len(eras) - 1) < LEAST_NIGHTS


def night_spread(question: Question) -> tuple[float, float]:
    """The relative standard deviation from night to night beyond what the runs of a night explain,
    and its degrees of freedom. Never below half the floor, and that where too few nights are known:
    a floor says what is of no interest."""
    least = question.floor / 2
    eras = [[question.past_runs[i] for i in era] for era in _spread_nights(question)]
    known = [runs for era in eras for runs in era]
    if few_nights(question) or min(min(runs) for runs in known) <= 0:
        return least, math.inf
    medians = [[math.log(stats.median(runs)) for runs in era] for era in eras]
    freedom: float = len(known) - len(eras)
    within = [stats.median_variance([math.log(value) for value in runs]) for runs in known]
    total = sum(stats.variance(era) * (len(era) - 1) for era in medians if len(era) > 1)
    # The same by what each night differs from the next one: far less where the level changed on the way.
    steps = sum((b - a) ** 2 / 2 for era in medians for a, b in pairwise(era))
    explained = sum(within) / len(within)
    between = total / freedom - explained
    if between > least**2 and len(known) >= LEAST_SHIFTED and total > SHIFTED_VARIANCE * steps:
        between, freedom = steps / freedom - explained, freedom * STEPS_FREEDOM
    return max(least, math.sqrt(max(0.0, between))), freedom


def beyond_nights(
    question: Question, contrast: stats.Contrast, among: int,
    slow: Sequence[Sequence[float]] = (), alpha: float | None = None,
) -> bool:
    """Whether the new runs, and those of the nights `slow`, are together worse than the old ones by more
    than nights differ, so seldom that it would be no more than `alpha`, NIGHT_ALPHA, of the nights, each with
    `among` metrics; FEW_ALPHA where little is known of nights."""
    if not question.old_nights:
        return True
    spread, freedom = night_spread(question)
    new = [contrast.new, *slow]
    if min(min(runs) for runs in new) <= 0:
        return False
    within = [stats.median_variance([math.log(value) for value in runs]) for runs in new]
    error = spread**2 * (1 / len(new) + 1 / question.old_nights)
    error += sum(within) / len(new) ** 2 + within[0] * len(contrast.new) / len(contrast.old)
    middle = sum(math.log(stats.median(runs)) for runs in new) / len(new)
    ratio = math.exp(middle - math.log(stats.median(contrast.old)))
    if worsening(ratio, question.better) <= 0:
        return False
    if error == 0:
        return True  # no run and no night differs from another
    few = few_nights(question) or question.old_nights < LEAST_PINNED
    limit = (FEW_ALPHA if few else alpha or NIGHT_ALPHA) / among
    return stats.upper_tail(abs(math.log(ratio)) / math.sqrt(error), freedom) <= limit


def _slow_before(question: Question) -> list[int]:
    """Which of the last nights were found slower, too."""
    nights = len(question.history)
    first = max(nights - BEFORE, question.settled)
    return [index for index in sorted(question.flagged) if first <= index < nights]


def seen_before(question: Question) -> bool:
    """Whether one of the last nights was found slower, too."""
    return bool(_slow_before(question))


def lasting(question: Question, contrast: stats.Contrast, among: int) -> bool:
    """Whether one of the last nights agrees. While little is known of nights, they must together be
    worse by more than nights differ: they share the baseline, and whatever is wrong with it."""
    slow = _slow_before(question)
    if not slow:
        return False
    if not few_nights(question) and question.old_nights >= LEAST_PINNED:
        return True
    return beyond_nights(question, contrast, among, [question.past_runs[i] for i in slow])


def beyond_usual(finding: Finding, among: int) -> bool:
    """Whether tonight and the nights that were found slower just before are together worse than
    the usual night, too. They share the baseline with each other, and whatever is wrong with it."""
    question = finding.question
    nights = len(question.history)
    era = question.era(nights - 1) if nights else 0
    left_out = question.flagged | question.apart
    usual = [v for i, v in enumerate(question.history) if i not in left_out and question.era(i) == era]
    slow = _slow_before(question)
    if len(usual) < LEAST_NIGHTS or question.old_nights < LEAST_PINNED or min(usual) <= 0:
        past = [question.past_runs[i] for i in slow]
        return finding.contrast is not None and beyond_nights(question, finding.contrast, among, past)
    levels = [*(question.history[i] for i in slow), stats.median(question.new)]
    ratio = sum(levels) / len(levels) / stats.median(usual)
    return worsening(ratio, question.better) >= finding.threshold
