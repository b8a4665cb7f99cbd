# SPDX-License-Identifier: GPL-2.0-only
"""The rules, each with a case that it alone decides."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from dmabuf_common import stats
from dmabuf_nightly import bisect, decide, earlier, nights, selftest
from dmabuf_nightly.earlier import View
from dmabuf_nightly.nights import beyond_nights, night_spread
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.question import Change, Finding, Question, threshold
from dmabuf_nightly.scenarios import SCENARIOS, Scenario
from dmabuf_nightly.states import BETTER, CLEARED, CONFIRMED, INCONCLUSIVE, SAME, SUSPECT

RULES = Rules()


def around(middle: float, count: int = 10, spread: float = 0.01) -> list[float]:
    """Values spread evenly around the middle, the middle being their median."""
    return [float(v) for v in np.linspace(middle * (1 - spread), middle * (1 + spread), count)]


def look(old: Sequence[float], new: Sequence[float], better: str = "higher",
         history: Sequence[float] = (), floor: float = 0.02) -> Finding:
    return decide.first_look([Question(0, better, floor, old, new, history)], RULES)[0]


def test_a_clear_loss_is_suspect_and_a_clear_gain_is_better() -> None:
    assert look(around(100, 30), around(90)).state == SUSPECT
    assert look(around(100, 30), around(110)).state == BETTER
    assert look(around(100, 30), around(110), "lower").state == SUSPECT
    assert look(around(100, 30), around(100)).state == SAME


def test_a_loss_below_the_floor_does_not_count_however_certain() -> None:
    old, new = around(100, 30, 0.001), around(98.5, 10, 0.001)
    assert stats.rank_p(old, new) < 1e-4
    assert look(old, new).state == SAME
    assert look(old, new, floor=0.01).state == SUSPECT


def test_a_loss_within_three_mad_of_the_history_does_not_count() -> None:
    # Plain MAD of 96 … 104 around 100 is 2: 6 % must be passed.
    history = [96, 98, 100, 102, 104]
    assert threshold(0.02, history, RULES) == pytest.approx(0.06)
    assert look(around(100, 30), around(95), history=history).state == SAME
    assert look(around(100, 30), around(95)).state == SUSPECT


def test_a_loss_among_many_metrics_must_be_clearer() -> None:
    """p near 0.009 counts alone and not as one of twelve."""
    old, new = around(100, 10, 0.08), around(92.5, 10, 0.08)
    question = Question(0, "higher", 0.02, old, new)
    assert 0.05 / 12 < stats.rank_p(old, new) < 0.05
    assert decide.first_look([question], RULES)[0].state == SUSPECT
    others = [Question(i, "higher", 0.02, around(100, 10), around(100, 10)) for i in range(1, 12)]
    assert decide.first_look([question, *others], RULES)[0].state == SAME


def test_few_runs_decide_nothing() -> None:
    assert look(around(100, 30), around(50, 4)).state == INCONCLUSIVE
    questions = [Question(i, "higher", 0.02, around(100, 5), around(50, 5)) for i in range(12)]
    findings = decide.first_look(questions, RULES)
    assert {f.state for f in findings} == {INCONCLUSIVE}
    assert "can show nothing among 12 metrics" in findings[0].text


def test_reruns_decide_and_the_first_runs_do_not() -> None:
    for fresh, state in ((around(90, 20), CONFIRMED), (around(100, 20), CLEARED),
                         (around(90, 3), SUSPECT)):
        findings = [look(around(100, 30), around(90))]
        decide.second_look(findings, {0: ([], fresh)}, RULES)
        assert findings[0].state == state


def second(fresh: float, spread: float, old_nights: int, flagged: frozenset[int] = frozenset()) -> str:
    """The state after reruns around `fresh`, where ten earlier nights differ by `spread`."""
    past = [around(100 + spread * (-1) ** i, 10) for i in range(10)]
    history = [stats.median(runs) for runs in past]
    question = Question(0, "higher", 0.02, around(100, 30), around(fresh), history, flagged, past,
                        old_nights)
    findings = [Finding(question, 0.02, stats.Contrast(question.old, question.new),
                               SUSPECT)]
    decide.second_look(findings, {0: ([], around(fresh, 20))}, RULES)
    return findings[0].state


def test_a_night_alone_confirms_only_what_nights_do_not_differ_by() -> None:
    assert second(90, 0.1, 3) == CONFIRMED
    assert second(96, 3, 3) == SUSPECT
    assert second(85, 3, 3) == CONFIRMED
    # Half the floor is taken for granted, and sides of one night do not differ by nights.
    assert second(97.4, 0.0, 3) == SUSPECT
    assert second(97.4, 0.0, 0) == CONFIRMED


def test_one_of_the_two_nights_before_has_to_agree() -> None:
    assert second(96, 3, 3, frozenset({9})) == CONFIRMED
    assert second(96, 3, 3, frozenset({8})) == CONFIRMED
    assert second(96, 3, 3, frozenset({7})) == SUSPECT


def test_a_change_in_the_history_is_suspect_without_a_baseline() -> None:
    rng = np.random.default_rng(1)
    history = [*rng.normal(100, 1, 20), *rng.normal(94, 1, 2)]
    past = [around(v, 10) for v in history]
    question = Question(0, "higher", 0.02, [], around(94), history, frozenset(), past)
    finding = decide.first_look([question], RULES)[0]
    assert (finding.state, finding.change) == (SUSPECT, Change(20, tuple(range(10, 20))))
    assert len(decide.old_for(finding)) == 100  # ten nights before the change
    decide.second_look([finding], {0: ([], around(94, 20))}, RULES)
    assert finding.state == CONFIRMED


def test_an_old_change_is_not_suspected_again() -> None:
    rng = np.random.default_rng(1)
    history = [*rng.normal(100, 1, 20), *rng.normal(94, 1, 9)]
    question = Question(0, "higher", 0.02, [], around(94), history)
    assert decide.first_look([question], RULES)[0].state == SAME


@pytest.mark.parametrize(
    ("new", "status"),
    [(around(90), bisect.BAD), (around(100), bisect.GOOD), (around(98, 10, 0.04), None)],
)
def test_bisect_says_good_bad_or_nothing(new: list[float], status: int | None) -> None:
    step = bisect.classify(stats.Contrast(around(100, 30), new), "higher", 0.03, 0.05)
    assert (step.status if step else None) == status


def test_the_selftest_fails_when_the_rules_are_bad() -> None:
    """A check that cannot fail is none: with the gates taken out, claims must not hold."""
    loose = Rules(alpha=0.2, mad_factor=0.0)
    scenario = Scenario("A/A", 20, 4, between=0.02, most_false=0.01)
    assert [h for h, _ in selftest.check(scenario, selftest.simulate(scenario, loose))] == [False]
    strict = Rules(mad_factor=30.0)
    scenario = Scenario("5 %", 10, 3, slow=0.95, least_power=0.95)
    assert [h for h, _ in selftest.check(scenario, selftest.simulate(scenario, strict))] == [False]


def test_while_little_is_known_of_nights_two_that_agree_must_be_clearly_worse() -> None:
    """They share the baseline, and whatever is wrong with it."""
    def state(level: float, nights: int, old_nights: int) -> str:
        past = [around(100)] * nights + [around(level)]
        question = Question(0, "higher", 0.02, around(100, 30), around(level),
                            [stats.median(runs) for runs in past], frozenset({nights}), past, old_nights)
        finding = Finding(question, 0.02, stats.Contrast(question.old, question.new), SUSPECT)
        decide.second_look([finding] * 12, {0: ([], around(level, 20))}, RULES)
        return finding.state

    assert state(97, 10, 3) == CONFIRMED
    assert state(97, 3, 3) == SUSPECT and state(97, 10, 1) == SUSPECT
    assert state(96, 3, 3) == CONFIRMED and state(92, 10, 1) == CONFIRMED


@pytest.mark.parametrize("name", ["pinned anew", "no baseline", "sides, measured only", "the first 6 nights"])
def test_a_scenario_of_the_selftest_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them, with the rule taken out that it is about."""
    scenarios = [s for s in SCENARIOS if name in s.name and s.most_false is not None]
    scenario = replace(scenarios[0], trials=25)
    good = selftest.simulate(scenario, RULES)
    if name == "pinned anew":
        monkeypatch.setattr(selftest, "view", lambda nights, *_: View(frozenset(range(len(nights))), (), 0))
        monkeypatch.setattr(earlier, "counts", lambda *_: True)
    elif name == "the first 6 nights":
        monkeypatch.setattr(nights, "LEAST_NIGHTS", 1)
        monkeypatch.setattr(nights, "NIGHT_ALPHA", 0.5)
    elif name == "no baseline":
        monkeypatch.setattr(decide, "change_suspect", lambda question, *_: Change(
            len(question.history) - 2, tuple(range(len(question.history) - 2))))
        monkeypatch.setattr(decide, "threshold", lambda *_: 0.001)
    else:
        monkeypatch.setattr(decide, "LASTING_SHARE", 20.0)
        monkeypatch.setattr(decide, "ALONE", 1.0)
        monkeypatch.setattr(decide, "threshold", lambda *_: 0.001)
        monkeypatch.setattr(decide, "_pass", lambda f, c, _: (list(range(len(f))), [c_.p for c_ in c]))
    bad = selftest.simulate(scenario, RULES)
    assert good.alarmed <= 2 and bad.alarmed >= good.alarmed + 4


