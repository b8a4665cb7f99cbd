# SPDX-License-Identifier: GPL-2.0-only
"""A fio of a given version for this machine, built once of its source and kept in the cache."""

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from . import cache, config, fio_source
from .errors import LabError
from .progress import step


def machine() -> str:
    """A short name of what a program is built for: the release of the system, and the processor's kind."""
    text = Path("/etc/os-release").read_bytes() + platform.machine().encode()
    return hashlib.sha256(text).hexdigest()[:8]


def _call(argv: list[str], cwd: Path, what: str) -> None:
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).rstrip().splitlines()[-20:])
        raise LabError(f"{what} failed with status {done.returncode}:\n{tail}")


def _build(source: Path, place: Path) -> None:
    for needed in ("cc", "make"):
        if shutil.which(needed) is None:
            raise LabError(f"fio cannot be built: there is no {needed}; apt-get install gcc make libaio-dev zlib1g-dev")
    # What a build that was killed left; the caller holds the lock of the builds.
    for stale in place.parent.glob("built-*.tmp.*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = place.with_name(f"{place.name}.tmp.{os.getpid()}")
    try:
        shutil.copytree(source, work)
        _call(["./configure", f"--prefix={place}", *config.FIO_CONFIGURE.split()], work, "fio's configure")
        _call(["make", f"-j{os.cpu_count() or 1}", "-s", "fio"], work, "building fio")
        # It is complete or not there.
        (work / "bin").mkdir()
        shutil.move(work / "fio", work / "bin/fio")
        (work / "bin").rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def get(version: str, mirror: str | None) -> Path:
    """The program fio of that version, built now if it is not there. mirror: as fio_source.get() takes it."""
    source = fio_source.get(version, mirror)
    base = cache.folder() / "fio"
    place = base / f"built-{version}-{machine()}"
    program = place / "fio"
    with cache.lock(base / "build.lock", what="the fios"):
        if not program.exists():
            with step(f"building fio {version}"):
                _build(source, place)
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != f"fio-{version}":
        raise LabError(f"{program} says {(done.stdout + done.stderr).strip()!r}, not fio-{version}; remove it")
    return program
