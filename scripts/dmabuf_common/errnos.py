# SPDX-License-Identifier: GPL-2.0-only
"""Names of errnos, those among them that only the kernel has a name for."""

import errno
import os

# The kernel's own errnos, with names and meanings as in the engine (engine/base/error.cpp) and its library
# (engine/module/words.c). 524: drivers let it out; NVIDIA's refuses an mmap() of its dma-bufs with it.
KERNEL_OWN = {524: ("ENOTSUPP", "Not supported, the kernel's own errno 524")}


def name(code: int) -> str:
    """"ENOMEM"; "errno 1234" for a number without a name."""
    if code in KERNEL_OWN:
        return KERNEL_OWN[code][0]
    return errno.errorcode.get(code, f"errno {code}")


def words(code: int) -> str:
    """What it means, in the words of the C library."""
    return KERNEL_OWN[code][1] if code in KERNEL_OWN else os.strerror(code)
