# SPDX-License-Identifier: GPL-2.0-only
"""One installed libdmabuf.so in two fios: this machine's, and the lab's (3.41), each with its own engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from dmabuf_lab import chroot, config, root  # noqa: E402

BUILD = os.environ.get("BUILD", "")
CMAKE = os.environ.get("CMAKE", "cmake")
JOB = ["--name=t", "--filename=/tmp/target", "--size=16m", "--rw=randrw", "--verify=crc32c", "--iodepth=8"]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation of the build."""
    assert BUILD, "BUILD must name the build folder"
    place = tmp_path_factory.mktemp("installed") / "usr"
    subprocess.run([CMAKE, "--install", BUILD, "--prefix", str(place)], check=True, stdout=subprocess.DEVNULL)
    return place


def library(prefix: Path) -> Path:
    """The one library of the installation that fio is told to load."""
    found = [path for path in prefix.rglob("libdmabuf.so") if not path.is_symlink()]
    assert len(found) == 1, found
    return found[0]


def options(engine: str, report: str) -> list[str]:
    return [*JOB, f"--ioengine=external:{engine}", "--dmabuf_datapath=host", f"--dmabuf_report={report}"]


def test_in_this_machines_fio(prefix: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    words = options(str(library(prefix)), str(report))
    words[1] = f"--filename={tmp_path}/target"
    done = subprocess.run(["fio", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["proven"] is True


def in_the_lab(prefix: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell's line in the lab's root, where the installation is /share and can only be read."""
    lab = root.load()
    assert lab, "there is no lab root: dmabuf-lab setup makes it"
    said = chroot.run(lab.path, ["fio", "--version"])
    assert said.stdout.strip() == f"fio-{config.FIO_VERSION}"
    return chroot.run(lab.path, ["sh", "-c", script], binds=[chroot.Bind(prefix, "/share")], cwd="/tmp")


def test_the_same_in_the_fio_of_the_lab(prefix: Path) -> None:
    engine = Path("/share") / library(prefix).relative_to(prefix)
    words = options(str(engine), "/tmp/report")
    done = in_the_lab(prefix, f"fio {' '.join(words)} && cat /tmp/report")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["proven"] is True


def test_it_says_by_name_what_it_has(prefix: Path, tmp_path: Path) -> None:
    """With the engine of the lab's fio taken away: the others are named, and nothing is done."""
    copy = tmp_path / "usr"
    shutil.copytree(prefix, copy, symlinks=True)
    kept = sorted(path.stem for path in library(copy).parent.glob("libdmabuf/fio-*.so"))
    assert f"fio-{config.FIO_VERSION}" in kept and len(kept) > 1, "the build is for two fios"
    (library(copy).parent / f"libdmabuf/fio-{config.FIO_VERSION}.so").unlink()
    kept.remove(f"fio-{config.FIO_VERSION}")
    engine = Path("/share") / library(copy).relative_to(copy)
    done = in_the_lab(copy, f"fio {' '.join(options(str(engine), '/tmp/report'))}; echo status $?; ls /tmp")
    assert "status 0" not in done.stdout
    assert f"libdmabuf: no engine for fio-{config.FIO_VERSION}: {engine.parent}/libdmabuf has {' and '.join(kept)};" \
        in done.stdout, done.stdout
    assert "target" not in done.stdout.splitlines() and "report" not in done.stdout.splitlines()
