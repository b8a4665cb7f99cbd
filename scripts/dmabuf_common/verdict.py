# SPDX-License-Identifier: GPL-2.0-only
"""The words of a verdict, what several come to together, and the exit statuses of our programs."""

from collections.abc import Iterable

PASS = "pass"
FAIL = "fail"
INCONCLUSIVE = "inconclusive"
SKIP = "skip"
# Of a whole run alone: no fault was found, by one that is too small to say "pass".
NO_FAULT = "no-fault"

# From the one that decides first to the one that decides last.
STATUSES = (FAIL, INCONCLUSIVE, PASS, SKIP)

EXIT_PASS = 0
EXIT_FAIL = 1
# Wrong usage, something is missing, or the program could not do its work.
EXIT_ERROR = 2
EXIT_NO_FAULT = 3
# Nothing failed, and not all could be judged.
EXIT_UNDECIDED = 77
EXIT_INTERRUPTED = 130

EXIT_STATUS = {
    PASS: EXIT_PASS,
    NO_FAULT: EXIT_NO_FAULT,
    FAIL: EXIT_FAIL,
    INCONCLUSIVE: EXIT_UNDECIDED,
    SKIP: EXIT_UNDECIDED,
}


def overall(statuses: Iterable[str]) -> str:
    """The status of all together: fail before inconclusive before pass; nothing judged is skip."""
    seen = set(statuses)
    return next((status for status in STATUSES if status in seen), SKIP)
