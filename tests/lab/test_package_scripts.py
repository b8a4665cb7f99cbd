# SPDX-License-Identifier: GPL-2.0-only
"""What the package of the module does as it is installed and purged, with programs that only say their names."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "packaging/dkms"
# As Debian's adduser: one that is no system group is none of its own, and its status says so.
ADDGROUP = """[ ! -e "$HERE/group" ] || exit 13
"""
PROGRAMS = {
    "addgroup": ADDGROUP,
    "delgroup": "",
    "getent": '[ -e "$HERE/group" ] || exit 2\n',
    "chown": "",
    "udevadm": "",
    "common.postinst": "",
}


@pytest.fixture(name="here")
def _here(tmp_path: Path) -> Path:
    for name, rest in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>"$HERE/log"\n{rest}')
        program.chmod(0o755)
    return tmp_path


def run(here: Path, script: str, *words: str) -> tuple[int, list[str]]:
    """Its status, and what it called."""
    text = (SCRIPTS / script).read_text()
    text = text.replace("/usr/lib/dkms/", f"{here}/").replace("/dev/dmabuf_rw", f"{here}/device")
    variables = {"HERE": str(here), "PATH": f"{here}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text, script, *words], env=variables, check=False)
    log = here / "log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


def test_the_group_is_made_and_the_module_is_built(here: Path) -> None:
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert "addgroup --quiet --system dmabuf" in called
    assert called[-1].startswith("common.postinst dmabuf-rw ")


def test_a_group_that_the_administrator_made_will_do(here: Path) -> None:
    (here / "group").touch()
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert called[-1].startswith("common.postinst dmabuf-rw ")


def test_a_device_that_is_still_there_is_taken_from_the_group_before_that_goes(here: Path) -> None:
    (here / "device").touch()
    status, called = run(here, "postrm", "purge")
    assert status == 0
    assert called == [f"chown root:root {here}/device", "delgroup --quiet --system dmabuf"]


@pytest.mark.parametrize("word", ["remove", "upgrade", "abort-install"])
def test_the_group_stays_until_the_package_is_purged(here: Path, word: str) -> None:
    (here / "device").touch()
    assert run(here, "postrm", word) == (0, [])
