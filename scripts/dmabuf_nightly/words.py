# SPDX-License-Identifier: GPL-2.0-only
"""The sentences of a judgement: what was decided about a metric, and why."""

from collections.abc import Sequence

from .judged import Judgement, Subject, subject
from .question import Finding, worsening
from .states import CLEARED, CONFIRMED, INCONCLUSIVE, SUSPECT


def describe(result: Judgement, finding: Finding, reruns: bool) -> None:
    """Adds the sentence that says what was decided, and why. reruns: what is suspect may still be run again."""
    about = subject(finding)
    nights = result.nights.get(about, [])
    what = about.metric
    if finding.change is not None:
        first = nights[finding.change.index]
        finding.extra["change_from"] = str(first)
        if finding.question.alone:
            result.old_names[about] = shown_nights([nights[i] for i in finding.change.before])
        if finding.fresh is None:
            what += f" since night {first}"
            finding.extra["new"] = f"nights {first} to {result.night}"
    elif finding.together is not None and finding.fresh is None:
        together = [*(nights[index] for index in finding.with_nights), result.night]
        what += f" of {shown_nights(together)} together"
        finding.extra["new"] = shown_nights(together)
    contrast = finding.judged
    if finding.text:
        return
    if contrast is None:
        finding.text = (
            f"nothing to compare with: no baseline is pinned, and {len(finding.question.history)} "
            "earlier nights show no change"
        ) + unknown(result, about)
        return
    low, high = contrast.interval
    worse = worsening(contrast.ratio, finding.question.better)
    against = result.old_names.get(about, "the nights before")
    finding.text = (
        f"{what} is {abs(worse):.1%} {'worse' if worse > 0 else 'better'} than {against} "
        f"(ratio {contrast.ratio:.3f}, 95 % interval {low:.3f} … {high:.3f}; "
        f"{finding.threshold:.1%} would count)"
    ) + why(result, finding, reruns)
    if finding.question.alone or finding.together:
        finding.text += unknown(result, about)


def unknown(result: Judgement, about: Subject) -> str:
    """What is not known of the nights that tonight is compared with."""
    nights = result.jobless.get(about)
    return (
        f"; an earlier release did not store the jobs of {shown_nights(nights)}: they are compared by what "
        "the engine reported, block size and depth alone"
    ) if nights else ""


def why(result: Judgement, finding: Finding, reruns: bool) -> str:
    """What made a finding what it is."""
    hold = result.holds.get(subject(finding))
    since = f"; as it was since night {hold.since}" if hold and finding.question.held else ""
    if finding.state in (SUSPECT, INCONCLUSIVE) and since:
        again = ", and is run again" if reruns else ""
        return (f"{since.replace('as it was', 'it was slower')}: this night is neither clearly as slow nor "
                f"clearly as fast as before{again}")
    if finding.state == SUSPECT:
        if "reruns" in finding.extra:
            return ("; both reruns agree, but nights may differ by as much: it is confirmed when the "
                    "next night or the one after it agrees")
        return "; not run again yet" if reruns else (
            "; not run again: it is confirmed when the next night or the one after it agrees"
        )
    if finding.state == CONFIRMED:
        if since:
            more = "" if finding.question.pinned else (": it fails until it is as fast as before, a baseline is "
                                                       "pinned, or it is acknowledged")
            return since + more
        return {
            "agree": "; one of the two nights before agrees",
            "together": "; tonight and the nights before agree, each for itself",
        }.get(finding.extra.get("nights", ""), "; both reruns agree")
    if finding.state != CLEARED:
        return ""
    return "; not clear at first, and the reruns are as fast as before" if since else (
        "; suspect at first, and the reruns do not agree")


def shown_nights(numbers: Sequence[int]) -> str:
    """Nights as a report calls them: short where they follow each other."""
    if len(numbers) == 1:
        return f"night {numbers[0]}"
    if len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"nights {numbers[0]} to {numbers[-1]}"
    return f"nights {', '.join(map(str, numbers))}"
