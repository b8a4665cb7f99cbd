# SPDX-License-Identifier: GPL-2.0-only
"""What was found slower: whether it still is, is mended, or neither can be said.

Tonight is asked twice. Against what it should be, by the rule that makes any night suspect; and against
the nights that were slow, of which it must be clearly faster to be mended. What is neither slow nor
mended is never green: `run` runs it again, and it is inconclusive if that says no more.
"""

import math
from collections.abc import Sequence

from dmabuf_common import stats

from .nights import FEW_ALPHA, beyond_nights, night_spread
from .question import Finding, worsening
from .states import CLEARED, CONFIRMED, INCONCLUSIVE, SUSPECT

# How often, at most, a night that is as slow as those before is taken for one that is clearly faster.
MENDED_ALPHA = 0.005
# A part of the loss may be left in a night that is clearly faster: one that counts, and that chance alone shows
# as clearly in so few nights (this is two-sided). What fails is less likely yet, as while little is known.
LEFT_ALPHA = 0.02

Pair = tuple[Sequence[float], Sequence[float]]


def level(pair: Pair) -> tuple[float, float]:
    """The logarithm of a night's median, beside its own old runs where there are some; its variance."""
    old, new = pair
    level, noise = math.log(stats.median(new)), stats.median_variance([math.log(v) for v in new])
    if old:
        level -= math.log(stats.median(old))
        noise += stats.median_variance([math.log(v) for v in old])
    return level, noise


def faster(finding: Finding, contrast: stats.Contrast) -> bool:
    """Whether these runs are clearly faster than the nights that were slow: Student's t of the logarithm,
    with what nights differ by themselves. Where no night is left that says how slow it was, they must be
    clearly less slow than what would count."""
    question = finding.question
    if not question.slow:
        return worsening(min(contrast.interval) if question.better == "higher" else max(contrast.interval),
                         question.better) < finding.threshold
    sides = not question.old_nights
    pairs: list[Pair] = [(contrast.old if sides else (), contrast.new), *question.slow]
    if min(min([*old, *new]) for old, new in pairs) <= 0:
        return False
    (tonight, noise), *slow = (level(pair) for pair in pairs)
    # Sides of a night share what it has of its own.
    spread, freedom = (0.0, math.inf) if sides else night_spread(question)
    error = spread**2 * (1 + 1 / len(slow)) + noise + sum(n for _, n in slow) / len(slow) ** 2
    gain = tonight - sum(level for level, _ in slow) / len(slow)
    gain = gain if question.better == "higher" else -gain
    if gain <= 0 or error == 0:
        return gain > 0  # runs that are all the same, as percentiles in fio's bins can be, leave no doubt
    return stats.upper_tail(gain / math.sqrt(error), freedom) <= MENDED_ALPHA


def answer(finding: Finding, contrast: stats.Contrast, suspect: bool, among: int, good: str) -> None:
    """What these runs say of what is held. suspect: the rule found them slower. among: how many metrics
    the night has. good: the state of what is not slower."""
    question = finding.question
    mended = faster(finding, contrast)
    counts = worsening(contrast.ratio, question.better) >= finding.threshold
    if suspect:
        # As slow as it was; or less slow, as of a loss of which a part is left, and that a night has to
        # show by itself: those before are of the whole one.
        slow = not mended or beyond_nights(question, contrast, among, alpha=FEW_ALPHA)
        finding.state = CONFIRMED if slow else SUSPECT
    elif question.mended or (mended and not (counts and contrast.p <= LEFT_ALPHA)):
        finding.state = good
    else:
        finding.state = SUSPECT
        finding.extra["held"] = "neither"


def leave(finding: Finding) -> None:
    """Nothing runs again for what is neither slow nor mended: it is no night that was slow, unless it is
    nearer to that."""
    if finding.nearer_to_none:
        finding.state = INCONCLUSIVE


def again(finding: Finding, contrast: stats.Contrast, suspect: bool, among: int) -> None:
    """The same as answer(), by the reruns, after which there are no more."""
    finding.extra.pop("held", None)
    answer(finding, contrast, suspect, among, CLEARED)
    if finding.state == SUSPECT and "held" in finding.extra:
        leave(finding)
    elif finding.state == SUSPECT:
        finding.extra["reruns"] = "agree"
