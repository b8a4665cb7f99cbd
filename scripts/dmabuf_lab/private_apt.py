# SPDX-License-Identifier: GPL-2.0-only
"""An apt of the lab's own, which fetches packages without touching the host's sources or state."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import apt, kept
from .progress import say

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


class PrivateApt:
    """An apt with state, cache and sources of its own in a folder.

    Of an architecture; packages of amd64 it has in any case, as NAME:amd64 for another.
    """

    def __init__(self, folder: Path, arch: str = "amd64", name: str = "") -> None:
        """name: under which the binary packages are kept for another time, and the file names of all that it gave."""
        self.folder, self.arch, self.name = folder, arch, name
        self.used: set[str] = set()
        self.downloads = 0
        for name in ("state/lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "empty").touch()

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> tuple[int, str, str]:
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
            # Without a network `update` would else warn, end with 0, and know of no package.
            "APT::Update::Error-Mode": "any",
        }
        argv = [program]
        if self.arch != "amd64":
            argv += ["-o", f"APT::Architecture={self.arch}"]
            argv += ["-o", f"APT::Architectures::={self.arch}", "-o", "APT::Architectures::=amd64"]
        for key, value in settings.items():
            argv += ["-o", f"{key}={value}"]
        # What it says is read.
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        result = subprocess.run([*argv, *words], cwd=cwd, env=env, capture_output=True, text=True)
        return result.returncode, result.stdout, result.stderr.strip()

    def use(self, mirror: str, suite: str, kind: str = "deb-src") -> bool:
        """Reads the index of one suite; False if the mirror has no such suite.

        kind: "deb-src" for source packages, "deb" for binary ones.
        """
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        options = [f"signed-by={keyring}"] if keyring else []
        architectures = ",".join(dict.fromkeys((self.arch, "amd64")))
        options += [f"arch={architectures}"] if kind == "deb" else []
        option = f"[{' '.join(options)}] " if options else ""
        line = f"{kind} {option}{mirror} {suite} main\n"
        (self.folder / "sources.list").write_text(line)
        status, _, error = self._run("apt-get", "-qq", "update")
        if status != 0:
            say(f"{suite} cannot be asked: {(error.splitlines() or ['?'])[0]}")
        return status == 0

    def show_source(self, package: str) -> str:
        """What `apt-cache showsrc` says of a source package in the suite in use."""
        return self._run("apt-cache", "showsrc", "--only-source", package)[1]

    def show(self, package: str) -> str:
        """What `apt-cache show` says of a binary package's newest version in the suite in use."""
        return self._run("apt-cache", "show", "--no-all-versions", package)[1]

    def names(self, prefix: str) -> list[str]:
        """The names of all packages that begin so in the suite in use."""
        return self._run("apt-cache", "pkgnames", prefix)[1].split()

    def depends(self, package: str) -> str:
        """What `apt-cache depends` says of a binary package."""
        return self._run("apt-cache", "depends", package)[1]

    def download_source(self, package: str) -> Path:
        """Downloads the tarballs of a source package; the folder that they are in."""
        return self._download(self._new_folder(), package, "source", "--download-only", "--tar-only")

    def download(self, package: str) -> Path:
        """Downloads a binary package, or takes the one that is kept; the folder that it is in."""
        into = self._new_folder()
        if self.name:
            wanted = kept.uris(self._run("apt-get", "-qq", "--print-uris", "download", package)[1])
            for file, digest in wanted.items():
                kept.lend_one(file, digest, into)
            self.used.update(wanted)
        self._download(into, package, "download")
        if self.name:
            kept.keep(self.name, into)
        return into

    def _new_folder(self) -> Path:
        """For one download; what other downloads gave stays, and counts as what has come."""
        self.downloads += 1
        into = self.folder / f"download/{self.downloads}"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        return into

    def _download(self, into: Path, package: str, *command: str) -> Path:
        words: Sequence[str] = ("-qq", *command, package)
        status, _, error = self._run("apt-get", *words, cwd=into)
        if status != 0:
            raise apt.failure(error, f"cannot download {package}: {error}")
        return into
