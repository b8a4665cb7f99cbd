# SPDX-License-Identifier: GPL-2.0-only
"""The rules by which a change counts. `selftest` computes how often they are wrong.

A metric is suspect when it became worse by at least max(its floor, 3 × the historical MAD of its
nightly medians), and the bootstrap 95 % interval of the ratio of medians excludes 1, and the rank
test's p, corrected for all metrics of the night, is at most alpha; or when E-divisive finds that
its history changed for the worse in one of the last nights. A suspect is run twice more, and only
the fresh runs, by the same rule, count from then on.

Reruns of one night share what that night has of its own, and so agree with it whatever the cause. So
a suspect whose reruns agree is confirmed at once only if it is worse by more than nights differ by
themselves; otherwise when another one of three nights in a row agrees, or E-divisive saw the change.
A night that was only measured has no reruns: it is confirmed when another one of three in a row agrees
and both are together worse than the usual night by as much as counts, or E-divisive saw the change.
Sides of a night share what it has of its own, so that three nights together can be asked.

Where a baseline is pinned, what E-divisive saw counts only if it is worse than the baseline, too. Where
none is, what was confirmed is held against the nights before it until it is as fast as these again.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dmabuf_common import stats

from . import edivisive
from .earlier import Decided, Hold, Pin, counts, next_hold
from .plan import Rules

SAME = "same"
BETTER = "better"
SUSPECT = "suspect"
CONFIRMED = "confirmed"
CLEARED = "cleared"
INCONCLUSIVE = "inconclusive"
# What says that a night was slower.
SLOWER = (SUSPECT, CONFIRMED)

# A change that began longer ago than this has been judged when it was young.
RECENT = 5

# How often, at most, a night may confirm by itself what is none but the night: of all its metrics.
NIGHT_ALPHA = 0.02
# The same while too few nights are known to say how much nights differ: what is assumed may be wrong.
FEW_ALPHA = 0.003
# Fewer nights do not say how much nights differ, and a baseline of fewer may be off by as much.
LEAST_NIGHTS = 6
LEAST_PINNED = 3
# Of alpha, what a look at several nights of sides may take: nothing runs again after it.
LASTING_SHARE = 0.2
# The same look: tonight and the nights before it must each be worse by themselves, as one in twenty is by
# chance (this is two-sided), so that no single night decides.
ALONE = 0.1
# A night whose loss is less than this share of what would count is nearer to none than to one.
NEARER = 0.5
# So many nights before a change at most are what is compared with.
REFERENCE = 10
# Fewer nights of an era have no usual value.
LEAST_ERA = 5
# A change that must be larger than this to count can hide any: nothing can be shown by then.
MOST_THRESHOLD = 0.5
# Another one of so many nights before has to agree.
BEFORE = 2


@dataclass
class Question:
    """One metric of one series: tonight's runs, the runs they are compared with, and the medians
    of earlier nights, oldest first, as far as they are comparable. `flagged`: the indices of
    nights that were found slower, whose figures say nothing about the usual spread. `old_nights`: how
    many nights `old` is of; 0: of tonight. `eras`, `settled`: as earlier.View has them. `held`: `old` is
    of the nights before a confirmed change, with no baseline. `sides`: old and new runs of the nights
    just before, where two sides are compared."""

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

    def era(self, index: int) -> int:
        """In which era a night of the history lies."""
        return self.eras[index] if self.eras else 0

    def usual(self) -> list[list[int]]:
        """The nights of each era that were not found slower; eras of few nights have no usual value."""
        found: dict[int, list[int]] = {}
        for index in range(len(self.history)):
            if index not in self.flagged:
                found.setdefault(self.era(index), []).append(index)
        return [nights for nights in found.values() if len(nights) >= LEAST_ERA or len(found) == 1]


@dataclass(frozen=True)
class Change:
    """A change for the worse in the history. first … index are the nights before it that are alike;
    the index is that of the first bad night."""

    first: int
    index: int

    @property
    def before(self) -> range:
        """The nights that it is compared with, where there is no baseline."""
        return range(max(self.first, self.index - REFERENCE), self.index)


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
        reference: list[int] = []
        if self.change and not self.question.old:
            reference = [names[index] for index in self.change.before]
        fast = self.question.held and self.state in (SAME, BETTER)
        return next_hold(before, night, self.state == CONFIRMED, fast, reference)


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
    spread = stats.mad(history) / stats.NORMAL / middle if middle else 0.0
    return max(floor, rules.mad_factor * spread)


def worsening(ratio: float, better: str) -> float:
    """By how much of the old value the new one is worse; negative when it is better."""
    return 1 - ratio if better == "higher" else ratio - 1


def excludes_one(contrast: stats.Contrast) -> bool:
    """Whether the interval of the ratio lies on one side of 1."""
    if type(contrast) is stats.Contrast and (
        max(contrast.new) < min(contrast.old) or min(contrast.new) > max(contrast.old)
    ):
        return True  # so does every resample, which need not be drawn
    low, high = contrast.interval
    return high < 1 or low > 1


def _pass(
    findings: Sequence[Finding], contrasts: Sequence[stats.Contrast], rules: Rules
) -> tuple[list[int], list[float]]:
    """Which contrasts differ by the rule, in either direction, and the corrected p of all. The costly
    tests are made only where the effect is large enough to matter; that changes no answer."""
    large = [
        i for i, (f, c) in enumerate(zip(findings, contrasts, strict=True))
        if abs(worsening(c.ratio, f.question.better)) >= f.threshold
    ]  # fmt: skip
    if not large:
        return [], []
    adjusted = stats.CORRECTIONS[rules.correction]([c.p for c in contrasts])
    return [i for i in large if adjusted[i] <= rules.alpha and excludes_one(contrasts[i])], adjusted


def _keep_p(findings: Sequence[Finding], adjusted: Sequence[float]) -> None:
    for finding, p in zip(findings, adjusted, strict=bool(adjusted)):
        finding.p_adjusted = p


def change_suspect(question: Question, limit: float, rules: Rules) -> Change | None:
    """The newest change in history + tonight, if it is recent, no pin accepted it, and it is for the
    worse by at least `limit`; else None."""
    # What was before the era of tonight was another level, and is accepted.
    last_era = question.era(len(question.history) - 1) if question.history else 0
    begin = next((i for i in range(len(question.history)) if question.era(i) == last_era), 0)
    if (
        len(question.new) < rules.least_runs
        or len(question.history) - begin < 2 * edivisive.LEAST_SEGMENT
    ):  # fmt: skip
        return None
    series = [*question.history[begin:], stats.median(question.new)]
    found = edivisive.changes(series)
    if not found:
        return None
    last = found[-1].index
    first = found[-2].index if len(found) > 1 else 0
    if len(series) - last > RECENT or len(series) - last < edivisive.LEAST_SEGMENT:
        return None
    if begin + last < question.settled:
        return None
    ratio = stats.median(series[last:]) / stats.median(series[first:last])
    worse = worsening(ratio, question.better) >= limit
    return Change(begin + first, begin + last) if worse else None


def first_look(questions: Sequence[Question], rules: Rules) -> list[Finding]:
    """Judges a night by its own runs: same, better, suspect or inconclusive; confirmed where it is held."""
    findings = []
    for question in questions:
        finding = Finding(question, threshold(question.floor, levelled(question), rules), None)
        findings.append(finding)
        if len(question.new) < rules.least_runs:
            finding.state = INCONCLUSIVE
            finding.text = f"{len(question.new)} valid runs, and {rules.least_runs} are needed"
        elif min([*question.old, *question.new]) <= 0:
            finding.state = INCONCLUSIVE
            finding.text = "a value is not positive, so that no ratio can be made"
        elif question.old:
            finding.contrast = stats.Contrast(question.old, question.new)
    compared = [f for f in findings if f.contrast]
    contrasts = [f.contrast for f in compared if f.contrast]
    least = rules.alpha / max(len(compared), 1)
    passed, adjusted = _pass(compared, contrasts, rules)
    _keep_p(compared, adjusted)
    for index in passed:
        finding = compared[index]
        bad = worsening(contrasts[index].ratio, finding.question.better) > 0
        finding.state = SUSPECT if bad else BETTER
    for finding, contrast in zip(compared, contrasts, strict=True):
        if stats.least_p(len(contrast.old), len(contrast.new)) > least:
            finding.state = INCONCLUSIVE
            finding.text = (
                f"{len(contrast.new)} runs against {len(contrast.old)} can show nothing among "
                f"{len(compared)} metrics; more repeats or a baseline of more nights can"
            )
    _sides_together(compared, contrasts, rules)
    for finding in findings:
        if finding.question.held:
            _held(finding)
        elif finding.state == SAME and not _changed(finding, rules):
            _doubt(finding)
    return findings


def _worse_tonight(finding: Finding) -> bool:
    """Whether tonight's own runs are nearer to a loss that counts than to none."""
    contrast = finding.contrast
    if contrast is None:
        return False
    return worsening(contrast.ratio, finding.question.better) >= NEARER * finding.threshold


