# SPDX-License-Identifier: GPL-2.0-only
"""Which suites are tried."""

import os

import pytest
from bare_root import SUITES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("suite", os.environ.get("BARE_SUITES", " ".join(SUITES)).split(), scope="module")
