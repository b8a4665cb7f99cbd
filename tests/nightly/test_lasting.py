# SPDX-License-Identifier: GPL-2.0-only
"""What was found slower without a baseline stays so until somebody does something about it."""

from pathlib import Path

import pytest
from dmabuf_nightly import analyse, results
from dmabuf_nightly.earlier import Hold
from dmabuf_nightly.states import CONFIRMED
from made import KEY, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Twelve good nights, and no baseline."""
    found = Made(tmp_path / "s.db")
    for _ in range(12):
        found.night(1000)
    assert found.call("analyze") == 0
    return found


def statuses(made: Made, levels: list[float]) -> list[int]:
    ended = []
    for level in levels:
        made.night(level)
        ended.append(made.call("analyze"))
    return ended


def test_a_loss_that_lasts_never_turns_green(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = statuses(made, [900] * 14)
    first = found.index(1)
    assert first <= 4 and set(found[first:]) == {1}
    said = capsys.readouterr().out
    assert "worse than nights 3 to 12" in said
    assert "it fails until it is as fast as before, a baseline is pinned, or it is acknowledged" in said


def test_it_is_green_when_it_is_as_fast_again(made: Made) -> None:
    assert statuses(made, [900] * 6)[-1] == 1
    assert statuses(made, [1000]) == [0]
    # One good night among slow ones is no end of it, and three are.
    assert statuses(made, [900, 900]) == [1, 1]
    assert statuses(made, [1000, 1000, 1000]) == [0, 0, 0]
    assert decide_of(made) is None
    assert statuses(made, [900])[0] != 1


def decide_of(made: Made) -> Hold | None:
    document = made.store.decisions()[-1]["document"]
    return Hold(**document["hold"]) if document["hold"] else None


def test_what_is_between_stays_red(made: Made) -> None:
    """A loss of 10 % of which a part is left has not gone."""
    assert statuses(made, [900] * 6)[-1] == 1
    assert statuses(made, [950, 950, 950]) == [1, 1, 1]
    assert 0 not in statuses(made, [970, 970, 970])


def test_a_pinned_baseline_ends_it(made: Made) -> None:
    assert statuses(made, [900] * 6)[-1] == 1
    assert made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    assert statuses(made, [900, 900]) == [0, 0]
    assert statuses(made, [800, 800])[-1] == 1


def test_it_can_be_acknowledged_and_becomes_red_when_it_is_worse(made: Made) -> None:
    assert statuses(made, [900] * 6)[-1] == 1
    what = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops")
    assert made.call(*what, "--note", "the new firmware") == 0
    assert statuses(made, [900, 900]) == [0, 0]
    assert statuses(made, [850]) == [1]
    assert made.call(*what, "--end") == 0
    assert statuses(made, [900]) == [1]
    # The first baseline begins anew: what is known was against the nights before.
    assert made.call(*what, "--note", "again") == 0
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "13,14,15") == 0
    assert made.call(*what, "--end") == 2


def test_a_night_that_shows_nothing_ends_nothing(made: Made) -> None:
    assert statuses(made, [900] * 6)[-1] == 1
    made.night(1000, done=4, status="measured")
    assert made.call("analyze") == 77
    held = decide_of(made)
    assert held is None or held.fast == 0
    assert statuses(made, [900]) == [1]


def test_another_machine_says_nothing_about_it(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert statuses(made, [900] * 6)[-1] == 1
    capsys.readouterr()
    made.night(1000, key={**KEY, "CPU": "another"})
    assert made.call("analyze") == 77
    assert "this is not the machine of the nights 3 to 12: CPU differ" in capsys.readouterr().out
    assert statuses(made, [900]) == [1]


def test_a_change_against_the_history_shows_the_figures_that_it_is_based_on(tmp_path: Path) -> None:
    """The last night alone is not slow enough, and three of them are."""
    made = Made(tmp_path / "s.db", seed=31)
    for level in [1000.0] * 12 + [975.0] * 3:
        made.night(made.runs(level, 10, 0.025))
    made.call("analyze", "--night", "14")
    finding = analyse.judge_night(made.store, made.store.night(15)).findings[0]
    assert finding.state == CONFIRMED and finding.contrast is not None
    assert len(finding.contrast.old) == 100 and len(finding.contrast.new) == 30
    assert finding.contrast.ratio == pytest.approx(0.975, rel=0.01)
    assert finding.text.startswith("read_iops since night 13 is ")
    assert "worse than nights 3 to 12 (ratio 0." in finding.text
    row = results.build(analyse.judge_night(made.store, made.store.night(15))).comparisons[0]
    assert (row.old_name, row.new_name) == ("nights 3 to 12", "nights 13 to 15")
    assert row.new / row.old == pytest.approx(row.ratio)


def test_three_fast_nights_in_a_row_end_a_hold() -> None:
    from dmabuf_nightly.earlier import next_hold

    hold = next_hold(None, 20, True, False, [1, 2, 3])
    assert hold == Hold(20, (1, 2, 3))
    assert next_hold(None, 20, True, False, []) == Hold(20, ()) and next_hold(None, 20, False, True, [1]) is None
    for confirmed, fast, count in ((False, True, 1), (False, True, 2), (True, False, 0), (False, False, 0),
                                   (False, True, 1), (False, False, 1), (False, True, 2)):
        hold = next_hold(hold, 21, confirmed, fast, [])
        assert hold == Hold(20, (1, 2, 3), count)
    assert next_hold(hold, 22, False, True, []) is None


def test_good_nights_between_suspect_ones_are_not_in_a_row() -> None:
    from dmabuf_nightly.earlier import next_hold

    hold = Hold(20, ())
    for good, suspect, count in ((True, False, 1), (True, False, 2), (False, True, 0), (True, False, 1),
                                 (False, False, 1), (False, True, 0), (True, False, 1), (True, False, 2)):
        found = next_hold(hold, 21, False, good, (), suspect)
        assert found == Hold(20, (), count)
        hold = found
    assert next_hold(hold, 22, False, True, ()) is None


def test_a_suspect_night_begins_the_row_anew(made: Made) -> None:
    """A part of 4 % is left of a loss of 10 %, and every other night does not show it."""
    assert statuses(made, [900] * 6)[-1] == 1
    for level in (1000, 1000, 972):
        made.night(made.runs(level, 10, 0.01))
        made.call("analyze")
    held = decide_of(made)
    assert held is not None and held.fast == 0
