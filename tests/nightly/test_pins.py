# SPDX-License-Identifier: GPL-2.0-only
"""What a pinned baseline changes: earlier decisions and changes were accepted with it, and what E-divisive
sees must be worse than it."""

from pathlib import Path

import pytest
from dmabuf_nightly import analyse, decide
from dmabuf_nightly.earlier import Decided, Pin, counts, view
from dmabuf_nightly.nights import night_spread
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.question import Change, Finding, Question, levelled, threshold
from dmabuf_nightly.states import SAME, SUSPECT
from made import Made


def judged(made: Made, night: int) -> Finding:
    return analyse.judge_night(made.store, made.store.night(night)).findings[0]


def last(made: Made, levels: list[float]) -> list[int]:
    ended = []
    for level in levels:
        made.night(level)
        ended.append(made.call("analyze"))
    return ended


def test_decisions_against_another_baseline_are_forgotten(made: Made) -> None:
    """The first suspect after a pin is no second one."""
    assert last(made, [900, 900, 900]) == [77, 1, 1]
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "7,8,9", "--replace") == 0
    assert last(made, [880]) == [77]
    row = made.store.decisions(10)[0]
    assert (row["state"], row["document"]["baseline"]) == ("suspect", 2)
    assert last(made, [880]) == [77]  # so little is known of nights now
    assert last(made, [800, 800])[-1] == 1


def test_a_change_that_the_pin_accepted_is_none(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for level in [1000.0] * 10 + [900.0] * 3:
        made.night(level, status="pass")
    assert made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    finding = judged(made, made.night(895, status="pass"))
    assert (finding.state, finding.change) == (SAME, None)


def test_a_change_before_the_last_pinned_night_is_none() -> None:
    levels = [100.0, 100.4, 99.6, 100.2, 99.8] * 2 + [94.0, 94.3, 93.8]
    question = Question(0, "higher", 0.02, [], [94.1] * 10, levels)
    assert decide.change_suspect(question, 0.02, Rules()) == Change(10, tuple(range(10)))
    question.settled = 10
    assert decide.change_suspect(question, 0.02, Rules()) == Change(10, tuple(range(10)))
    question.settled = 11
    assert decide.change_suspect(question, 0.02, Rules()) is None


def test_a_night_as_fast_as_the_baseline_is_good_after_a_better_week(made: Made) -> None:
    assert last(made, [1100] * 6) == [0] * 6
    assert last(made, [1000] * 5) == [0] * 5


def test_a_change_with_a_baseline_shows_the_figures_that_it_is_based_on() -> None:
    """Three nights together show what none shows alone."""
    usual = [99.9, 100.1, 100.0, 100.2, 99.8] * 3
    nights = [*usual, 97.3, 97.4]

    def runs(level: float) -> list[float]:
        return [level + (i - 4.5) * 1.0 for i in range(10)]

    for base, state in ((100.0, SUSPECT), (98.0, SAME)):
        old = [value for _ in range(3) for value in runs(base)]
        question = Question(0, "higher", 0.02, old, runs(97.4), nights, frozenset(),
                                   [runs(level) for level in nights], 3)
        finding = decide.first_look([question] * 12, Rules())[0]
        assert finding.state == state
        if state == SUSPECT:
            assert finding.change is not None and finding.change.index == 15
            assert finding.contrast is not None and len(finding.contrast.new) == 30
            assert finding.contrast.old == tuple(old)


def test_which_decisions_count() -> None:
    first, second = Pin(1, (1, 2, 3)), Pin(2, (7, 8, 9))
    slow = Decided("confirmed", 1)
    assert not counts(3, slow, first) and counts(4, slow, first)
    assert not counts(10, slow, second) and counts(10, Decided("same", 2), second)
    assert counts(10, Decided("same", None), None) and not counts(10, slow, None)
    nights = list(range(1, 12))
    decided = {n: Decided("confirmed", 1) for n in (5, 7, 8)} | {10: Decided("suspect", 2), 11: slow}
    seen = view(nights, decided, [first, second], second)
    # Night 5 was slow in its time; 7 and 8 are the usual ones now; 11 says nothing about this baseline.
    assert seen.flagged == {nights.index(5), nights.index(10)}
    assert seen.eras == (1,) * 6 + (2,) * 5 and seen.settled == 9
    assert view(nights, decided, [], None).settled == 0


def test_what_is_usual_is_so_within_an_era() -> None:
    # So few nights that nothing but the eras says that the level changed.
    levels = [100.0, 101.0, 99.0, 100.0, 101.0] + [80.0, 80.8, 79.2, 80.0, 80.8]
    past = [[level * (1 + (i - 4.5) * 0.001) for i in range(10)] for level in levels]
    one = Question(0, "higher", 0.001, [], [], levels, past_runs=past)
    two = Question(0, "higher", 0.001, [], [], levels, past_runs=past, eras=[1] * 5 + [2] * 5)
    rules = Rules()
    assert threshold(0.001, levelled(one), rules) > 0.25
    assert threshold(0.001, levelled(two), rules) == pytest.approx(0.03, rel=0.02)
    assert night_spread(one)[0] > 0.1
    assert night_spread(two) == (pytest.approx(0.008, rel=0.1), 8)
