# SPDX-License-Identifier: GPL-2.0-only
"""Packages that were fetched, kept in the cache: the next set-up fetches only what is new.

  packages/*.deb       the packages: links to what an apt had fetched and compared with the archive's index
  packages/NAME.json   those that NAME (a root, a kernel) was made of, with their hashes; while NAME is not complete, those
                       that came, too. A package that no such file lists is removed
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dmabuf_common import files

from . import cache

# Where a root's apt has what it fetched, and its indexes.
ARCHIVES, LISTS = "var/cache/apt/archives", "var/lib/apt/lists"
SUFFIX = ".json"


def folder() -> Path:
    """Where they are."""
    path = cache.folder() / "packages"
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def _locked() -> Iterator[Path]:
    with cache.lock(cache.folder() / "packages.lock", what="the packages that are kept"):
        yield folder()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        pass


def _listed(place: Path, name: str) -> dict[str, str]:
    try:
        found = json.loads((place / f"{name}{SUFFIX}").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(package): str(digest) for package, digest in found.items()}


def _names(place: Path) -> list[str]:
    return sorted(path.name.removesuffix(SUFFIX) for path in place.glob(f"*{SUFFIX}"))


def _known(place: Path) -> dict[str, str]:
    """All that are listed, with their hashes."""
    return {package: digest for name in _names(place) for package, digest in _listed(place, name).items()}


def _prune(place: Path) -> None:
    needed = _known(place)
    for path in place.glob("*.deb"):
        if path.name not in needed:
            path.unlink()


def lend(target: Path) -> None:
    """Links all that are kept, and are as they were fetched, into a folder: apt compares no more than their lengths."""
    with _locked() as place:
        known = _known(place)
        for path in sorted(place.glob("*.deb")):
            if known.get(path.name) == _digest(path):
                _link(path, target / path.name)
            else:
                path.unlink()


def lend_one(package: str, digest: str, target: Path) -> None:
    """Links one into a folder, if it is kept and has the SHA-256 that the archive's index names."""
    with _locked() as place:
        path = place / package
        if path.is_file() and _digest(path) == digest:
            _link(path, target / package)


def keep(name: str, source: Path) -> None:
    """Keeps the packages that an apt left in a folder, for NAME, which is not complete yet."""
    with _locked() as place:
        listed, known = _listed(place, name), _known(place)
        for path in sorted(source.glob("*.deb")):
            ours = place / path.name
            # What was lent.
            if path.name in known and ours.exists() and ours.samefile(path):
                continue
            ours.unlink(missing_ok=True)
            _link(path, ours)
            listed[path.name] = _digest(ours)
        files.write_json(place / f"{name}{SUFFIX}", listed)


def settle(name: str, used: Collection[str]) -> None:
    """NAME is complete, and was made of these: others that were kept for it are not needed any more."""
    with _locked() as place:
        known = _known(place)
        files.write_json(place / f"{name}{SUFFIX}", {package: known[package] for package in sorted(used) if package in known})
        _prune(place)


def rescue(name: str, source: Path) -> None:
    """Keeps what a set-up that was killed had fetched; what was not written whole goes away."""
    for path in source.glob("*.deb"):
        argv = ["dpkg-deb", "--fsys-tarfile", str(path)]
        if subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            path.unlink()
    if source.is_dir():
        keep(name, source)


def installed(root: Path) -> set[str]:
    """The names of the packages' files that a root's dpkg has installed."""
    status = root / "var/lib/dpkg/status"
    text = status.read_text() if status.exists() else ""
    found = set()
    for entry in text.split("\n\n"):
        said = dict(re.findall(r"^(Package|Version|Architecture): (\S+)$", entry, re.MULTILINE))
        if len(said) == 3:
            version = said["Version"].replace(":", "%3a")
            found.add(f"{said['Package']}_{version}_{said['Architecture']}.deb")
    return found


def uris(printed: str) -> Mapping[str, str]:
    """Files and their SHA-256 in what `apt-get --print-uris` prints."""
    return dict(re.findall(r"^'\S+' (\S+) \d+ SHA256:([0-9a-f]{64})$", printed, re.MULTILINE))


def remove(everything: bool, needed: Collection[str]) -> None:
    """Removes those of what no recipe makes any more, or all."""
    with _locked() as place:
        if everything:
            shutil.rmtree(place)
            return
        for name in _names(place):
            if name not in needed:
                (place / f"{name}{SUFFIX}").unlink()
        _prune(place)
