# SPDX-License-Identifier: GPL-2.0-only
"""Runs commands in a lab root, each in a private mount namespace (see enter.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True)
class Bind:
    """A folder or file of the host shown at `target` in the root; the target must exist there."""

    source: Path
    target: str
    read_only: bool = True


def _argv(
    root: Path, command: Sequence[str], read_only: bool, binds: Sequence[Bind], cwd: str
) -> list[str]:
    spec = {
        "root": str(root),
        "read_only": read_only,
        "binds": [(str(b.source), b.target, b.read_only) for b in binds],
        "cwd": cwd,
        "env": ENVIRONMENT,
        "parent": os.getpid(),
    }
    helper = Path(__file__).with_name("enter.py")
    return [sys.executable, "-I", str(helper), json.dumps(spec), *command]


def run(
    root: Path,
    command: Sequence[str],
    *,
    read_only: bool = True,
    binds: Sequence[Bind] = (),
    cwd: str = "/",
) -> subprocess.CompletedProcess[str]:
    """Runs `command` in `root` and returns its status with stdout and stderr as one text.

    With read_only nothing in the root can change; /tmp, /run and /dev are private in any case.
    """
    need_root()
    return subprocess.run(
        _argv(root, command, read_only, binds, cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def check(
    root: Path,
    command: Sequence[str],
    what: str,
    *,
    read_only: bool = True,
    binds: Sequence[Bind] = (),
    cwd: str = "/",
) -> str:
    """Like run(), but raises LabError with `what` and the end of the output when it failed."""
    result = run(root, command, read_only=read_only, binds=binds, cwd=cwd)
    if result.returncode != 0:
        tail = "\n".join(result.stdout.rstrip().splitlines()[-40:])
        raise LabError(f"{what} failed with status {result.returncode}:\n{tail}")
    return result.stdout


def need_root() -> None:
    """Raises LabError unless the process may mount and change root."""
    if os.geteuid() != 0:
        raise LabError("this needs root: mounts and chroot are not possible as another user")
