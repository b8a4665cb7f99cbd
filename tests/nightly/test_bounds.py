# SPDX-License-Identifier: GPL-2.0-only
"""What `selftest` claims of nights at 95 % confidence: nights of one history are not independent."""

import pytest
from dmabuf_nightly import selftest
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.scenarios import Scenario
from dmabuf_nightly.selftest import Figures, design_effect, nights_bound, upper_bound

# Ten of a hundred histories of four nights alarmed: in all of their nights, or each in one.
HELD = [(4, 4)] * 10 + [(0, 4)] * 90
SINGLE = [(1, 4)] * 40 + [(0, 4)] * 60


def test_nights_that_alarm_together_count_as_one() -> None:
    assert design_effect(HELD) == pytest.approx(4, rel=0.02)
    assert nights_bound(HELD) == pytest.approx(upper_bound(10, 100), rel=0.03)
    assert design_effect(SINGLE) == 1
    assert nights_bound(SINGLE) == upper_bound(40, 400)
    assert nights_bound(HELD) > 1.1 * nights_bound(SINGLE)


def test_where_nothing_happened_nights_are_taken_one_by_one() -> None:
    assert nights_bound([(0, 4)] * 100) == upper_bound(0, 400)
    assert design_effect([(4, 4)] * 5) == design_effect([(1, 4)]) == design_effect([]) == 1


@pytest.mark.parametrize(("histories", "holds"), [(HELD, False), (SINGLE, True)])
def test_a_claim_is_of_independent_nights(histories: list[tuple[int, int]], holds: bool) -> None:
    figures = Figures()
    for events, nights in histories:
        figures.add(Figures(nights=nights, alarmed=events, trials=1))
    assert (figures.nights, figures.alarmed, figures.trials) == (400, 40, 100)
    scenario = Scenario("A/A", 100, 4, most_false=0.14)
    (found, text), = selftest.check(scenario, figures)
    assert found == holds and ("(each night counts for 0.2" in text) != holds


def test_what_each_history_came_to_is_counted() -> None:
    scenario = Scenario("5 %", 8, 4, slow=0.9, mended=2, history=8, most_red=0.5)
    found = selftest.simulate(scenario, Rules(), 3)
    for name, events, nights in (("alarmed", found.alarmed, found.nights), ("green", found.green, found.after),
                                 ("red", found.red, found.mended)):
        histories = found.by_history[name]
        assert len(histories) == 8
        assert [sum(one[i] for one in histories) for i in (0, 1)] == [events, nights]


def test_nights_can_be_like_the_ones_before() -> None:
    """The level of a night is drawn with this correlation, and as spread as without."""
    import numpy as np

    for alike in (0.0, 0.8):
        source = selftest.Source(np.random.default_rng(1), Scenario("A/A", 1, 1, between=0.01, alike=alike))
        levels = []
        for _ in range(400):
            source.next_night()
            levels.append(source.level[:, 0].copy())
        made = np.array(levels)
        assert float(made.std()) == pytest.approx(0.01, rel=0.1)
        lagged = float(np.corrcoef(made[:-1].ravel(), made[1:].ravel())[0, 1])
        assert lagged == pytest.approx(alike, abs=0.05)
