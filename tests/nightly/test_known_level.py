# SPDX-License-Identifier: GPL-2.0-only
"""What is known passes while it is as it was: whatever nights differ by, and whichever copy of the store is judged."""

from pathlib import Path

import pytest
from dmabuf_nightly import fio
from made import JOB, KEY, PLAN, SUBJECT, Made
from test_mended import nights

WHAT = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops")
P99 = "read_clat_p99"
LATENCY = PLAN.format(plan="p").replace("read_iops", P99)


def a_known_loss(made: Made) -> None:
    """Three nights 10 % below the baseline, the last one red, and that is acknowledged."""
    nights(made, *[1000] * 12, spread=0.03)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert nights(made, *[900] * 3, spread=0.03)[-1] == 1
    assert made.call(*WHAT, "--note", "known") == 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_small_loss_that_is_known_passes(tmp_path: Path, seed: int) -> None:
    """It often is neither clearly as slow as before nor clearly mended."""
    made = Made(tmp_path / "s.db", seed)
    nights(made, *[1000] * 12, spread=0.03)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3,4,5,6")
    for _ in range(15):
        if nights(made, 965, spread=0.03) == [1]:
            break
    assert made.call(*WHAT, "--note", "the new firmware") == 0
    found = nights(made, *[965] * 15, spread=0.03)
    assert found.count(0) >= 13 and 1 not in found, found


def test_a_loss_that_is_known_is_not_red_by_chance(tmp_path: Path) -> None:
    """Nights of ten runs that differ by 3 % differ by more than the floor."""
    made = Made(tmp_path / "s.db", 5)
    a_known_loss(made)
    found = nights(made, *[900] * 30, spread=0.03)
    assert set(found) == {0}


def test_what_is_clearly_worse_than_known_fails(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db", 6)
    a_known_loss(made)
    found = nights(made, *[840] * 4, spread=0.03)
    assert found[0] != 0 and found[-1] == 1
    assert "worse than it was then" in made.store.decisions()[-1]["document"]["text"]


def latency(made: Made, level: float, spread: float = 0.02) -> int:
    number = made.night(made.runs(level, 10, spread), text=LATENCY)
    for run in made.store.runs(number):
        value = run.metrics["read_iops"]
        made.store.db.execute("DELETE FROM metric WHERE run = ?", (run.id,))
        made.store.complete(run.id, fio.Outcome(metrics={P99: value}), 1, KEY, SUBJECT, {}, {}, JOB)
    return made.call("analyze")


def test_worse_is_a_share_of_what_is_known(tmp_path: Path) -> None:
    """A latency of four times: 5 % of the baseline is less than its nights differ by."""
    made = Made(tmp_path / "s.db")
    for _ in range(8):
        latency(made, 1e6)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert [latency(made, 4e6) for _ in range(2)][-1] == 1
    assert made.call(*WHAT[:-1], P99, "--note", "known") == 0
    assert [latency(made, 4e6) for _ in range(12)] == [0] * 12
    assert 1 in [latency(made, 4.6e6) for _ in range(2)]


def test_a_tenth_that_becomes_less_is_worse(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 8)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    assert nights(made, *[100] * 2)[-1] == 1
    assert made.call(*WHAT, "--note", "known") == 0
    assert nights(made, 100, 85) == [0, 1]


@pytest.mark.parametrize("by_hand", [True, False])
def test_nights_of_its_time_stay_known_in_a_copy(tmp_path: Path, by_hand: bool) -> None:
    made = Made(tmp_path / "s.db")
    nights(made, *[1000] * 8)
    made.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3")
    nights(made, *[900] * 2)
    assert made.call(*WHAT, "--note", "the first") == 0
    assert nights(made, 900, 900) == [0, 0]
    if by_hand:
        nights(made, 900)
        assert made.call(*WHAT, "--end") == 0
    else:
        assert nights(made, 800) == [1]
        assert made.call(*WHAT, "--note", "the second") == 0
    ended = 1 if by_hand else 0
    assert made.call("analyze") == ended
    copy = tmp_path / "copy.db"
    made.store.db.execute("VACUUM INTO ?", (str(copy),))
    copied = Made(copy)
    copied.store.db.execute("DELETE FROM decision")
    copied.store.db.execute("UPDATE night SET status = 'measured'")
    assert copied.call("analyze") == ended
    assert [n.status for n in copied.store.nights()][10:12] == ["pass", "pass"]
