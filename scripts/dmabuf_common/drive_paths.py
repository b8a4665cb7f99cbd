# SPDX-License-Identifier: GPL-2.0-only
"""Which block device a name leads to, of those that the kernel tells: in tables of mounts, of swap, of exports."""

import os
import re
import stat

from .sysfs import System


def unescaped(text: str) -> str:
    """A name of /proc/self/mountinfo or /proc/swaps, which write blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def number_of_path(system: System, path: str) -> str:
    """The device number behind a path; "" where it leads to no block device. A path that is gone from
    /dev is looked up by its name."""
    if not path.startswith("/"):
        return ""
    path = path.removesuffix(" (deleted)")
    try:
        found = os.stat(system.path(path))
        if stat.S_ISBLK(found.st_mode):
            return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    except OSError:
        pass
    if not path.startswith("/dev/"):
        return ""
    return system.read(f"/sys/class/block/{os.path.basename(path)}/dev")
