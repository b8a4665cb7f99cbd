# SPDX-License-Identifier: GPL-2.0-only
"""What is asked about a metric of a night, and what is found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dmabuf_common import stats

from .earlier import Hold, next_hold
from .plan import Rules
from .states import CONFIRMED, GOOD, SAME, SLOWER

# A night whose loss is less than this share of what would count is nearer to none than to one.
NEARER = 0.5
# Fewer nights of an era have no usual value.
LEAST_ERA = 5
# Nights that differ from all others by more than so many times what they differ from the next one by are
# not of one level: it changed on the way, as after an improvement. That is no difference between nights.
# Of fewer than LEAST_SHIFTED nights, too many look so by chance.
SHIFTED = 3.0
LEAST_SHIFTED = 12


@dataclass
class Question:
    """One metric of one series: tonight's runs, the runs they are compared with, and the medians
    of earlier nights, oldest first, as far as they are comparable. `flagged`: the indices of
    nights that were found slower, whose figures say nothing about the usual spread; `apart`: those
    in which something was held and that were not good. `old_nights`: how many nights `old` is of;
    0: of tonight. `eras`, `settled`: as earlier.View has them. `pinned`: whether `old` is of a baseline
    or a side; else it is of the nights `reference`, which nobody chose. `held`: something was found
    slower than `old`, and is not mended yet; `mended`: a night since was clearly good. `slow`: the
    nights that were slow then, new runs with the old ones of the same night, where sides are compared.
    `sides`: old and new runs of the nights just before, where two sides are compared."""

    id: object
    better: str
    floor: float
    old: Sequence[float]
    new: Sequence[float]
    history: Sequence[float] = ()
    flagged: frozenset[int] = frozenset()
    past_runs: Sequence[Sequence[float]] = ()
    old_nights: int = 0
    eras: Sequence[int] = ()
    settled: int = 0
    held: bool = False
    sides: Sequence[tuple[Sequence[float], Sequence[float]]] = ()
    pinned: bool = True
    reference: Sequence[int] = ()
    apart: frozenset[int] = frozenset()
    mended: bool = False
    slow: Sequence[tuple[Sequence[float], Sequence[float]]] = ()

    @property
    def alone(self) -> bool:
        """Whether nobody chose what tonight is compared with."""
        return not self.pinned or not self.old

    def era(self, index: int) -> int:
        """In which era a night of the history lies."""
        return self.eras[index] if self.eras else 0

    def usual(self) -> list[list[int]]:
        """The nights of each era that were not found slower; eras of few nights have no usual value."""
        found: dict[int, list[int]] = {}
        for index in range(len(self.history)):
            if index not in self.flagged and index not in self.apart:
                found.setdefault(self.era(index), []).append(index)
        return [nights for nights in found.values() if len(nights) >= LEAST_ERA or len(found) == 1]


@dataclass(frozen=True)
class Change:
    """A change for the worse in the history. index: of the first bad night. before: of the nights that
    it is compared with, where there is no baseline."""

    index: int
    before: tuple[int, ...]


@dataclass
class Finding:
    """A question and its answer. `contrast` is None when there was nothing to compare with. `together`:
    tonight and nights just before, where these decided; `with_nights`: which of the history they are."""

    question: Question
    threshold: float
    contrast: stats.Contrast | None
    state: str = SAME
    text: str = ""
    change: Change | None = None
    p_adjusted: float | None = None
    fresh: stats.Contrast | None = None
    together: stats.Contrast | None = None
    with_nights: Sequence[int] = ()
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> stats.Contrast | None:
        """What decided: the fresh runs where there were some."""
        return self.fresh or self.together or self.contrast

    def hold(self, before: Hold | None, night: int, names: Sequence[int]) -> Hold | None:
        """What is held after this night. names: the numbers of the nights of the history."""
        question = self.question
        reference: Sequence[int] = () if question.pinned and question.old else question.reference
        if self.change and question.alone:
            reference = [names[index] for index in self.change.before]
        good = question.held and self.state in GOOD
        return next_hold(before if question.held else None, night, self.state == CONFIRMED, good,
                         reference, self.state in SLOWER) or (None if question.held else before)

    @property
    def nearer_to_none(self) -> bool:
        """Whether the night's loss, if any, is nearer to none than to one that counts."""
        contrast = self.fresh or self.contrast
        return contrast is None or worsening(contrast.ratio, self.question.better) < NEARER * self.threshold


def levelled(question: Question) -> list[float]:
    """The medians of the usual nights, as shares of what was usual in their eras."""
    found = []
    for nights in question.usual():
        middle = stats.median([question.history[i] for i in nights])
        found += [question.history[i] / middle for i in nights] if middle else []
    return found


def threshold(floor: float, history: Sequence[float], rules: Rules) -> float:
    """The relative effect that must be passed."""
    if len(history) < rules.least_runs:
        return floor
    middle = abs(stats.median(history))
    # The plain MAD, as the rule has it, not the one scaled to a standard deviation.
    spread = stats.mad(history) / stats.NORMAL
    step = stats.median([abs(b - a) for a, b in pairwise(history)]) / math.sqrt(2)
    if len(history) >= LEAST_SHIFTED and spread > SHIFTED * step:
        spread = step
    return max(floor, rules.mad_factor * spread / middle if middle else 0.0)


def worsening(ratio: float, better: str) -> float:
    """By how much of the old value the new one is worse; negative when it is better."""
    return 1 - ratio if better == "higher" else ratio - 1