def _sides_together(
    compared: Sequence[Finding], contrasts: Sequence[stats.Contrast], rules: Rules
) -> None:
    """Asks tonight and the nights just before together, where sides are compared."""
    if not any(f.question.sides for f in compared):
        return
    together = [
        stats.Strata([*f.question.sides, (f.question.old, f.question.new)]) if f.question.sides else c
        for f, c in zip(compared, contrasts, strict=True)
    ]  # fmt: skip
    passed, adjusted = _pass(compared, together, rules)
    for index in passed:
        finding = compared[index]
        worse = worsening(together[index].ratio, finding.question.better) > 0
        tonight = contrasts[index].p <= ALONE and _worse_tonight(finding)
        if finding.question.sides and worse and tonight:
            finding.state, finding.text = SUSPECT, ""
            finding.together = together[index]
            finding.with_nights = range(len(finding.question.sides))
            finding.p_adjusted = adjusted[index]


def _held(finding: Finding) -> None:
    """What was confirmed without a baseline stays so until it is nearer to what it was before than to
    what would count."""
    if finding.state == SUSPECT or (finding.state in (SAME, BETTER) and _worse_tonight(finding)):
        finding.state = CONFIRMED
        finding.extra["held"] = "yes"


def _changed(finding: Finding, rules: Rules) -> bool:
    """Whether the history changed for the worse; the finding is suspect then, and its contrast is that
    of the nights since, with the baseline where there is one, else with the nights before."""
    question = finding.question
    if question.old and not (question.old_nights and _worse_tonight(finding)):
        return False
    change = change_suspect(question, finding.threshold, rules)
    if change is None:
        return False
    since = [v for runs in question.past_runs[change.index :] for v in runs] + list(question.new)
    old = list(question.old) or _reference(question, change)
    if not old or min([*old, *since]) <= 0:
        return False
    contrast = stats.Contrast(old, since)
    if worsening(contrast.ratio, question.better) < finding.threshold or not excludes_one(contrast):
        return False
    finding.state, finding.change, finding.contrast = SUSPECT, change, contrast
    finding.p_adjusted = None  # that was tonight's, which did not decide
    return True


