# SPDX-License-Identifier: GPL-2.0-only
"""Names of errnos, the one among them that only the kernel has a name for."""

import errno
import os

# The kernel's own "not supported". Drivers let it out: NVIDIA's refuses an mmap() of its dma-bufs with it.
ENOTSUPP = 524


def name(code: int) -> str:
    """"ENOMEM"; "errno 1234" for a number without a name."""
    return "ENOTSUPP" if code == ENOTSUPP else errno.errorcode.get(code, f"errno {code}")


def words(code: int) -> str:
    """What it means, in the words of the C library."""
    return "Not supported, the kernel's own ENOTSUPP" if code == ENOTSUPP else os.strerror(code)
