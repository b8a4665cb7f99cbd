# SPDX-License-Identifier: GPL-2.0-only
"""Fetches Linux's source, as Debian packages it, into the cache folder."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import apt, cache, config, root
from .errors import LabError
from .private_apt import PrivateApt
from .progress import fetching, step

PACKAGE = f"linux-source-{config.DEBUG_SERIES}"

# What checks of a kernel module's sources need: checkpatch, kernel-doc and its Python parts, and the
# script that Debian's headers leave out, without which kbuild takes sparse for missing.
SCRIPTS = (
    "scripts/checkpatch.pl",
    "scripts/spelling.txt",
    "scripts/const_structs.checkpatch",
    "scripts/checker-valid.sh",
    "scripts/kernel-doc",
    "tools/docs",
    "tools/lib/python",
)


@dataclass(frozen=True)
class LinuxSource:
    """A fetched source. version: the Debian version of its package; tarball: the packed tree."""

    version: str
    tarball: Path


def folder() -> Path:
    """Where sources are cached."""
    return cache.folder() / "linux-source"


def _cached() -> LinuxSource | None:
    found = sorted(folder().glob("*.tar.xz"), key=lambda path: path.stat().st_mtime)
    if not found:
        return None
    return LinuxSource(found[-1].name.removesuffix(".tar.xz"), found[-1])


def _extract_tarball(package: Path, into: Path) -> Path:
    """Takes the tarball out of a Debian package."""
    result = subprocess.run(
        ["dpkg-deb", "--extract", str(package), str(into)], capture_output=True, text=True
    )
    found = list(into.glob("usr/src/linux-source-*.tar.xz"))
    if result.returncode != 0 or not found:
        raise LabError(f"{package.name} holds no source: {result.stderr.strip()}")
    return found[0]


def _fetch(base: Path, mirror: str) -> None:
    private = PrivateApt(base / "apt")
    if not private.use(mirror, config.BACKPORTS, "deb"):
        raise LabError(f"the archive has no {config.BACKPORTS}")
    version = re.search(r"^Version: (\S+)$", private.show(PACKAGE), re.MULTILINE)
    if version is None:
        raise LabError(f"{config.BACKPORTS} has no package {PACKAGE}")
    download = private.download(f"{PACKAGE}={version[1]}")
    package = next(download.glob("*.deb"))
    tarball = _extract_tarball(package, download / "extracted")
    os.rename(tarball, base / f"{version[1]}.tar.xz")
    shutil.rmtree(base / "apt")


def get() -> LinuxSource:
    """The source that is in the cache, or else the newest of the archive, fetched now."""
    base = folder()
    with cache.lock(base / "lock", what="the Linux sources"):
        found = _cached()
        if found is not None:
            return found
        mirror = apt.host_mirrors().main or root.debian_mirror()
        if mirror is None:
            raise LabError("no Debian archive is known to fetch Linux's source from")
        with fetching(f"fetching {PACKAGE} (160 MB)", base / "apt"):
            _fetch(base, mirror)
        found = _cached()
    if found is None:
        raise LabError(f"{PACKAGE} vanished right after it was fetched")
    return found


def unpack(source: LinuxSource, target: Path, members: tuple[str, ...] = ()) -> None:
    """Unpacks a source, or only some of its files and folders, as the folder `target`."""
    temporary = target.with_name(f"{target.name}.tmp.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    top = f"linux-source-{config.DEBUG_SERIES}"
    argv = ["tar", "--extract", "--no-same-owner", "--strip-components=1"]
    argv += ["--use-compress-program=xz -T0", f"--file={source.tarball}", f"--directory={temporary}"]
    argv += [f"{top}/{member}" for member in members]
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode != 0:
        raise LabError(f"cannot unpack {source.tarball.name}: {result.stderr.strip()}")
    temporary.rename(target)


def scripts() -> Path:
    """A folder with SCRIPTS of the cached source, unpacked when they are not there yet."""
    source = get()
    target = folder() / f"{source.version}.scripts"
    with cache.lock(folder() / "lock", what="the Linux sources"):
        for stale in folder().glob("*.tmp.*"):
            shutil.rmtree(stale, ignore_errors=True)
        if not target.is_dir():
            with step("unpacking the scripts of Linux's source"):
                unpack(source, target, SCRIPTS)
    return target
