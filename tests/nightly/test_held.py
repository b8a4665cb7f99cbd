# SPDX-License-Identifier: GPL-2.0-only
"""What is held: slow, mended, or neither."""

from collections.abc import Sequence

import numpy as np
import pytest
from dmabuf_common import stats
from dmabuf_nightly import decide, held
from dmabuf_nightly.earlier import Decided, Hold, Pin, last_good, slow_nights, view
from dmabuf_nightly.earlier import held as held_then
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.question import Finding, Question
from dmabuf_nightly.states import BETTER, CLEARED, CONFIRMED, INCONCLUSIVE, SAME, SUSPECT

RULES = Rules()


def around(middle: float, count: int = 10, spread: float = 0.03) -> list[float]:
    return [float(v) for v in np.linspace(middle * (1 - spread), middle * (1 + spread), count)]


def question(tonight: float, slow: Sequence[float] = (90, 90, 90), mended: bool = False, better: str = "higher",
             spread: float = 0.03) -> Question:
    """A baseline of three nights around 100, ten usual nights, and nights that were slow."""
    past = [around(100)] * 10 + [around(level) for level in slow]
    return Question(
        0, better, 0.02, around(100, 30), around(tonight, 10, spread), [stats.median(runs) for runs in past],
        frozenset(range(10, len(past))), past, 3, held=True, mended=mended,
        slow=[((), around(level)) for level in slow],
    )


def look(asked: Question) -> Finding:
    return decide.first_look([asked], RULES)[0]


@pytest.mark.parametrize(
    ("tonight", "state"),
    [(90, CONFIRMED), (80, CONFIRMED), (100, SAME), (98.5, SAME), (110, BETTER), (93, CONFIRMED)],
)
def test_a_night_that_is_clear(tonight: float, state: str) -> None:
    assert look(question(tonight)).state == state
    assert look(question(200 - tonight, (110, 110, 110), better="lower")).state == state


def test_a_night_that_is_neither_slow_nor_mended_is_not_green() -> None:
    """A loss of 3 %, and a night half way: it runs again."""
    finding = look(question(99.2, (97, 97, 97)))
    assert finding.state == SUSPECT and finding.extra["held"] == "neither"
    # Nothing runs again: nearer to none it is no slow night, and nearer to a loss it is one.
    decide.agree([finding], 12, RULES)
    assert finding.state == INCONCLUSIVE
    finding = look(question(98, (97, 97, 97)))
    decide.agree([finding], 12, RULES)
    assert finding.state == SUSPECT


@pytest.mark.parametrize(("fresh", "state"), [(96, CONFIRMED), (101.5, CLEARED), (99.2, INCONCLUSIVE)])
def test_the_reruns_say_what_it_is(fresh: float, state: str) -> None:
    finding = look(question(98.5, (97, 97, 97)))
    decide.second_look([finding], {0: ([], around(fresh, 20))}, RULES)
    assert finding.state == state


def test_a_part_that_is_left_must_be_shown_by_the_night_alone() -> None:
    """Nights that were slow by 20 % say nothing of a night that is slower by 3 %."""
    slow = (80.0, 80.0, 80.0)
    finding = look(question(97, slow))
    assert held.faster(finding, stats.Contrast(finding.question.old, finding.question.new))
    assert finding.state == SUSPECT
    decide.agree([finding], 1, RULES)
    assert finding.state == SUSPECT
    assert look(question(93, slow)).state == CONFIRMED
    # Less than is suspect, and more than chance: not green.
    part = decide.first_look([question(97.3, slow, spread=0.05)] * 12, RULES)[0]
    assert part.contrast is not None and RULES.alpha / 12 < part.contrast.p < held.LEFT_ALPHA
    assert part.state == SUSPECT and part.extra["held"] == "neither"
    assert decide.first_look([question(97.3, slow, spread=0.06)] * 12, RULES)[0].state == SAME


def test_after_a_good_night_another_one_need_not_be_clear() -> None:
    assert look(question(98.5, (96, 96, 96), mended=True)).state == SAME
    assert look(question(96, (96, 96, 96), mended=True)).state == CONFIRMED


def test_where_no_slow_night_is_left_less_than_counts_must_be_shown() -> None:
    assert look(question(98.5, ())).state == SUSPECT
    assert look(question(101, ())).state == SAME
    assert look(question(99, (), better="lower")).state == SAME


def test_sides_are_compared_with_slow_nights_by_their_ratios() -> None:
    """The slow nights were fast ones of a faster machine: 900 of 1000."""
    def side(tonight: float, ratio: float = 0.9) -> Finding:
        slow = [(around(1000), around(1000 * ratio))] * 3
        return look(Question(0, "higher", 0.02, around(100), around(tonight), sides=slow[:2], held=True, slow=slow))

    assert [side(level).state for level in (90, 100)] == [CONFIRMED, SAME]
    # The nights before are known to be slow, and make no night red or suspect that is not.
    assert side(98).state == SAME and side(98).together is None
    assert side(97.8, 0.96).state == SUSPECT and side(101, 0.96).state == SAME


def test_a_hold_is_against_one_baseline() -> None:
    hold = Hold(5, ())
    found = {5: Decided(CONFIRMED, 1, hold)}
    assert held_then(found, Pin(1, (1, 2, 3))) == hold
    assert held_then(found, Pin(2, (1, 2, 3))) is None and held_then(found, None) is None
    assert held_then(found, Pin(1, (4, 5, 6))) is None and held_then({}, None) is None


def test_nights_that_were_slow_or_held_are_never_what_is_usual() -> None:
    hold = Hold(8, (1, 2))
    found = {6: Decided(SUSPECT), 8: Decided(CONFIRMED, None, hold), 9: Decided(INCONCLUSIVE, None, hold),
             10: Decided(SAME, None, hold), 11: Decided(INCONCLUSIVE)}
    nights = list(range(1, 12))
    assert last_good(nights, found) == (1, 2, 3, 4, 5, 7, 10, 11)
    assert last_good(nights[:6], found) == () and last_good(list(range(20)), {}) == tuple(range(10, 20))
    seen = view(nights, found, [], None)
    assert seen.flagged == {5, 7} and seen.apart == {7, 8}
    # Night 6 agreed just before it was found.
    assert slow_nights(nights, found, hold, None) == [6, 8]
    # Of another machine, night 8 would be none of these.
    assert slow_nights([n for n in nights if n != 8], found, hold, None) == [6]
    many = {n: Decided(CONFIRMED, None, hold) for n in range(8, 20)}
    assert slow_nights(list(range(1, 20)), many, hold, None) == [15, 16, 17, 18, 19]


def test_an_earlier_loss_does_not_hide_the_next_one() -> None:
    """Ten good nights, eight that were found slow, four good ones, and it is slow again."""
    rng = np.random.default_rng(3)
    levels = [*rng.normal(100, 0.4, 10), *rng.normal(90, 0.4, 8), *rng.normal(100, 0.4, 4), *rng.normal(90, 0.4, 2)]
    asked = Question(0, "higher", 0.02, [], around(90), levels, apart=frozenset(range(10, 18)))
    change = decide.change_suspect(asked, 0.02, RULES)
    assert change is not None and change.index == 22
    assert change.before == (4, 5, 6, 7, 8, 9, 18, 19, 20, 21)
    asked.past_runs = [around(level) for level in levels]
    finding = look(asked)
    assert finding.state == SUSPECT and finding.contrast is not None and len(finding.contrast.new) == 30
    assert len(decide.old_for(finding)) == 100
