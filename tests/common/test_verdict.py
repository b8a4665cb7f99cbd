# SPDX-License-Identifier: GPL-2.0-only
"""What several verdicts come to together."""

import pytest
from dmabuf_common.verdict import (
    EXIT_STATUS,
    FAIL,
    INCONCLUSIVE,
    NO_FAULT,
    PASS,
    SKIP,
    STATUSES,
    overall,
)


@pytest.mark.parametrize(
    ("statuses", "together", "exit_status"),
    [
        ([PASS, FAIL, INCONCLUSIVE, SKIP], FAIL, 1),
        ([PASS, INCONCLUSIVE, SKIP], INCONCLUSIVE, 77),
        ([SKIP, PASS], PASS, 0),
        ([SKIP], SKIP, 77),
        ([], SKIP, 77),
    ],
)
def test_the_worst_decides_and_nothing_judged_is_no_pass(
    statuses: list[str], together: str, exit_status: int
) -> None:
    assert overall(statuses) == together
    assert overall(reversed(statuses)) == together
    assert EXIT_STATUS[together] == exit_status


def test_every_status_has_an_exit_status() -> None:
    assert set(EXIT_STATUS) == {*STATUSES, NO_FAULT}
    # Nobody takes a run that is too small for a pass, a failure, or one that could not be judged.
    assert list(EXIT_STATUS.values()).count(EXIT_STATUS[NO_FAULT]) == 1