def _reference(question: Question, change: Change) -> list[float]:
    return [value for index in change.before for value in question.past_runs[index]]


def _doubt(finding: Finding) -> None:
    """What is found to be the same where nights differ by half is not shown to be so."""
    if finding.threshold >= MOST_THRESHOLD:
        finding.state = INCONCLUSIVE
        finding.text = (
            f"nights differ so much that nothing can be shown: {finding.threshold:.1%} would count; find "
            "out why they do"
        )


def _spread_nights(question: Question, until: int | None = None) -> list[list[int]]:
    """The nights, by their eras, that say how much nights differ."""
    nights = len(question.past_runs) if until is None else until
    return [part for part in ([i for i in era if i < nights] for era in question.usual()) if part]


def few_nights(question: Question, until: int | None = None) -> bool:
    """Whether too few nights are known to say how much nights differ."""
    eras = _spread_nights(question, until)
    return sum(map(len, eras)) - max(0, len(eras) - 1) < LEAST_NIGHTS


def night_spread(question: Question, until: int | None = None) -> tuple[float, float]:
    """The relative standard deviation from night to night beyond what the runs of a night explain,
    and its degrees of freedom. Never below half the floor, and that where too few nights are known:
    a floor says what is of no interest. until: the nights before this one only."""
    least = question.floor / 2
    eras = [[question.past_runs[i] for i in era] for era in _spread_nights(question, until)]
    known = [runs for era in eras for runs in era]
    if few_nights(question, until) or min(min(runs) for runs in known) <= 0:
        return least, math.inf
    medians = [[math.log(stats.median(runs)) for runs in era] for era in eras]
    freedom = len(known) - len(eras)
    within = [stats.median_variance([math.log(value) for value in runs]) for runs in known]
    total = sum(stats.variance(era) * (len(era) - 1) for era in medians if len(era) > 1)
    between = total / freedom - sum(within) / len(within)
    return max(least, math.sqrt(max(0.0, between))), freedom


