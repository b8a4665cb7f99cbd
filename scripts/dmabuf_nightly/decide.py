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
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dmabuf_common import stats

from . import edivisive
from .plan import Rules

SAME = "same"
BETTER = "better"
SUSPECT = "suspect"
CONFIRMED = "confirmed"
CLEARED = "cleared"
INCONCLUSIVE = "inconclusive"

# A change that began longer ago than this has been judged when it was young.
RECENT = 5

# How often, at most, a night may confirm by itself what is none but the night: of all its metrics.
NIGHT_ALPHA = 0.02
# Fewer nights do not say how much nights differ.
LEAST_NIGHTS = 6
# A change that must be larger than this to count can hide any: nothing can be shown by then.
MOST_THRESHOLD = 0.5
# Another one of so many nights before has to agree.
BEFORE = 2


@dataclass
class Question:
    """One metric of one series: tonight's runs, the runs they are compared with, and the medians
    of earlier nights, oldest first, as far as they are comparable. `flagged`: the indices of
    nights that were found slower, whose figures say nothing about the usual spread. `old_nights`: how
    many nights `old` is of; 0: of tonight."""

    id: object
    better: str
    floor: float
    old: Sequence[float]
    new: Sequence[float]
    history: Sequence[float] = ()
    flagged: frozenset[int] = frozenset()
    past_runs: Sequence[Sequence[float]] = ()
    old_nights: int = 0


@dataclass
class Finding:
    """A question and its answer. `contrast` is None when there was nothing to compare with."""

    question: Question
    threshold: float
    contrast: stats.Contrast | None
    state: str = SAME
    text: str = ""
    change_from: int | None = None
    p_adjusted: float | None = None
    fresh: stats.Contrast | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> stats.Contrast | None:
        """What decided: the fresh runs where there were some."""
        return self.fresh or self.contrast


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
    low, high = contrast.interval
    return high < 1 or low > 1


def _pass(findings: Sequence[Finding], contrasts: Sequence[stats.Contrast], rules: Rules) -> list[int]:
    """Which contrasts differ by the rule, in either direction. The costly tests are made only
    where the effect is large enough to matter; that changes no answer."""
    large = [
        i for i, (f, c) in enumerate(zip(findings, contrasts, strict=True))
        if abs(worsening(c.ratio, f.question.better)) >= f.threshold
    ]  # fmt: skip
    if not large:
        return []
    adjusted = stats.CORRECTIONS[rules.correction]([c.p for c in contrasts])
    for finding, p in zip(findings, adjusted, strict=True):
        finding.p_adjusted = p
    return [i for i in large if adjusted[i] <= rules.alpha and excludes_one(contrasts[i])]


def change_suspect(question: Question, limit: float, rules: Rules) -> int | None:
    """The index in history + tonight of the first bad night, if the newest change is recent and
    for the worse by at least `limit`; else None."""
    if len(question.new) < rules.least_runs or len(question.history) < 2 * edivisive.LEAST_SEGMENT:
        return None
    series = [*question.history, stats.median(question.new)]
    found = edivisive.changes(series)
    if not found:
        return None
    last = found[-1].index
    first = found[-2].index if len(found) > 1 else 0
    if len(series) - last > RECENT or len(series) - last < edivisive.LEAST_SEGMENT:
        return None
    ratio = stats.median(series[last:]) / stats.median(series[first:last])
    return last if worsening(ratio, question.better) >= limit else None


def first_look(questions: Sequence[Question], rules: Rules) -> list[Finding]:
    """Judges a night by its own runs: same, better, suspect or inconclusive."""
    findings = []
    for question in questions:
        usual = [v for i, v in enumerate(question.history) if i not in question.flagged]
        finding = Finding(question, threshold(question.floor, usual, rules), None)
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
    for index in _pass(compared, contrasts, rules):
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
    for finding in findings:
        if finding.state == SAME:
            finding.change_from = change_suspect(finding.question, finding.threshold, rules)
            if finding.change_from is not None:
                finding.state = SUSPECT
            else:
                _doubt(finding)
    return findings


