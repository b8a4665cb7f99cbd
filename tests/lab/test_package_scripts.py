# SPDX-License-Identifier: GPL-2.0-only
"""What the package of the module does as it is installed and purged, with programs that only say their names."""

import os
import re
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
    "common.postinst": 'echo "for all kernels: $autoinstall_all_kernels" >>"$HERE/log"\n',
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
    for path, stand_in in (("/usr/lib/dkms/", ""), ("/dev/dmabuf_rw", "device"), ("/sys/module/dmabuf_rw", "loaded")):
        text = text.replace(path, f"{here}/{stand_in}")
    variables = {"HERE": str(here), "PATH": f"{here}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text, script, *words], env=variables, check=False, stderr=subprocess.PIPE, text=True)
    (here / "said").write_text(done.stderr)
    log = here / "log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


def test_the_group_is_made_and_the_module_is_built(here: Path) -> None:
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert "addgroup --quiet --system dmabuf" in called
    assert called[-2].startswith("common.postinst dmabuf-rw ")
    # DKMS's own choice is the running kernel and the newest one.
    assert called[-1] == "for all kernels: yes"
    assert (here / "said").read_text() == ""


def test_a_module_that_stays_loaded_is_said_to_be_the_old_one(here: Path) -> None:
    (here / "loaded").mkdir()
    assert run(here, "postinst.in", "configure", "0.0.9")[0] == 0
    assert "rmmod dmabuf_rw && modprobe dmabuf_rw" in (here / "said").read_text()


@pytest.mark.parametrize(("kernel", "built"), [
    ("6.1.0-50-amd64", False), ("6.11.4", False), ("6.12.118+deb13-amd64", True), ("6.19.2-1", True), ("7.0.0", True),
    ("7.3.4+deb13-rt-amd64", True), ("7.3", True), ("7.4.0", False), ("7.30.1", False), ("8.0.1", False), ("16.12.1", False),
])
def test_dkms_builds_for_kernels_that_were_tried_and_those_between(kernel: str, built: bool) -> None:
    found = re.search(r'^BUILD_EXCLUSIVE_KERNEL="(.*)"$', (SCRIPTS / "dkms.conf.in").read_text(), re.MULTILINE)
    assert found
    # As DKMS asks: bash's [[ =~ ]].
    done = subprocess.run(["bash", "-c", "[[ $1 =~ $2 ]]", "bash", kernel, found[1]], check=False)
    assert (done.returncode == 0) == built


def test_a_group_that_the_administrator_made_will_do(here: Path) -> None:
    (here / "group").touch()
    status, called = run(here, "postinst.in", "configure", "")
    assert status == 0
    assert called[-2].startswith("common.postinst dmabuf-rw ")


def test_a_device_that_is_still_there_is_taken_from_the_group_before_that_goes(here: Path) -> None:
    (here / "device").touch()
    status, called = run(here, "postrm", "purge")
    assert status == 0
    assert called == [f"chown root:root {here}/device", "delgroup --quiet --system --only-if-empty dmabuf"]


@pytest.mark.parametrize("word", ["remove", "upgrade", "abort-install"])
def test_the_group_stays_until_the_package_is_purged(here: Path, word: str) -> None:
    (here / "device").touch()
    assert run(here, "postrm", word) == (0, [])
