# SPDX-License-Identifier: GPL-2.0-only
"""The systemd units: a missed night is made up for, and a failed one tells somebody."""

import os
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "scripts/systemd"


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


def test_a_night_when_the_machine_was_off_is_made_up_for() -> None:
    assert unit("dmabuf-nightly@.timer")["Timer"]["Persistent"] == "true"


def test_a_night_that_fails_starts_the_unit_that_tells() -> None:
    named = unit("dmabuf-nightly@.service.in")["Unit"]["OnFailure"]
    assert named == "dmabuf-nightly-failed@%i.service"
    there = unit("dmabuf-nightly-failed@.service")
    hook = there["Service"]["ExecStart"].split()
    assert hook == ["/etc/dmabuf-nightly/failed", "%i"]
    # Who has no hook has no second failure.
    assert there["Unit"]["ConditionFileIsExecutable"] == hook[0]
    cmake = (UNITS.parents[1] / "cmake/install.cmake").read_text()
    assert "scripts/systemd/dmabuf-nightly-failed@.service" in cmake


def test_systemd_takes_them(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    for file in UNITS.iterdir():
        text = file.read_text().replace("@bindir@", str(tmp_path))
        name = file.name.removesuffix(".in")
        for to in (name, name.replace("@", "@basic")):
            (tmp_path / to).write_text(text)
    for program in ("dmabuf-nightly", "failed"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        os.chmod(tmp_path / program, 0o755)
    failed = tmp_path / "dmabuf-nightly-failed@basic.service"
    failed.write_text(failed.read_text().replace("=/etc/dmabuf-nightly/failed", f"={tmp_path}/failed"))
    units = sorted(str(path) for path in tmp_path.glob("*@basic.*"))
    assert len(units) == 3
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0 and "dmabuf-nightly" not in done.stderr, done.stderr
