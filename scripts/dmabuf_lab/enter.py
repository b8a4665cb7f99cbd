# SPDX-License-Identifier: GPL-2.0-only
"""Runs a command in a root directory inside private mount and PID namespaces.

A program of its own, started as `python3 -I enter.py SPEC-IN-JSON COMMAND…`, because it changes the
process that it runs in. All mounts vanish with the namespace, whatever ends it; every process in it
is killed when the process that started it dies.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raises OSError with errno and `what` when a libc call failed."""
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2) with strings; raises OSError."""
    check(
        libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount {target}",
    )


def bind(source: str, target: str, read_only: bool) -> None:
    """Bind-mounts a file or folder; read_only applies to this mount only."""
    mount(source, target, None, MS_BIND)
    if read_only:
        mount(source, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def die_with_parent(parent: int) -> None:
    """Asks for SIGKILL when the parent dies; ends at once if it is dead already."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def enter(spec: dict[str, Any], command: list[str]) -> None:
    """Builds the view of the file system, changes root, and becomes the command."""
    root = str(spec["root"])
    bind(root, root, bool(spec["read_only"]))
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV)
    mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV)
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID)
    os.mkdir(f"{root}/dev/shm")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        if not os.path.exists(f"/dev/{name}"):
            continue
        Path(f"{root}/dev/{name}").touch()
        bind(f"/dev/{name}", f"{root}/dev/{name}", False)
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for source, target, read_only in spec["binds"]:
        bind(source, root + target, read_only)
    os.chroot(root)
    os.chdir(spec["cwd"])
    os.execvpe(command[0], command, spec["env"])


def main() -> int:
    """Returns the command's exit status, 128 + N when signal N ended it, 125 for a failure here."""
    spec = json.loads(sys.argv[1])
    command = sys.argv[2:]
    die_with_parent(int(spec["parent"]))
    try:
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError as error:
        print(f"dmabuf-lab: private namespace: {error.strerror}", file=sys.stderr)
        return 125
    child = os.fork()
    if child == 0:
        try:
            check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
            enter(spec, command)
        except OSError as error:
            print(f"dmabuf-lab: {error.strerror}: {error.filename or ''}", file=sys.stderr)
        os._exit(125)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256


if __name__ == "__main__":
    sys.exit(main())