def _doubt(finding: Finding) -> None:
    """What is found to be the same where nights differ by half is not shown to be so."""
    if finding.threshold >= MOST_THRESHOLD:
        finding.state = INCONCLUSIVE
        finding.text = (
            f"nights differ so much that nothing can be shown: {finding.threshold:.1%} would count; find "
            "out why they do"
        )


def night_spread(question: Question) -> tuple[float, float]:
    """The relative standard deviation from night to night beyond what the runs of a night explain,
    and its degrees of freedom. Never below half the floor, and that where too few nights are known:
    a floor says what is of no interest."""
    least = question.floor / 2
    known = [runs for i, runs in enumerate(question.past_runs) if i not in question.flagged]
    if len(known) < LEAST_NIGHTS or min(min(runs) for runs in known) <= 0:
        return least, math.inf
    medians = [math.log(stats.median(runs)) for runs in known]
    within = [stats.median_variance([math.log(value) for value in runs]) for runs in known]
    between = stats.variance(medians) - sum(within) / len(within)
    return max(least, math.sqrt(max(0.0, between))), len(known) - 1


def beyond_nights(question: Question, contrast: stats.Contrast, among: int) -> bool:
    """Whether the new runs are worse than the old ones by more than nights differ, so seldom that
    it would be no more than NIGHT_ALPHA of the nights, each with `among` metrics."""
    if not question.old_nights:
        return True
    spread, freedom = night_spread(question)
    new = stats.median_variance([math.log(value) for value in contrast.new])
    error = spread**2 * (1 + 1 / question.old_nights)
    error += new * (1 + len(contrast.new) / len(contrast.old))
    loss = abs(math.log(contrast.ratio)) / math.sqrt(error)
    return stats.upper_tail(loss, freedom) <= NIGHT_ALPHA / among


def seen_before(question: Question) -> bool:
    """Whether one of the last nights was found slower, too."""
    nights = len(question.history)
    return any(nights - BEFORE <= index < nights for index in question.flagged)


def beyond_usual(finding: Finding, among: int) -> bool:
    """Whether tonight and the nights that were found slower just before are together worse than
    the usual night, too. They share the baseline with each other, and whatever is wrong with it."""
    question = finding.question
    nights = len(question.history)
    usual = [v for i, v in enumerate(question.history) if i not in question.flagged]
    if len(usual) < LEAST_NIGHTS:
        return finding.contrast is not None and beyond_nights(question, finding.contrast, among)
    slow = [question.history[i] for i in sorted(question.flagged) if nights - BEFORE <= i < nights]
    slow.append(stats.median(question.new))
    ratio = sum(slow) / len(slow) / stats.median(usual)
    return worsening(ratio, question.better) >= finding.threshold


def agree(findings: Iterable[Finding], among: int) -> None:
    """Decides about suspects that nothing will run again for: the runs of a night that follows a
    suspect one are fresh, as reruns are, so that another night that agrees confirms. `among`: how many
    metrics the night has."""
    for finding in findings:
        if finding.state != SUSPECT or not seen_before(finding.question):
            continue
        if finding.change_from is not None or beyond_usual(finding, among):
            finding.state = CONFIRMED
            finding.extra["nights"] = "agree"


def old_for(finding: Finding) -> Sequence[float]:
    """What fresh runs of a suspect are compared with: the baseline, or for a change in the history
    the runs of up to five nights before it."""
    if finding.change_from is None:
        return finding.question.old
    nights = finding.question.past_runs[max(0, finding.change_from - 5) : finding.change_from]
    return [value for night in nights for value in night]


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
    passed = _pass(known, contrasts, rules)
    for index, finding in enumerate(known):
        worse = worsening(contrasts[index].ratio, finding.question.better) > 0
        if index not in passed or not worse:
            finding.state = CLEARED
            _doubt(finding)
        elif (
            finding.change_from is not None
            or seen_before(finding.question)
            or beyond_nights(finding.question, contrasts[index], len(findings))
        ):
            finding.state = CONFIRMED
        else:
            finding.extra["reruns"] = "agree"
