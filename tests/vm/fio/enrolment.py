#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A key like DKMS's, enrolled as a user does it: mokutil --import, a password, a reboot, MokManager's screen.

Runs in the lab's guest, booted with --secure-boot, --flash FILE and --share, in this order:

  enrolment.py ask    a machine that does not know the key refuses the module, and is asked to enrol the key
  (MokManager)        --mok-password of the next boot
  enrolment.py use    the module is loaded, and moves every byte in both directions

Exit status 0 pass, 1 fail, 2 usage.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fio.harness import Tally, module_users, need_engine
from fio.signing import (
    CERTIFICATE, KEY, OTHER_CERTIFICATE, REJECTED, SIGN_FILE, UNSIGNED, another_key_refused, both_directions, documented,
    enrolled, load_signed, run, said_why, secure_boot_on, sign_with_another_key, unsigned_refused, witness,
)

# What DKMS keeps, from one boot to the next.
SHARE = Path("/share")
SIGNED = "/tmp/signed.ko"


def make_key() -> None:
    """As DKMS does it when it builds its first module."""
    Path(KEY).parent.mkdir(parents=True)
    run("openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "36500",
        "-subj", "/CN=DKMS module signing key", "-outform", "DER", "-keyout", KEY, "-out", CERTIFICATE)
    for path in (KEY, CERTIFICATE):
        shutil.copy(path, SHARE)


def refused(tally: Tally) -> None:
    """The module is refused though it is signed: the machine does not know the key."""
    unsigned_refused(tally)
    signed = run(SIGN_FILE, "sha256", KEY, CERTIFICATE, UNSIGNED, SIGNED)
    tally.same(signed.returncode, 0, f"signed with a key that is not enrolled: {signed.stdout}")
    said = run("insmod", SIGNED)
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "a key that is not enrolled: refused", said.stdout)
    tally.same(module_users(), -1, "no module is loaded")
    unknown = run("mokutil", "--test-key", CERTIFICATE).stdout
    tally.check("is not enrolled" in unknown, "mokutil does not know the key", unknown)


def ask(tally: Tally) -> None:
    """A first boot, up to the page's `reboot`."""
    make_key()
    refused(tally)
    said_why(tally)
    command, reboot = documented("mokutil --import").splitlines()
    tally.same(reboot.strip(), "reboot", "the page: what follows mokutil --import")
    password = os.environ["MOK_PASSWORD"]
    asked = subprocess.run(["sh", "-ec", command], input=f"{password}\n{password}\n", text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=60, check=False)
    waiting = run("mokutil", "--list-new").stdout
    tally.check(asked.returncode == 0 and "CN=DKMS module signing key" in waiting,
                "mokutil --import, as the page says: the key waits for the next boot", asked.stdout + waiting)
    # It waits: nothing is enrolled before somebody was at the screen.
    said = run("insmod", SIGNED)
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "a key that waits: refused", said.stdout)


def use(tally: Tally) -> None:
    """The boot after somebody was at the screen."""
    Path(CERTIFICATE).parent.mkdir(parents=True)
    for path in (KEY, CERTIFICATE):
        shutil.copy(SHARE / Path(path).name, path)
    enrolled(tally)
    waiting = run("mokutil", "--list-new").stdout
    tally.check("CN=" not in waiting, "no key waits any more", waiting)
    unsigned_refused(tally)
    sign_with_another_key(tally)
    unknown = run("mokutil", "--test-key", OTHER_CERTIFICATE).stdout
    tally.check("is not enrolled" in unknown, "another key: mokutil does not know it", unknown)
    another_key_refused(tally)
    if load_signed(tally):
        both_directions(tally)
        witness(tally, "udmabuf-scattered")


def main() -> int:
    """One of the two boots."""
    parts = {"ask": ask, "use": use}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        print(__doc__, file=sys.stderr)
        return 2
    need_engine()
    if module_users() >= 0 or not SHARE.is_mount():
        sys.exit("setup: boot with --secure-boot --flash FILE --share DIR")
    tally = Tally()
    secure_boot_on(tally)
    parts[sys.argv[1]](tally)
    return tally.finish(f"fio_enrolment {sys.argv[1]}")


if __name__ == "__main__":
    sys.exit(main())