def beyond_nights(
    question: Question, contrast: stats.Contrast, among: int,
    slow: Sequence[Sequence[float]] = (), until: int | None = None,
) -> bool:  # fmt: skip
    """Whether the new runs, and those of the nights `slow`, are together worse than the old ones by more
    than nights differ, so seldom that it would be no more than NIGHT_ALPHA of the nights, each with
    `among` metrics; FEW_ALPHA where little is known of nights."""
    if not question.old_nights:
        return True
    spread, freedom = night_spread(question, until)
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
    few = few_nights(question, until) or question.old_nights < LEAST_PINNED
    limit = (FEW_ALPHA if few else NIGHT_ALPHA) / among
    return stats.upper_tail(abs(math.log(ratio)) / math.sqrt(error), freedom) <= limit


def keep_confirmed(finding: Finding, decided: Mapping[int, Decided], pin: Pin | None) -> None:
    """What was confirmed the night before, against the same baseline, and is as slow tonight needs no
    rerun."""
    before = {night: found.state for night, found in decided.items() if counts(night, found, pin)}
    if finding.state not in SLOWER or not before or before[max(before)] != CONFIRMED:
        return
    finding.state = CONFIRMED
    last_other = max((night for night in before if before[night] != CONFIRMED), default=-1)
    finding.extra["since"] = str(min(night for night in before if night > last_other))


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
    usual = [
        v for i, v in enumerate(question.history) if i not in question.flagged and question.era(i) == era
    ]
    slow = _slow_before(question)
    if len(usual) < LEAST_NIGHTS or question.old_nights < LEAST_PINNED:
        past = [question.past_runs[i] for i in slow]
        return finding.contrast is not None and beyond_nights(question, finding.contrast, among, past)
    levels = [*(question.history[i] for i in slow), stats.median(question.new)]
    ratio = sum(levels) / len(levels) / stats.median(usual)
    return worsening(ratio, question.better) >= finding.threshold


def _sides_agree(finding: Finding, rules: Rules) -> bool:
    """Whether nights of sides together leave no doubt, and neither tonight nor those before do it alone."""
    if finding.together is None or finding.p_adjusted is None:
        return False
    before = stats.Strata(finding.question.sides)
    worse = worsening(before.ratio, finding.question.better) >= NEARER * finding.threshold
    return worse and before.p <= ALONE and finding.p_adjusted <= LASTING_SHARE * rules.alpha


def agree(findings: Iterable[Finding], among: int, rules: Rules) -> None:
    """Decides about suspects that nothing will run again for: the runs of a night that follows a
    suspect one are fresh, as reruns are, so that another night that agrees confirms. `among`: how many
    metrics the night has."""
    for finding in findings:
        question = finding.question
        if finding.state != SUSPECT:
            continue
        if question.sides:
            if _sides_agree(finding, rules):
                finding.state = CONFIRMED
                finding.extra["nights"] = "together"
        elif seen_before(question) and (finding.change is not None or beyond_usual(finding, among)):
            finding.state = CONFIRMED
            finding.extra["nights"] = "agree"


def old_for(finding: Finding) -> Sequence[float]:
    """What fresh runs of a suspect are compared with: the baseline, or for a change in the history
    without one the runs of the nights before it."""
    if finding.question.old or finding.change is None:
        return finding.question.old
    return _reference(finding.question, finding.change)


def second_look(
    findings: Sequence[Finding], fresh: Mapping[int, tuple[Sequence[float], Sequence[float]]],
    rules: Rules,
) -> None:  # fmt: skip
    """Decides about suspects by fresh runs alone: those that made them suspect were chosen for
    being low. `fresh`: the finding's index → (old, new); old is [] where old_for() has it."""
    known = []
    contrasts = []
    for index, (old, new) in fresh.items():
        finding = findings[index]
        if finding.state != SUSPECT:
            continue
        against = list(old) or list(old_for(finding))
        if len(new) < rules.least_runs or not against or min([*against, *new]) <= 0:
            finding.state = INCONCLUSIVE
            finding.text = "suspect, and the reruns gave too few valid runs to say more"
            continue
        finding.fresh = stats.Contrast(against, new)
        known.append(finding)
        contrasts.append(finding.fresh)
    passed, adjusted = _pass(known, contrasts, rules)
    _keep_p(known, adjusted)
    for index, finding in enumerate(known):
        worse = worsening(contrasts[index].ratio, finding.question.better) > 0
        if index not in passed or not worse:
            finding.state = CLEARED
            _doubt(finding)
        elif (
            finding.change is not None
            or lasting(finding.question, contrasts[index], len(findings))
            or beyond_nights(finding.question, contrasts[index], len(findings))
        ):
            finding.state = CONFIRMED
        else:
            finding.extra["reruns"] = "agree"
