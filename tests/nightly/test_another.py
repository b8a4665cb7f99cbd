# SPDX-License-Identifier: GPL-2.0-only
"""Another machine or job where no baseline is pinned: nothing says how fast it should be, and the night says so."""

from pathlib import Path

import pytest
from made import JOB, KEY, Made
from test_sides import night as night_of_sides

SLOW = {**KEY, "governor": "powersave"}
FAST = {**KEY, "governor": "performance"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = Made(tmp_path / "s.db")
    for _ in range(12):
        found.night(1000, key=FAST)
    assert found.call("analyze") == 0
    return found


def ends(made: Made, *levels: float, key: dict[str, str]) -> list[int]:
    found = []
    for level in levels:
        made.night(level, key=key)
        found.append(made.call("analyze"))
    return found


def test_the_first_night_of_another_machine_is_inconclusive(made: Made) -> None:
    assert ends(made, 500, key=SLOW) == [77]
    said = made.store.decisions(13)[0]["document"]["text"]
    assert said.startswith("this is not the machine of night 12: governor differ. So there is nothing to compare with")
    # It is known by then, and the nights after it begin anew.
    assert ends(made, *[500] * 4, key=SLOW) == [0] * 4


def test_the_machine_of_before_is_compared_with_its_nights(made: Made) -> None:
    assert ends(made, 500, 500, key=SLOW) == [77, 0]
    assert ends(made, 1000, 900, key=FAST) == [0, 77]


def test_another_job_is_inconclusive(made: Made) -> None:
    number = made.night(500, key=FAST)
    job = made.store.add_facts({**JOB, "iodepth": "1"})
    made.store.db.execute("UPDATE run SET job = ? WHERE night = ?", (job, number))
    assert made.call("analyze") == 77
    said = made.store.decisions(number)[0]["document"]["text"]
    assert said.startswith("this is not the job of night 12: iodepth 1 was 64. So there is nothing to compare with")


def test_sides_are_compared_within_the_night_on_any_machine(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for key in (FAST, FAST, SLOW):
        night_of_sides(made, 1, key=key)
        assert made.call("analyze") == 0