def test_confidence_bounds() -> None:
    # No event in n trials: 1 - 0.05^(1/n).
    assert selftest.upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert selftest.lower_bound(100, 100) == pytest.approx(0.05 ** (1 / 100))


def agreed(levels: Sequence[float], flagged: Sequence[int], tonight: float, better: str = "higher",
           change: int | None = None) -> str:
    """The state of a suspect that is not run again, after nights at these levels."""
    past = [around(level) for level in levels]
    question = Question(0, better, 0.02, around(100, 30), around(tonight), levels, frozenset(flagged),
                        past, 3)
    finding = Finding(question, 0.02, stats.Contrast(question.old, question.new), SUSPECT,
                             change=None if change is None else Change(change, tuple(range(change))))
    decide.agree([finding], 12, RULES)
    return finding.state


def test_without_reruns_another_night_has_to_agree() -> None:
    usual = [100.0] * 10
    assert agreed(usual, [], 90) == SUSPECT
    assert agreed([*usual, 90], [10], 90) == CONFIRMED
    assert agreed([*usual, 90, 100], [10], 90) == CONFIRMED
    assert agreed([*usual, 90, 100, 100], [10], 90) == SUSPECT
    assert agreed([*usual, 110], [10], 110, "lower") == CONFIRMED


def test_without_reruns_nights_must_be_slower_than_usual_and_not_than_the_baseline_alone() -> None:
    """The baseline was pinned on good days: all nights are some 1.5 % below it."""
    assert agreed([98.5] * 10 + [97.5], [10], 97.5) == SUSPECT
    assert agreed([98.5] * 10 + [96], [10], 97) == CONFIRMED
    # The slow nights themselves are not usual, and those of long ago are not of this change.
    assert agreed([100.0] * 6 + [90.0] * 9 + [97], list(range(6, 16)), 97.2) == CONFIRMED
    assert agreed([100.0] * 6 + [90.0] * 9 + [99], list(range(6, 14)) + [15], 97.2) == SUSPECT
    assert agreed([98.5] * 10 + [97.5], [10], 97.5, change=10) == CONFIRMED


