# SPDX-License-Identifier: GPL-2.0-only
"""One installation of the build, for all tests of this folder."""

import os
import subprocess
from pathlib import Path

import pytest

BUILD = os.environ.get("BUILD", "")
CMAKE = os.environ.get("CMAKE", "cmake")


@pytest.fixture(name="prefix", scope="session")
def _prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation of the build."""
    assert BUILD, "BUILD must name the build folder"
    place = tmp_path_factory.mktemp("installed") / "usr"
    subprocess.run([CMAKE, "--install", BUILD, "--prefix", str(place)], check=True,
                   stdout=subprocess.DEVNULL)
    return place
