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

from fio.harness import DEV, ENGINE, Tally, fio, module_users, need_engine

KERNEL = os.uname().release
UNSIGNED = f"/src/build/lab/kernel/{KERNEL}/dmabuf_rw.ko"
SIGN_FILE = f"/lib/modules/{KERNEL}/build/scripts/sign-file"
LOCKDOWN = Path("/sys/kernel/security/lockdown")
REJECTED = "Key was rejected by service"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A program with all that it says in stdout."""
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False)


def refused(tally: Tally) -> None:
    """What no key signed that the machine knows is not loaded."""
    said = run("insmod", UNSIGNED)
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "unsigned: refused in these words", said.stdout)
    made = run("openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=nobody",
               "-outform", "DER", "-keyout", "/tmp/other.key", "-out", "/tmp/other.pub")
    signed = run(SIGN_FILE, "sha256", "/tmp/other.key", "/tmp/other.pub", UNSIGNED, "/tmp/other.ko")
    tally.same((made.returncode, signed.returncode), (0, 0), f"another key: it signs, {made.stdout}{signed.stdout}")
    tally.check(b"~Module signature appended~" in Path("/tmp/other.ko").read_bytes()[-40:], "another key: a signature")
    said = run("insmod", "/tmp/other.ko")
    tally.check(said.returncode != 0 and REJECTED in said.stdout, "another key: refused in these words", said.stdout)
    tally.same(module_users(), -1, "no module is loaded")


def said_why(tally: Tally) -> None:
    """Without the module, each tool names the cause and the way out."""
    job = ["--name=s", f"--filename={DEV}", "--direct=1", "--rw=read", "--bs=4k", "--size=1m",
           f"--ioengine={ENGINE}", "--dmabuf_exporter=udmabuf", "--dmabuf_datapath=premapped"]
    engine = fio(job)
    tally.check(engine.status > 0, "engine: fails", engine.said())
    shown = run("/usr/bin/python3", "/src/scripts/dmabuf-qual", "preflight", DEV).stdout
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
    refused(tally)
    said_why(tally)
    # The lockdown is in force, and the list of dma-bufs, which our tests read, is open all the same.
    tally.same(open_errno("/dev/mem", os.O_RDWR), errno.EPERM, "/dev/mem is closed")
    tally.same(open_errno("/sys/kernel/debug/dma_buf/bufinfo", os.O_RDONLY), 0, "debugfs: bufinfo can be read")
    return tally.finish("fio_signed_only")


if __name__ == "__main__":
    sys.exit(main())
