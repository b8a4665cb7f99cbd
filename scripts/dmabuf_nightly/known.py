# SPDX-License-Identifier: GPL-2.0-only
"""What is known to be slower: whether tonight it is no worse than it was then.

One night differs from another one, and from the night in which it was acknowledged. So what is worse than
then by what would count fails only when this is more than nights and runs differ by, of tonight and of those
of the two nights before that were worse, too.
"""

import math
from collections.abc import Sequence

from dmabuf_common import stats

from .acknowledge import Known
from .held import level
from .nights import night_spread
from .question import Finding, worsening
from .states import CONFIRMED, INCONCLUSIVE, SUSPECT

# How often, at most, a night that is as slow as it was is taken for one that is worse.
WORSE_ALPHA = 0.01


def applies(finding: Finding) -> bool:
    """Whether the finding is one that may be known: slower, or held and neither slow nor mended."""
    if finding.judged is None:
        return False
    held = finding.question.held and finding.question.slow
    neither = finding.state == INCONCLUSIVE and "held" in finding.extra
    return finding.state == CONFIRMED or bool(held and (finding.state == SUSPECT or neither))


def then(known: Known, ratio: float, better: str) -> float:
    """This ratio as a share of what is known. The nights that decided together may have been better ones,
    which are in tonight's ratio no more: so also of what the night gave by itself."""
    shares = [ratio / was for was in (known.ratio, known.own or known.ratio)]
    return max(shares) if better == "higher" else min(shares)


def clearly(finding: Finding, shares: Sequence[float]) -> bool:
    """Whether these nights, tonight first, each as a share of what is known, are together worse than it
    by more than nights and runs differ by."""
    question, contrast = finding.question, finding.judged
    assert contrast is not None
    sides = not question.old_nights
    if min([*contrast.old, *contrast.new]) <= 0:
        return True
    _, noise = level((contrast.old if sides else (), contrast.new))
    spread, freedom = (0.0, math.inf) if sides else night_spread(question)
    error = (spread**2 + noise) * (1 + 1 / len(shares))
    excess = abs(sum(map(math.log, shares)) / len(shares))
    return error == 0 or stats.upper_tail(excess / math.sqrt(error), freedom) <= WORSE_ALPHA


def decide(finding: Finding, known: Known, before: Sequence[float]) -> None:
    """Lets the finding pass, or not, and says why. before: the ratios of the nights just before
    that were worse than what is known, too."""
    if not applies(finding) or finding.judged is None:
        return
    better = finding.question.better
    shares = [then(known, ratio, better) for ratio in (finding.judged.ratio, *before)]
    worse = worsening(shares[0], better)
    finding.text += f"; known since night {known.night}: {known.note}"
    if worse < finding.threshold:
        finding.extra["acknowledged"] = known.note
        return
    finding.extra["worse"] = "than known"
    finding.text += f"; it is {worse:.1%} worse than it was then"
    if not clearly(finding, shares):
        finding.extra["acknowledged"] = known.note
        finding.text += ", which is no more than nights differ by"
