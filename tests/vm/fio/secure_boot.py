#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A machine with Secure Boot: modules that no enrolled key signed are refused, our tools say why, and one that
DKMS's key signed works in both directions.

Runs in the lab's guest, booted with --secure-boot. Exit status 0 pass, 1 fail, 2 usage.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fio.harness import DEV, ENGINE, Tally, fio, module_users, need_engine
from fio.signing import (
    LOCKDOWN, OTHER_CERTIFICATE, QUAL, UNSIGNED, another_key_refused, open_errno, run, said_why, sign_with_another_key,
    unsigned_refused,
)

SIGNED = os.environ.get("DMABUF_RW_KO", "")
HURT = "/run/lab/signed/testmod/dmabuf_hurt.ko"
PROGRAMS = "/src/build/lab/tests/vm"
# Where DKMS has its own.
CERTIFICATE = "/var/lib/dkms/mok.pub"
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
# The whole of isolation takes longer; these are what the smoke test of each kernel has.
CORE = ("modes", "handles", "ranges", "commands", "partition")
LONG_S = 400


def locked(tally: Tally) -> None:
    """The firmware checked what it booted, and Linux knows."""
    # Four bytes of attributes come first.
    tally.same(SECURE_BOOT.read_bytes()[4:], b"\x01", "firmware: Secure Boot is on")
    tally.check("[integrity]" in LOCKDOWN.read_text(), "Linux is locked down", LOCKDOWN.read_text())
    state = run("mokutil", "--sb-state").stdout
    tally.check("SecureBoot enabled" in state, "mokutil says that it is on", state)
    known = run("mokutil", "--test-key", CERTIFICATE).stdout
    tally.check("is already enrolled" in known, "mokutil knows the key", known)


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


def documented() -> str:
    """The commands of the page that sign a module and load it."""
    page = Path("/src/docs/kernel-module.md").read_text()
    block = page[page.index("    /lib/modules/$(uname -r)/build/scripts/sign-file"):]
    return block[:block.index("\n\n")]


def works(tally: Tally) -> None:
    """Signed as DKMS does it, with the key that is enrolled: the module's promises, and both directions."""
    place = Path("/tmp/checkout/build/kernel")
    place.mkdir(parents=True)
    shutil.copy(UNSIGNED, place)
    said = run("sh", "-ec", f"cd /tmp/checkout\n{documented()}")
    if not tally.check(said.returncode == 0, "signed with the enrolled key, as the page says: loaded", said.stdout):
        return
    shown = run(sys.executable, QUAL, "preflight", DEV).stdout
    tally.check("signed modules only" not in shown and re.search(r"ok +module", shown) is not None,
                "preflight: the module is there", shown)
    for group in CORE:
        said = run(f"{PROGRAMS}/isolation", "--only", group, "--exporter", "udmabuf-scattered", limit_s=LONG_S)
        tally.same(said.returncode, 0, f"isolation {group}: {said.stdout[-400:]}")
    said = run(f"{PROGRAMS}/witness", "--quick", "--fuzz", "20", "--load", "1", "--exporters",
               "udmabuf-scattered,heap", limit_s=LONG_S)
    tally.same(said.returncode, 0, f"witness: {said.stdout[-400:]}")
    for rw, count in (("write", "writes"), ("read", "reads")):
        job = ["--name=s", f"--filename={DEV}", "--direct=1", f"--rw={rw}", "--bs=64k", "--size=16m",
               "--verify=crc32c", "--do_verify=1", f"--ioengine={ENGINE}", "--dmabuf_exporter=udmabuf",
               "--dmabuf_datapath=premapped", "--dmabuf_report=REPORT"]
        done = fio(job)
        report = done.reports[-1] if done.reports else {}
        tally.check(done.status == 0 and report.get("proven") is True, f"fio {rw}: proven", done.said())
        tally.same(report.get("issued", {}).get(count), 256, f"fio {rw}: the number of I/Os")


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
    if not SECURE_BOOT.exists():
        sys.exit("setup: the guest has no Secure Boot: dmabuf-lab run --secure-boot")
    if not SIGNED or module_users() < 0:
        sys.exit("setup: dmabuf_rw is not loaded")
    tally = Tally()
    locked(tally)
    tally.same(run("rmmod", "dmabuf_rw").returncode, 0, "the lab's own signed module was loaded, and goes away")
    for part in (refused, said_why, works, forbidden):
        part(tally)
    return tally.finish("fio_secure_boot")


if __name__ == "__main__":
    sys.exit(main())
