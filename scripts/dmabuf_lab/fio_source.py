# SPDX-License-Identifier: GPL-2.0-only
"""Fetches fio's source, by version, from Debian's source packages, without touching the host's apt."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import apt, cache, config
from .errors import LabError
from .progress import say, step

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


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


class PrivateApt:
    """An apt with state, cache and sources of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "empty").touch()

    def _argv(self, program: str) -> list[str]:
        settings = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "parts",
            "Dir::Etc::preferences": self.folder / "empty",
            "Dir::Etc::preferencesparts": self.folder / "parts",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        words = [program]
        for key, value in settings.items():
            words += ["-o", f"{key}={value}"]
        return words

    def use(self, mirror: str, suite: str) -> bool:
        """Reads the index of source packages of one suite; False if the mirror has no such suite."""
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        option = f"[signed-by={keyring}] " if keyring else ""
        line = f"deb-src {option}{mirror} {suite} main\n"
        (self.folder / "sources.list").write_text(line)
        result = subprocess.run(
            [*self._argv("apt-get"), "-qq", "update"], capture_output=True, text=True
        )
        if result.returncode != 0:
            say(f"{suite} cannot be asked: {(result.stderr.strip().splitlines() or ['?'])[0]}")
        return result.returncode == 0

    def versions(self) -> list[str]:
        """The versions of fio's source package in the suite in use."""
        argv = [*self._argv("apt-cache"), "showsrc", "--only-source", "fio"]
        return parse_versions(subprocess.run(argv, capture_output=True, text=True).stdout)

    def tarball(self, version: str) -> Path:
        """Downloads upstream's tarball of fio's source package in a Debian version."""
        into = self.folder / "download"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        argv = [*self._argv("apt-get"), "-qq", "source", "--download-only", "--tar-only"]
        result = subprocess.run(
            [*argv, f"fio={version}"], cwd=into, capture_output=True, text=True
        )
        found = [path for path in into.glob("fio_*.orig.tar.*") if path.suffix != ".asc"]
        if result.returncode != 0 or not found:
            raise LabError(f"cannot download the source of fio {version}: {result.stderr.strip()}")
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
        for stale in base.glob("*.tmp.*"):
            shutil.rmtree(stale, ignore_errors=True)
        if mirror is None:
            raise LabError("no Debian archive is known to fetch fio's source from")
        private = PrivateApt(base / "apt")
        with step(f"fetching the source of fio {version}"):
            seen: list[str] = []
            for suite in suites(apt.host_suite()):
                if not private.use(mirror, suite):
                    continue
                versions = private.versions()
                chosen = choose(versions, version)
                if chosen:
                    _unpack(private.tarball(chosen), target)
                    shutil.rmtree(base / "apt")
                    return target
                seen += versions
        raise LabError(f"no Debian suite has fio {version}; there are {', '.join(seen) or 'none'}")
