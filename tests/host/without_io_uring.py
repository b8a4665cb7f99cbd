#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""without_io_uring.py EPERM|ENOSYS|KILL COMMAND…: runs COMMAND where making an io_uring fails with that
error, or kills who tries, by a seccomp filter as containers have it, whatever the sysctl says."""

import ctypes
import errno
import os
import struct
import sys

SETUP = 425  # io_uring_setup, on every architecture but alpha
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("count", ctypes.c_ushort), ("text", ctypes.c_void_p))


def main() -> None:
    action = KILL if sys.argv[1] == "KILL" else ERROR | getattr(errno, sys.argv[1])
    steps = (
        (LOAD_WORD, 0, 0, 0),  # seccomp_data.nr
        (JUMP_IF_EQUAL, 0, 1, SETUP),
        (RETURN, 0, 0, action),
        (RETURN, 0, 0, ALLOW),
    )
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program)):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
