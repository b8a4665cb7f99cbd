# SPDX-License-Identifier: GPL-2.0-only
"""Fetches fio's source, by version, from Debian's source packages, without touching the host's apt."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dmabuf_common import files

from . import apt, cache, config
from .errors import BrokenOff, LabError
from .private_apt import PrivateApt
from .progress import fetching

# For a user to fetch from, where the archive lacks a fio. The lab itself fetches from the host's own mirror only.
FIO_REPOSITORY = "https://git.kernel.org/pub/scm/linux/kernel/git/axboe/fio.git"


def upstream(version: str) -> str:
    """The upstream part of a Debian version: "1:3.41-2+b1" is "3.41"."""
    return version.rpartition(":")[2].rpartition("-")[0] or version.rpartition(":")[2]


def choose(versions: Sequence[str], wanted: str) -> str | None:
    """The first of some Debian versions whose upstream part is `wanted`, or None."""
    return next((version for version in versions if upstream(version) == wanted), None)


def parse_versions(showsrc: str) -> list[str]:
    """The versions in the output of `apt-cache showsrc --only-source fio`."""
    return re.findall(r"^Version: (\S+)$", showsrc, re.MULTILINE)


def suites(host: str) -> list[str]:
    """Where to ask, in order: the host's own suite, then the others, each once."""
    return list(dict.fromkeys(name for name in (host, *config.FIO_SOURCE_SUITES) if name))


def host_fio_version() -> str:
    """The version of the host's own fio ("3.33"); raises LabError when it has none."""
    program = shutil.which("fio")
    if program is None:
        raise LabError("the host has no fio; name the version of the source that is wanted")
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    if not text.startswith("fio-"):
        raise LabError(f"fio --version says {text!r}, which names no version")
    return text.removeprefix("fio-")


def elsewhere(version: str) -> str:
    """What to do where the archive has no source of a fio."""
    return (
        f"either take it from fio's own archive, with the package git, and name the folder to cmake:\n"
        f"  git clone --depth 1 --branch fio-{version} {FIO_REPOSITORY} build/fio-{version}\n"
        f"  cmake --preset release -DFIO_SOURCE_DIRS=build/fio-{version}\n"
        f"or use another fio, whose source is there; the last line builds it and prints where it is:\n"
        f"  cmake --preset release -DFIO_SOURCE_DIRS=$(scripts/dmabuf-lab fio-source {config.FIO_VERSION})\n"
        f"  scripts/dmabuf-lab fio {config.FIO_VERSION}"
    )


def _tarball(private: PrivateApt, version: str) -> Path:
    """Downloads upstream's tarball of fio's source package in a Debian version."""
    into = private.download_source(f"fio={version}")
    found = [path for path in into.glob("fio_*.orig.tar.*") if path.suffix != ".asc"]
    if not found:
        raise LabError(f"the source package of fio {version} has no upstream tarball")
    return found[0]


def _unpack(tarball: Path, target: Path) -> None:
    """Unpacks a tarball that has one top folder, which becomes `target`."""
    temporary = target.with_name(f"{target.name}.tmp.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    options = ["--extract", "--no-same-owner", "--strip-components=1"]
    argv = ["tar", *options, f"--file={tarball}", f"--directory={temporary}"]
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode != 0:
        raise LabError(f"cannot unpack {tarball.name}: {result.stderr.strip()}")
    if not (temporary / "fio.h").is_file():
        raise LabError(f"{tarball.name} is not fio's source: it has no fio.h")
    temporary.rename(target)


def get(version: str, mirror: str | None) -> Path:
    """The path of fio's source of that version in the cache, fetched if it is not there yet.

    mirror is the address of a Debian archive, needed only when something must be fetched.
    """
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        raise LabError(f"{version!r} is not a fio version such as {config.FIO_VERSION}")
    base = cache.folder() / "fio"
    target = base / f"fio-{version}"
    with cache.lock(base / "lock", what="the fio sources"):
        if (target / "fio.h").is_file():
            return target
        # A fio that is being built has another lock, and is beside them.
        for stale in base.glob("fio-*.tmp.*"):
            shutil.rmtree(stale, ignore_errors=True)
        if mirror is None:
            raise LabError(f"no Debian archive is known to fetch fio's source from\n{elsewhere(version)}")
        # What a try that broke off has left would count as what has come.
        shutil.rmtree(base / "apt", ignore_errors=True)
        private = PrivateApt(base / "apt")
        with fetching(f"fetching the source of fio {version}", base / "apt"):
            seen: list[str] = []
            reached = False
            for suite in suites(apt.host_suite()):
                if not private.use(mirror, suite):
                    continue
                reached = True
                versions = parse_versions(private.show_source("fio"))
                chosen = choose(versions, version)
                if chosen is None:
                    seen += versions
                    continue
                try:
                    tarball = _tarball(private, chosen)
                except BrokenOff:
                    raise
                except LabError as error:
                    # A mirror may list what it does not keep.
                    raise LabError(f"{error}\n{elsewhere(version)}") from error
                _unpack(tarball, target)
                shutil.rmtree(base / "apt")
                return target
        if not reached:
            raise LabError(
                f"the source of fio {version} is to be fetched, and the archive cannot be reached: with a network, run "
                f"this again, or\n{elsewhere(version)}"
            )
        have = ", ".join(dict.fromkeys(seen)) or "none"
        raise LabError(f"no Debian suite has the source of fio {version}; there are {have}\n{elsewhere(version)}")


def remove() -> list[str]:
    """Removes all sources, and the fios built of them; returns the folder where that is in use."""
    base = cache.folder() / "fio"
    for left in base.parent.glob("fio.tmp.*"):
        shutil.rmtree(left, ignore_errors=True)
    if not base.is_dir():
        return []
    with files.try_lock(base / "lock") as sources, files.try_lock(base / "build.lock") as builds:
        if not (sources and builds):
            return [str(base)]
        # Under another name: this may be cut off, and a part of a source is none.
        dying = base.with_name(f"fio.tmp.{os.getpid()}")
        base.rename(dying)
        shutil.rmtree(dying)
    return []
