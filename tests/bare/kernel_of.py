# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that a bare root is told to run: the newest of its suite that has headers there."""

import re

from bare_root import Bare

HEADERS = re.compile(r"^linux-headers-((\d+)\.(\d+)\.(\d+)\S*-amd64)$", re.MULTILINE)
# Roots share this machine's kernel, which no suite has headers of. uname and modprobe are told another one; modprobe
# looks for the module and loads none.
UNAME = '#!/bin/sh\n[ "$*" = -r ] && echo {release} || exec /usr/bin/uname "$@"\n'
MODPROBE = '#!/bin/sh\nexec /usr/sbin/modprobe --dry-run --verbose --set-version {release} "$@"\n'


def newest(names: str) -> str:
    """The newest release among names of packages, one a line."""
    found = [(tuple(map(int, match.groups()[1:])), match[1]) for match in HEADERS.finditer(names)]
    found = [(version, release) for version, release in found if "cloud" not in release and "rt" not in release]
    assert found, "the suite has no kernel's headers"
    return max(found)[1]


def pretend(bare: Bare, wanted: str = "") -> str:
    """The release: the wanted one, if the suite has headers of it. The root's indexes are fetched for it, and gone again."""
    names = bare.check("apt-get -qq update; apt-cache pkgnames linux-headers-; rm -rf /var/lib/apt/lists/*", "/")
    release = wanted if f"linux-headers-{wanted}" in names.split() else newest(names)
    bare.write("/usr/local/bin/uname", UNAME.format(release=release))
    bare.write("/usr/local/sbin/modprobe", MODPROBE.format(release=release))
    return release
