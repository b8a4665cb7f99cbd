#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is locked down and takes signed modules only, as with Secure Boot: our module is refused, unsigned or
signed with a key that the machine does not know, and our tools say why.

Runs in the lab's guest, without the module, booted with --append "lockdown=integrity module.sig_enforce=1". The key that
the machine knows would take a firmware. Exit status 0 pass, 1 fail, 2 usage.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

from fio.harness import Tally, module_users, need_engine
from fio.signing import (
    LOCKDOWN, UNSIGNED, another_key_refused, open_errno, said_why, sign_with_another_key, unsigned_refused,
)


def main() -> int:
    """Everything, in order."""
    need_engine()
    if not LOCKDOWN.exists():
        subprocess.run(["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=True)
    if "[integrity]" not in LOCKDOWN.read_text() or module_users() >= 0:
        sys.exit('setup: boot with --no-module --append "lockdown=integrity module.sig_enforce=1"')
    if not Path(UNSIGNED).exists():
        sys.exit("setup: there is no module: dmabuf-lab build")
    tally = Tally()
    unsigned_refused(tally)
    sign_with_another_key(tally)
    another_key_refused(tally)
    said_why(tally)
    # The lockdown is in force, and the list of dma-bufs, which our tests read, is open all the same.
    tally.same(open_errno("/dev/mem", os.O_RDWR), errno.EPERM, "/dev/mem is closed")
    tally.same(open_errno("/sys/kernel/debug/dma_buf/bufinfo", os.O_RDONLY), 0, "debugfs: bufinfo can be read")
    return tally.finish("fio_signed_only")


if __name__ == "__main__":
    sys.exit(main())