def test_without_reruns_and_without_a_history_the_baseline_must_be_passed_clearly() -> None:
    assert agreed([100.0] * 5 + [97.0], [5], 97) == SUSPECT
    assert agreed([100.0] * 5 + [90.0], [5], 90) == CONFIRMED


def test_an_interval_that_holds_one_does_not_count() -> None:
    """Most runs are slow and some are not: the rank test is sure, and the median is not."""
    old, new = around(100, 30), [90.0] * 7 + [100.5] * 3
    assert stats.rank_p(old, new) < 0.02
    assert look(old, new).state == SAME
    assert look(old, [*new[:7], 90.0, 90.0, 90.0]).state == SUSPECT


def test_alpha_is_what_the_plan_says() -> None:
    old, new = around(100, 30, 0.05), around(97.2, 10, 0.02)
    p = stats.rank_p(old, new)
    question = Question(0, "higher", 0.02, old, new)
    assert 0.01 < p < 0.1 and decide.excludes_one(stats.Contrast(old, new))
    for alpha, state in ((p * 1.01, SUSPECT), (p * 0.6, SAME)):
        assert decide.first_look([question], Rules(alpha=alpha))[0].state == state


@pytest.mark.parametrize("values", [([100.0] * 9 + [0.0], around(90)), (around(100), [0.0] * 10)])
def test_no_ratio_is_made_of_what_is_not_positive(values: tuple[list[float], list[float]]) -> None:
    finding = look(*values)
    assert finding.state == INCONCLUSIVE and "not positive" in finding.text
    findings = [look(around(100, 30), around(90))]
    decide.second_look(findings, {0: ([], [*around(90, 9), 0.0])}, RULES)
    assert findings[0].state == SUSPECT and findings[0].fresh is None


