# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are kept, and the newest stock kernel of a series of what the archive offers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError


@dataclass(frozen=True)
class KeptKernel:
    """A finished kernel in a folder of the cache, and what is known about it."""

    path: Path
    info: dict[str, Any]

    @property
    def release(self) -> str:
        """Its release, as uname -r says it."""
        return str(self.info["release"])

    @property
    def image(self) -> Path:
        """Its bootable image."""
        return self.path / "vmlinuz"

    @property
    def modules(self) -> Path:
        """The folder with its modules.dep."""
        return self.path / "lib/modules" / self.release


def release_of(package: str) -> str:
    """The kernel release of an image package: "linux-image-7.3.4+deb13-amd64" → "7.3.4+deb13-amd64"."""
    return package.removeprefix("linux-image-")


def _key(package: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release_of(package))]


def newest(packages: Iterable[str], series: str, flavour: str = "amd64") -> str:
    """The newest image package of a series among package names, of one flavour.

    Cloud, debug and unsigned images, and those of other flavours, are not taken. Raises LabError if
    none is there.
    """
    # "6.1.0-50-amd64" has a number of Debian's own before the flavour.
    wanted = re.compile(
        rf"^linux-image-{re.escape(series)}[.+][0-9a-z.+~]*(-\d+)?-{re.escape(flavour)}$"
    )
    candidates = [name for name in packages if wanted.match(name)]
    if not candidates:
        raise LabError(f"the archive has no kernel image of the {series} series")
    return max(candidates, key=_key)


def headers(depends: str, release: str) -> list[str]:
    """The packages that modules are built with against a release, but for compilers.

    depends is the output of `apt-cache depends` for its header package.
    """
    pattern = r"Depends:\s+(linux-(?:headers|kbuild)-[^\s<>]+)\s*$"
    found = re.findall(pattern, depends, re.MULTILINE)
    return sorted({f"linux-headers-{release}", *found})


def parts(depends: str, release: str) -> list[str]:
    """The packages of that very release that an image package depends on (its files may be split).

    depends is the output of `apt-cache depends`; headers are not among them.
    """
    pattern = rf"Depends:\s+(linux-(?:base|binary|modules|image)-{re.escape(release)})\s*$"
    return sorted(set(re.findall(pattern, depends, re.MULTILINE)))
