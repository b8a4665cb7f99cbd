# SPDX-License-Identifier: GPL-2.0-only
"""Can an io_uring be made here? The sysctl alone does not tell: containers forbid it by a filter."""

import errno
import signal
import sys

from dmabuf_common import process
from dmabuf_common.sysfs import System

from .checks import GREEN, RED, Check

SYSCTL = "/proc/sys/kernel/io_uring_disabled"
ATTEMPT_S = 30.0
# io_uring_setup is 425 on every architecture but alpha, and its parameters are 120 bytes.
_ATTEMPT = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
made = libc.syscall(ctypes.c_long(425), ctypes.c_uint(1), ctypes.create_string_buffer(120))
print(0 if made >= 0 else ctypes.get_errno())
"""


def attempt() -> str:
    """Makes an io_uring in a program of its own, as a filter may kill who tries: "" where that works, else
    the name of the error or signal."""
    ended = process.run([sys.executable, "-I", "-c", _ATTEMPT], ATTEMPT_S)
    if ended.hung:
        return "no answer"
    if ended.status < 0:
        return signal.Signals(-ended.status).name
    text = ended.out.strip()
    if ended.status or not text.isdecimal():
        return (ended.err.strip().splitlines() or ["no answer"])[-1]
    code = int(text)
    return errno.errorcode.get(code, str(code)) if code else ""


def check(system: System, said: str) -> Check:
    """What an attempt means. `said`: what attempt() answered."""
    if not said:
        return Check("io_uring", GREEN, "an io_uring can be made")
    disabled = system.read(SYSCTL)
    if said == "EPERM" and disabled not in ("", "0"):
        return Check("IO_URING_DISABLED", RED, f"io_uring is switched off: kernel.io_uring_disabled is {disabled}",
                     "sysctl kernel.io_uring_disabled=0")
    if said in ("EPERM", "ENOSYS", "SIGSYS"):
        but = f" although kernel.io_uring_disabled is {disabled}" if disabled else ""
        return Check("IO_URING_FORBIDDEN", RED, f"making an io_uring ends in {said}{but}: by a seccomp filter, as "
                     "containers have it",
                     "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile "
                     "(docs/engine.md, In a container), or run it outside of the container")
    return Check("IO_URING_FAILED", RED, f"making an io_uring ends in {said}",
                 "raise the limits of memory and open files (ulimit -l, ulimit -n); see dmesg")