def test_reruns_that_are_clearly_faster_clear() -> None:
    findings = [look(around(100, 30), around(90))]
    decide.second_look(findings, {0: ([], around(115, 20))}, RULES)
    assert findings[0].state == CLEARED


def test_nights_that_were_slower_say_nothing_of_the_usual_spread() -> None:
    history = [100.0, 100.1, 99.9, 100.0, 100.1, 90.0, 89.0, 91.0, 90.0, 90.5, 89.5]
    past = [around(v) for v in history]
    for flagged, state in ((frozenset(range(5, 11)), SUSPECT), (frozenset(), SAME)):
        question = Question(0, "higher", 0.02, around(100, 30), around(96), history, flagged, past, 3)
        assert decide.first_look([question], RULES)[0].state == state
    nights = [100.0, 101.0, 99.0, 100.5, 99.5, 100.0, 80.0]
    question = Question(0, "higher", 0.001, [], [], nights, frozenset({6}), [around(v) for v in nights])
    every = Question(0, "higher", 0.001, [], [], nights, frozenset(), question.past_runs)
    assert night_spread(question)[0] < 0.01 < 0.05 < night_spread(every)[0]
    assert (night_spread(question)[1], night_spread(every)[1]) == (5, 6)


def test_the_spread_of_nights_is_known_from_six_of_them() -> None:
    nights = [100.0, 110.0, 90.0, 105.0, 95.0, 100.0]
    for count, freedom in ((5, float("inf")), (6, 5)):
        past = [around(v) for v in nights[:count]]
        question = Question(0, "higher", 0.02, [], [], nights[:count], frozenset(), past)
        spread, found = night_spread(question)
        assert found == freedom
        assert (spread == 0.01) == (count == 5)
    zero = [[0.0, *around(100)]] * 6
    assert night_spread(Question(0, "higher", 0.02, [], [], [100.0] * 6, past_runs=zero))[0] == 0.01


def test_more_metrics_and_wider_runs_must_be_passed_by_more() -> None:
    def beyond(new: float, among: int, spread: float = 0.001, nights: int = 20) -> bool:
        old = around(100, 30, 0.001)
        past = [around(100, 10, 0.001)] * nights
        question = Question(0, "higher", 0.02, old, [], [100.0] * nights, past_runs=past, old_nights=3)
        return beyond_nights(question, stats.Contrast(old, around(new, 10, spread)), among)

    # Half the floor from night to night, of three nights and this one: 1.15 %; 2.2 of these for 2 %.
    assert beyond(97.3, 1) and not beyond(97.7, 1)
    assert not beyond(97.0, 12) and beyond(96.0, 12)
    assert not beyond(97.3, 1, 0.05)
    # Where so few nights are known that this is assumed, 2.75 of these for 0.3 %.
    assert beyond(96.7, 1, nights=5) and not beyond(97.0, 1, nights=5)
    assert not beyond(96.3, 12, nights=5) and beyond(95.7, 12, nights=5)


def test_a_change_is_recent_for_five_nights() -> None:
    rng = np.random.default_rng(1)
    for after, state in ((4, SUSPECT), (5, SAME)):
        history = [*rng.normal(100, 0.5, 20), *rng.normal(94, 0.5, after)]
        past = [around(v) for v in history]
        question = Question(0, "higher", 0.02, [], around(94), history, past_runs=past)
        assert decide.first_look([question], RULES)[0].state == state
    faster = [*rng.normal(100, 0.5, 20), *rng.normal(106, 0.5, 2)]
    question = Question(0, "higher", 0.02, [], around(106), faster)
    assert decide.first_look([question], RULES)[0].state == SAME
