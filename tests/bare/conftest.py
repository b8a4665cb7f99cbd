# SPDX-License-Identifier: GPL-2.0-only
"""Which suites are tried."""

import os

import pytest
from bare_root import SUITES

# Read once: pytest makes what belongs to a module anew for a name that is not the very same object.
TRIED = os.environ.get("BARE_SUITES", " ".join(SUITES)).split()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("suite", TRIED, scope="module")
