# SPDX-License-Identifier: GPL-2.0-only
"""What ctest is asked, and what is read from its answer."""

import re

from dmabuf_mutate.local import expression, failed_test

OUTPUT = """\
 98% tests passed, 2 tests failed out of 90

The following tests FAILED:
\t 12 - unit.Ring.Opens (SEGFAULT)
\t 13 - unit.Ring.Closes (Failed)
Errors while running CTest
"""


def test_tests_are_chosen_by_the_beginning_of_their_names() -> None:
    pattern = re.compile(expression(["unit.Ring", "qual.pytest"]))
    assert pattern.search("unit.Ring.Opens") and pattern.search("qual.pytest")
    assert not pattern.search("host.unit.Ring") and not pattern.search("unitXRing")


def test_the_first_failed_test_is_named() -> None:
    assert failed_test(OUTPUT) == ("unit.Ring.Opens", "SEGFAULT")
    assert failed_test("nothing of the kind") == ("ctest", "ctest failed")
