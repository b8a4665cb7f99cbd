# SPDX-License-Identifier: GPL-2.0-only
"""The host's apt: its mirrors and download settings, and the few packages that the host needs."""

import errno
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BrokenOff, LabError
from .progress import fetching

# Where the host's apt-get puts what it fetches.
ARCHIVES = Path("/var/cache/apt/archives")

INDEX_FORMAT = "$(SITE)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)|$(ORIGIN)"

# Suites and code names of Debian's archive. Third-party archives use some of them too, so an archive
# must also have the component "main" and call itself Debian.
_DEBIAN_SUITES = re.compile(
    r"^(bookworm|trixie|forky|sid|stable|testing|unstable|oldstable)(-updates|-backports)?$"
)
_SECURITY_SUITES = re.compile(r"^(bookworm|trixie|forky|stable|oldstable)-security$")

# What is carried over from the host's download settings.
_CARRIED = re.compile(
    r"^Acquire::(?:(?:https?|ftp)::|Check-Valid-Until\b|Check-Date\b|Retries\b|Max-ValidTime\b"
    r"|ForceIPv[46]\b|AllowInsecureRepositories\b)"
)


# What apt says of a file that did not come, and why.
_NOT_FETCHED = re.compile(r"^[EW]: Failed to fetch (\S+)\s+(\S.*?)(?: \[IP: [^]]*\])?$", re.MULTILINE)
# HTTP's errors that are the client's; but for time-outs and too many requests.
_REFUSED = re.compile(r"4(?!08|29)\d\d ")


def failure(said: str, otherwise: str) -> LabError:
    """Why apt failed, by what it said in English: what another try may have is a BrokenOff."""
    full = os.strerror(errno.ENOSPC)
    if full in said:
        return LabError(f"the disk is full ({full}): make room, or, for what the lab keeps, set DMABUF_LAB_CACHE to "
                        "a folder with more, and run this again")
    found = _NOT_FETCHED.search(said)
    # What the archive does not have, or does not give, will not be there at another try.
    if found is None or _REFUSED.match(found[2]):
        return LabError(otherwise)
    return BrokenOff(f"{found[1]} could not be fetched: {found[2]}; when the archive answers, run this again")


@dataclass(frozen=True)
class Mirrors:
    """Addresses of Debian's archive and security archive; None where the host names none."""

    main: str | None
    security: str | None


def parse_mirrors(indextargets: str) -> Mirrors:
    """Finds Debian's archives in the output of `apt-get indextargets --format INDEX_FORMAT`."""
    main: str | None = None
    security: str | None = None
    for line in indextargets.splitlines():
        site, release, component, kind, origin = (line.split("|") + [""] * 5)[:5]
        if kind != "Packages" or component != "main" or origin != "Debian" or not site:
            continue
        site = site.rstrip("/")
        if _SECURITY_SUITES.match(release):
            security = security or site
        elif _DEBIAN_SUITES.match(release):
            main = main or site
    return Mirrors(main, security)


def parse_settings(config_dump: str) -> list[str]:
    """Download settings ('Acquire::X "value"') in the output of `apt-config dump`.

    Empty values are sections or unset options and are left out.
    """
    settings = []
    for line in config_dump.splitlines():
        text = line.strip().rstrip(";")
        if _CARRIED.match(text) and not text.endswith('""'):
            settings.append(text)
    return settings


def _output(argv: Sequence[str]) -> str:
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode != 0:
        raise LabError(f"{argv[0]} failed: {result.stderr.strip()}")
    return result.stdout


def host_mirrors() -> Mirrors:
    """The mirrors that the host's apt is configured with.

    apt knows them only with their indexes, so those are fetched when there are none.
    """
    argv = ["apt-get", "indextargets", "--format", INDEX_FORMAT]
    found = parse_mirrors(_output(argv))
    if found.main is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True)
        found = parse_mirrors(_output(argv))
    return found


def host_settings() -> list[str]:
    """The host's download settings: proxies, checks of validity, retries."""
    return parse_settings(_output(["apt-config", "dump"]))


def host_suite() -> str:
    """The code name of the host's own release, or "" if it does not say."""
    with open("/etc/os-release", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            if key == "VERSION_CODENAME":
                return value.strip('"')
    return ""


def missing(packages: Iterable[str]) -> list[str]:
    """The packages, by name, that are not installed on the host."""
    wanted = list(packages)
    result = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *wanted],
        capture_output=True,
        text=True,
    )
    lines = (line.split() for line in result.stdout.splitlines())
    installed = {words[0] for words in lines if words[1:] == ["ii"]}
    return [name for name in wanted if name not in installed]


def install(packages: Iterable[str]) -> None:
    """Installs the packages that are missing on the host; does nothing when all are there."""
    needed = missing(packages)
    if not needed:
        return
    options = ["-y", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    argv = ["apt-get", *options, "install", "--no-install-recommends", *needed]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    with fetching(f"installing on the host: {' '.join(needed)}", ARCHIVES):
        result = subprocess.run([*environment, *argv], capture_output=True, text=True)
        if result.returncode != 0:
            _output(["apt-get", "-qq", "update"])
            result = subprocess.run([*environment, *argv], capture_output=True, text=True)
        if result.returncode != 0:
            raise failure(result.stderr, f"apt-get cannot install {' '.join(needed)}: {result.stderr.strip()}")
