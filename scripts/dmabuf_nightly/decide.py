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
none is, a night is compared with the last good ones, and what E-divisive saw with those before it.

What was confirmed is held, with a baseline and without: held.py decides from then on, until it is mended.
"""

from collections.abc import Iterable, Mapping, Sequence

from dmabuf_common import stats

from . import edivisive, held
from .earlier import REFERENCE
from .nights import beyond_nights, beyond_usual, lasting, seen_before
from .plan import Rules
from .question import NEARER, Change, Finding, Question, levelled, threshold, worsening
from .states import BETTER, CLEARED, CONFIRMED, INCONCLUSIVE, SAME, SUSPECT

# A change that began longer ago than this has been judged when it was young.
RECENT = 5

# Of alpha, what a look at several nights of sides may take: nothing runs again after it.
LASTING_SHARE = 0.2
# The same look: tonight and the nights before it must each be worse by themselves, as one in twenty is by
# chance (this is two-sided), so that no single night decides.
ALONE = 0.1
# A change that must be larger than this to count can hide any: nothing can be shown by then.
MOST_THRESHOLD = 0.5


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
    ]
    if not large:
        return [], []
    adjusted = stats.CORRECTIONS[rules.correction]([c.p for c in contrasts])
    return [i for i in large if adjusted[i] <= rules.alpha and excludes_one(contrasts[i])], adjusted


def _keep_p(findings: Sequence[Finding], adjusted: Sequence[float]) -> None:
    for finding, p in zip(findings, adjusted, strict=bool(adjusted)):
        finding.p_adjusted = p


def change_suspect(question: Question, limit: float, rules: Rules) -> Change | None:
    """The newest change in history + tonight, if it is recent, no pin accepted it, and it is for the
    worse by at least `limit`; else None. Nights of an earlier loss, which was found and mended, would
    be the change then, and hide this one."""
    # What was before the era of tonight was another level, and is accepted.
    last_era = question.era(len(question.history) - 1) if question.history else 0
    begin = next((i for i in range(len(question.history)) if question.era(i) == last_era), 0)
    nights = [i for i in range(begin, len(question.history)) if i not in question.apart]
    if len(question.new) < rules.least_runs or len(nights) < 2 * edivisive.LEAST_SEGMENT:
        return None
    series = [*(question.history[i] for i in nights), stats.median(question.new)]
    found = edivisive.changes(series)
    if not found:
        return None
    last = found[-1].index
    first = found[-2].index if len(found) > 1 else 0
    if len(series) - last > RECENT or len(series) - last < edivisive.LEAST_SEGMENT:
        return None
    if nights[last] < question.settled:
        return None
    if min(series) <= 0:
        return None
    ratio = stats.median(series[last:]) / stats.median(series[first:last])
    if worsening(ratio, question.better) < limit:
        return None
    return Change(nights[last], tuple(nights[max(first, last - REFERENCE) : last]))


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
        own = finding.contrast
        if finding.question.held and own is not None and finding.state != INCONCLUSIVE:
            held.answer(finding, own, finding.state == SUSPECT, len(findings), finding.state)
        if finding.state == SAME and (finding.question.held or not _changed(finding, rules)):
            _doubt(finding)
    return findings


def _worse_tonight(finding: Finding) -> bool:
    """Whether tonight's own runs are nearer to a loss that counts than to none."""
    return finding.contrast is not None and not finding.nearer_to_none


def _sides_together(
    compared: Sequence[Finding], contrasts: Sequence[stats.Contrast], rules: Rules
) -> None:
    """Asks tonight and the nights just before together, where sides are compared. Not where something is
    held: nights that are known to be slow say nothing about tonight."""
    asked = [f.question.sides and not f.question.held for f in compared]
    if not any(asked):
        return
    together = [
        stats.Strata([*f.question.sides, (f.question.old, f.question.new)]) if wanted else c
        for f, c, wanted in zip(compared, contrasts, asked, strict=True)
    ]
    passed, adjusted = _pass(compared, together, rules)
    for index in passed:
        finding = compared[index]
        worse = worsening(together[index].ratio, finding.question.better) > 0
        tonight = contrasts[index].p <= ALONE and _worse_tonight(finding)
        if asked[index] and worse and tonight:
            finding.state, finding.text = SUSPECT, ""
            finding.together = together[index]
            finding.with_nights = range(len(finding.question.sides))
            finding.p_adjusted = adjusted[index]


def _changed(finding: Finding, rules: Rules) -> bool:
    """Whether the history changed for the worse; the finding is suspect then, and its contrast is that
    of the nights since, with the baseline where there is one, else with the nights before."""
    question = finding.question
    if question.old and not (question.old_nights and _worse_tonight(finding)):
        return False
    change = change_suspect(question, finding.threshold, rules)
    if change is None:
        return False
    nights = [i for i in range(change.index, len(question.past_runs)) if i not in question.apart]
    since = [v for i in nights for v in question.past_runs[i]] + list(question.new)
    old = _reference(question, change) if question.alone else list(question.old)
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
        if question.held:
            held.leave(finding)
        elif question.sides:
            if _sides_agree(finding, rules):
                finding.state = CONFIRMED
                finding.extra["nights"] = "together"
        elif seen_before(question) and (finding.change is not None or beyond_usual(finding, among)):
            finding.state = CONFIRMED
            finding.extra["nights"] = "agree"


def old_for(finding: Finding) -> Sequence[float]:
    """What fresh runs of a suspect are compared with: the baseline, or for a change in the history
    without one the runs of the nights before it."""
    if finding.change is not None and finding.question.alone:
        return _reference(finding.question, finding.change)
    return finding.question.old


def second_look(
    findings: Sequence[Finding], fresh: Mapping[int, tuple[Sequence[float], Sequence[float]]],
    rules: Rules,
) -> None:
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
            # It stays suspect, and so is none of the nights that later ones are compared with.
            finding.text = "suspect, and the reruns gave too few valid runs to say more"
            if "held" in finding.extra:
                held.leave(finding)
            continue
        finding.fresh = stats.Contrast(against, new)
        known.append(finding)
        contrasts.append(finding.fresh)
    passed, adjusted = _pass(known, contrasts, rules)
    _keep_p(known, adjusted)
    for index, finding in enumerate(known):
        worse = worsening(contrasts[index].ratio, finding.question.better) > 0
        slower = index in passed and worse
        if finding.question.held:
            held.again(finding, contrasts[index], slower, len(findings))
        elif not slower:
            finding.state = CLEARED
        elif (
            finding.change is not None
            or lasting(finding.question, contrasts[index], len(findings))
            or beyond_nights(finding.question, contrasts[index], len(findings))
        ):
            finding.state = CONFIRMED
        else:
            finding.extra["reruns"] = "agree"
        if finding.state == CLEARED:
            _doubt(finding)
