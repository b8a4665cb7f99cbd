# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/demo and scripts/check install, with an apt that only says what it was asked for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

NEEDED = Path(__file__).resolve().parents[2] / "scripts/needed.sh"


def need(folder: Path, state: str, *, root: bool = True, then: str = "true", du: str = "exit 1", shell: str = "sh -eu"
         ) -> tuple[int, str, str]:
    """The status, what was said, and what apt-get was asked for, of a package in a state of dpkg's. then: what else apt-get
    does; du: what counts what has come."""
    programs = {
        "dpkg-query": f"printf '%s' '{state}'",
        "apt-get": f'echo "$@" >>{folder}/asked; {then}',
        "id": f"echo {0 if root else 1000}",
        "du": f"{du}",
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    script = f"program=test; every_s=0.2; . {NEEDED}; need_packages some-package; say goes on"
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    with (folder / "said").open("w") as said:
        done = subprocess.run([*shell.split(), "-c", script], env=path, stderr=said, check=False)
    asked = folder / "asked"
    return done.returncode, (folder / "said").read_text(), asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize("state", ["ii ", "hi ", "ri ", "ii ii "])
def test_a_package_that_is_there_is_not_asked_for(tmp_path: Path, state: str) -> None:
    assert need(tmp_path, state, root=False) == (0, "test: goes on\n", "")


@pytest.mark.parametrize("state", ["", "un ", "rc ", "iU ", "iF ", "iH "])
def test_one_that_is_not_is_installed_by_root(tmp_path: Path, state: str) -> None:
    status, said, asked = need(tmp_path, state)
    assert status == 0 and asked.rstrip().endswith("install --no-install-recommends some-package"), said


def test_another_user_is_told_what_is_missing(tmp_path: Path) -> None:
    assert need(tmp_path, "rc ", root=False) == (
        1, "test: these packages are missing: some-package; run it as root\n", "")


# As demo and check do it: a failure in a pipeline is one, too.
SHELLS = ("sh -eu", "bash -euo pipefail")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("du", ["exit 1", "exit 0", "printf '%s\\t.\\n' $((1000 - $(wc -l < FOLDER/said)))"])
def test_a_slow_mirror_is_waited_for_and_it_is_told_how_far_it_is(tmp_path: Path, shell: str, du: str) -> None:
    until = f'while [ "$(grep -c "have come" {tmp_path}/said)" -lt 3 ]; do sleep 0.1; done'
    status, said, _ = need(tmp_path, "", then=until, du=du.replace("FOLDER", str(tmp_path)), shell=shell)
    lines = said.splitlines()
    assert status == 0 and lines[0].startswith("test: installing some-package (some minutes, by the network)")
    told = [line for line in lines if re.search(r"; \d+ MiB of packages have come$", line)]
    assert len(told) >= 3 and lines == [lines[0], *told, "test: goes on"]


def test_a_network_that_breaks_off_ends_it_with_apts_reason_and_a_sentence(tmp_path: Path) -> None:
    status, said, asked = need(tmp_path, "", then="echo E: Failed to fetch it: the connection was closed >&2; exit 100")
    assert status == 1
    assert [line for line in said.splitlines() if "test:" not in line] == ["E: Failed to fetch it: the connection was closed"]
    assert said.splitlines()[-1] == "test: apt-get cannot install some-package; it says above why. Mend that, and start again"
    assert "update" in asked
    need(tmp_path, "")
    assert len((tmp_path / "asked").read_text().splitlines()) == len(asked.splitlines()) + 1, "it can be started again"
