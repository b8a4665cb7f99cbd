#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A machine with Secure Boot: modules that no enrolled key signed are refused, our tools say why, and one that
DKMS's key signed works in both directions.

Runs in the lab's guest, booted with --secure-boot. Exit status 0 pass, 1 fail, 2 usage.
"""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

from fio.harness import DEV, Tally, module_users, need_engine
from fio.signing import (
    LONG_S, OTHER_CERTIFICATE, PROGRAMS, QUAL, another_key_refused,
    both_directions, enrolled, load_signed, open_errno, run, said_why, secure_boot_on, sign_with_another_key,
    unsigned_refused, witness,
)

SIGNED = os.environ.get("DMABUF_RW_KO", "")
HURT = "/run/lab/signed/testmod/dmabuf_hurt.ko"
# The whole of isolation takes longer; these are what the smoke test of each kernel has.
CORE = ("modes", "handles", "ranges", "commands", "partition")


def refused(tally: Tally) -> None:
    """What no enrolled key signed is not loaded."""
    unsigned_refused(tally)
    sign_with_another_key(tally)
    unknown = run("mokutil", "--test-key", OTHER_CERTIFICATE).stdout
    tally.check("is not enrolled" in unknown, "another key: mokutil does not know it", unknown)
    # What the user asks for with a password; the firmware's screen would ask for it at the next boot.
    asked = subprocess.run(["mokutil", "--import", OTHER_CERTIFICATE], input="password\npassword\n", text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    tally.check(asked.returncode == 0 and "CN=nobody" in run("mokutil", "--list-new").stdout,
                "mokutil --import: the request is there for the next boot", asked.stdout)
    another_key_refused(tally)


def works(tally: Tally) -> None:
    """Signed as DKMS does it, with the key that is enrolled: the module's promises, and both directions."""
    if not load_signed(tally):
        return
    shown = run(sys.executable, QUAL, "preflight", DEV).stdout
    tally.check("signed modules only" not in shown and re.search(r"ok +module", shown) is not None,
                "preflight: the module is there", shown)
    for group in CORE:
        said = run(f"{PROGRAMS}/isolation", "--only", group, "--exporter", "udmabuf-scattered", limit_s=LONG_S)
        tally.same(said.returncode, 0, f"isolation {group}: {said.stdout[-400:]}")
    witness(tally, "udmabuf-scattered,heap")
    both_directions(tally)


def forbidden(tally: Tally) -> None:
    """What else a locked-down Linux forbids of what we use: nothing of the tools', but files of the test modules."""
    tally.same(open_errno("/dev/mem", os.O_RDWR), errno.EPERM, "/dev/mem is closed: the lockdown is in force")
    tally.same(open_errno("/sys/kernel/debug/dmabuf_rw/mappings", os.O_RDONLY), 0, "debugfs: mappings can be read")
    tally.same(open_errno("/sys/kernel/debug/dma_buf/bufinfo", os.O_RDONLY), 0, "debugfs: bufinfo can be read")
    tally.same(open_errno("/sys/kernel/tracing/events/dmabuf_rw/enable", os.O_WRONLY), 0, "tracepoints can be enabled")
    said = run("insmod", HURT)
    tally.same(said.returncode, 0, f"the test module that is signed is loaded: {said.stdout}")
    tally.same(open_errno("/sys/kernel/debug/dmabuf_hurt/slow", os.O_WRONLY), errno.EPERM,
               "debugfs: its files that are written are closed")
    tally.same(run("rmmod", "dmabuf_hurt").returncode, 0, "the test module goes away")


def main() -> int:
    """Everything, in order: each part leaves what the next one needs."""
    need_engine()
    if not SIGNED or module_users() < 0:
        sys.exit("setup: dmabuf_rw is not loaded")
    tally = Tally()
    secure_boot_on(tally)
    enrolled(tally)
    tally.same(run("rmmod", "dmabuf_rw").returncode, 0, "the lab's own signed module was loaded, and goes away")
    for part in (refused, said_why, works, forbidden):
        part(tally)
    return tally.finish("fio_secure_boot")


if __name__ == "__main__":
    sys.exit(main())
