# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of kernels that take signed modules only have in common: a module that is refused, and what is said of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fio.harness import DEV, ENGINE, Tally, fio, module_users

KERNEL = os.uname().release
UNSIGNED = f"/src/build/lab/kernel/{KERNEL}/dmabuf_rw.ko"
SIGN_FILE = f"/lib/modules/{KERNEL}/build/scripts/sign-file"
LOCKDOWN = Path("/sys/kernel/security/lockdown")
QUAL = "/src/scripts/dmabuf-qual"
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
PROGRAMS = "/src/build/lab/tests/vm"
# Where DKMS has its own.
KEY, CERTIFICATE = "/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub"
LONG_S = 400
REJECTED = "Key was rejected by service"
# A key that the machine does not know, its certificate, and what it signs.
OTHER_KEY, OTHER_CERTIFICATE, OTHER_MODULE = "/tmp/other.key", "/tmp/other.pub", "/tmp/other.ko"


def run(*words: str, limit_s: float = 100) -> subprocess.CompletedProcess[str]:
    """A program with all that it says in stdout."""
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=limit_s, check=False)


def secure_boot_on(tally: Tally) -> None:
    """The firmware checked what it booted, and Linux knows."""
    if not SECURE_BOOT.exists():
        sys.exit("setup: the guest has no Secure Boot: dmabuf-lab run --secure-boot")
    # Four bytes of attributes come first.
    tally.same(SECURE_BOOT.read_bytes()[4:], b"\x01", "firmware: Secure Boot is on")
    tally.check("[integrity]" in LOCKDOWN.read_text(), "Linux is locked down", LOCKDOWN.read_text())
    state = run("mokutil", "--sb-state").stdout
    tally.check("SecureBoot enabled" in state, "mokutil says that it is on", state)


def enrolled(tally: Tally) -> None:
    """The machine knows DKMS's key."""
    known = run("mokutil", "--test-key", CERTIFICATE).stdout
    tally.check("is already enrolled" in known, "mokutil knows the key", known)


def unsigned_refused(tally: Tally) -> None:
    """The module as it was built is not loaded."""
    said = run("insmod", UNSIGNED)
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "unsigned: refused in these words", said.stdout)


def sign_with_another_key(tally: Tally) -> None:
    """Signs a copy of the module as DKMS does it, with a key that is made here."""
    made = run("openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=nobody",
               "-outform", "DER", "-keyout", OTHER_KEY, "-out", OTHER_CERTIFICATE)
    signed = run(SIGN_FILE, "sha256", OTHER_KEY, OTHER_CERTIFICATE, UNSIGNED, OTHER_MODULE)
    tally.same((made.returncode, signed.returncode), (0, 0), f"another key: it signs, {made.stdout}{signed.stdout}")
    tally.check(b"~Module signature appended~" in Path(OTHER_MODULE).read_bytes()[-40:], "another key: a signature")


def another_key_refused(tally: Tally) -> None:
    """Nor is what that key signed."""
    said = run("insmod", OTHER_MODULE)
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "another key: refused in these words", said.stdout)
    tally.same(module_users(), -1, "no module is loaded")


def said_why(tally: Tally) -> None:
    """Without the module, each tool names the cause and the way out."""
    job = ["--name=s", f"--filename={DEV}", "--direct=1", "--rw=read", "--bs=4k", "--size=1m",
           f"--ioengine={ENGINE}", "--dmabuf_exporter=udmabuf", "--dmabuf_datapath=premapped"]
    engine = fio(job)
    tally.check(engine.status > 0, "engine: fails", engine.said())
    shown = run(sys.executable, QUAL, "preflight", DEV).stdout
    for who, text in (("engine", engine.stderr), ("preflight", shown)):
        text = " ".join(text.split())
        tally.check("takes signed modules only (Secure Boot, or a parameter of Linux)" in text, f"{who}: the cause", text)
        tally.check("with one that is enrolled" in text and "docs/kernel-module.md, Secure Boot" in text,
                    f"{who}: the way out", text)


def open_errno(path: str, flags: int) -> int:
    """What open() of it fails with; 0 if it does not."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return error.errno or -1
    return 0


def documented(first: str) -> str:
    """The commands of the page's block whose first one begins so."""
    page = Path("/src/docs/kernel-module.md").read_text()
    block = page[page.index(f"    {first}"):]
    return block[:block.index("\n\n")]


def load_signed(tally: Tally) -> bool:
    """The module signed with DKMS's key, which is enrolled, and loaded, by the page's commands."""
    place = Path("/tmp/checkout/build/kernel")
    place.mkdir(parents=True)
    shutil.copy(UNSIGNED, place)
    said = run("sh", "-ec", f"cd /tmp/checkout\n{documented('/lib/modules/$(uname -r)/build/scripts/sign-file')}")
    return tally.check(said.returncode == 0, "signed with the enrolled key, as the page says: loaded", said.stdout)


def witness(tally: Tally, exporters: str) -> None:
    """Every byte of each direction, against plain pread and pwrite."""
    said = run(f"{PROGRAMS}/witness", "--quick", "--fuzz", "20", "--load", "1", "--exporters",
               exporters, limit_s=LONG_S)
    tally.same(said.returncode, 0, f"witness: {said.stdout[-400:]}")


def both_directions(tally: Tally) -> None:
    """fio's writes and reads, proven and counted."""
    for rw, count in (("write", "writes"), ("read", "reads")):
        job = ["--name=s", f"--filename={DEV}", "--direct=1", f"--rw={rw}", "--bs=64k", "--size=16m",
               "--verify=crc32c", "--do_verify=1", f"--ioengine={ENGINE}", "--dmabuf_exporter=udmabuf",
               "--dmabuf_datapath=premapped", "--dmabuf_report=REPORT"]
        done = fio(job)
        report = done.reports[-1] if done.reports else {}
        tally.check(done.status == 0 and report.get("proven") is True, f"fio {rw}: proven", done.said())
        tally.same(report.get("issued", {}).get(count), 256, f"fio {rw}: the number of I/Os")
