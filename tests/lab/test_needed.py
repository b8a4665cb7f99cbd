# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/demo and scripts/check install, with an apt that only says what it was asked for."""

import os
import subprocess
from pathlib import Path

import pytest

NEEDED = Path(__file__).resolve().parents[2] / "scripts/needed.sh"


def need(folder: Path, state: str, *, root: bool = True) -> tuple[int, str, str]:
    """The status, what was said, and what apt-get was asked for, of a package in a state of dpkg's."""
    programs = {
        "dpkg-query": f"printf '%s' '{state}'",
        "apt-get": f'echo "$@" >>{folder}/asked',
        "id": f"echo {0 if root else 1000}",
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    script = f"set -eu; program=test; . {NEEDED}; need_packages some-package"
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=path, text=True, capture_output=True, check=False)
    asked = folder / "asked"
    return done.returncode, done.stderr, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize("state", ["ii ", "hi ", "ri ", "ii ii "])
def test_a_package_that_is_there_is_not_asked_for(tmp_path: Path, state: str) -> None:
    assert need(tmp_path, state, root=False) == (0, "", "")


@pytest.mark.parametrize("state", ["", "un ", "rc ", "iU ", "iF ", "iH "])
def test_one_that_is_not_is_installed_by_root(tmp_path: Path, state: str) -> None:
    status, said, asked = need(tmp_path, state)
    assert status == 0 and asked.rstrip().endswith("install --no-install-recommends some-package"), said


def test_another_user_is_told_what_is_missing(tmp_path: Path) -> None:
    assert need(tmp_path, "rc ", root=False) == (
        1, "test: these packages are missing: some-package; run it as root\n", "")
