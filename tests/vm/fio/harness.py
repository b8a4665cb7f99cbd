# SPDX-License-Identifier: GPL-2.0-only
"""What the fio tests in the guest share: running fio, reading its JSON and the engine's report,
and looking at what is left in the system. Needs only the standard library."""

import array
import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENGINE = os.environ.get("ENGINE", "")
DEV = os.environ.get("DEV", "/dev/nvme0n1")
NOT_NVME = "/dev/vda"
NOBODY = 65534

DRM_IOCTL_VERSION = 0xC0406400


class Tally:
    """Counts checks; the exit status follows from it."""

    def __init__(self) -> None:
        self.held = 0
        self.failed = 0

    def check(self, ok: bool, name: str, what: str = "does not hold") -> bool:
        """One check; a failed one is printed with what was seen instead."""
        if ok:
            self.held += 1
        else:
            self.failed += 1
            print(f"FAIL  {name}: {what}", flush=True)
        return ok

    def same(self, got: object, wanted: object, name: str) -> bool:
        """A check for equality."""
        return self.check(got == wanted, name, f"{got!r} instead of {wanted!r}")

    def finish(self, program: str) -> int:
        """Prints the totals; no check at all is a failure, too."""
        good = self.failed == 0 and self.held > 0
        print(f"{'PASS' if good else 'FAIL'} {program}: {self.held} checks held, "
              f"{self.failed} failed", flush=True)
        return 0 if good else 1


@dataclass
class Run:
    """One run of fio."""

    status: int
    stderr: str
    result: dict[str, Any]
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """fio's own results by job."""
        return list(self.result.get("jobs", []))

    def said(self) -> str:
        """The end of stderr, for a message."""
        return f"status {self.status}, stderr: {self.stderr.strip()[-600:]}"


def fio(words: list[str], *, user: int | None = None, memlock: int | None = None,
        env: dict[str, str] | None = None, timeout: float = 100) -> Run:
    """Runs fio with JSON output. `words` must not say --output or --dmabuf_report; where they
    contain REPORT, a fresh file's name is put. `user`: run as that uid with no capability.
    `memlock`: RLIMIT_MEMLOCK in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        report = Path(folder) / "report.json"
        output = Path(folder) / "fio.json"
        argv = ["fio", "--output-format=json", f"--output={output}"]
        argv += [word.replace("REPORT", str(report)) for word in words]
        if user is not None:
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
                    "--inh-caps=-all", *argv]
        if memlock is not None:  # outermost: only root may raise it
            argv = ["prlimit", f"--memlock={memlock}:{memlock}", *argv]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout,
                                  cwd=folder, env={**os.environ, **(env or {})}, check=False)
            status, stderr = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            status, stderr = 124, f"fio did not end in {timeout} s: {late.stderr!r}"
        result: dict[str, Any] = {}
        reports = []
        try:
            text = output.read_text()
            # fio puts its own messages before the JSON.
            result = json.loads(text[text.index("\n{") + 1 if not text.startswith("{") else 0:])
        except (OSError, ValueError):
            pass
        if output.exists() and not result:
            stderr += output.read_text()
        if report.exists():
            reports = [json.loads(line) for line in report.read_text().splitlines()]
        return Run(status, stderr, result, reports)


def engine(exporter: list[str], datapath: str) -> list[str]:
    """The options that choose engine, exporter and datapath, in the order fio wants."""
    return [f"--ioengine={ENGINE}", *exporter, f"--dmabuf_datapath={datapath}",
            "--dmabuf_report=REPORT"]


def live_dmabufs() -> int:
    """Dma-bufs in the whole system."""
    for line in Path("/sys/kernel/debug/dma_buf/bufinfo").read_text().splitlines():
        if line.startswith("Total ") and " objects" in line:
            return int(line.split()[1])
    raise RuntimeError("bufinfo has no total")


def module_users() -> int:
    """References to dmabuf_rw; -1 when it is not loaded."""
    try:
        return int(Path("/sys/module/dmabuf_rw/refcnt").read_text())
    except FileNotFoundError:
        return -1


@contextmanager
def nothing_left(tally: Tally, name: str) -> Iterator[None]:
    """Checks that no dma-buf and no use of the module is left after the block. What was there before may go
    meanwhile: a program that has ended lets go of the module a moment later."""
    before = (live_dmabufs(), module_users())
    yield
    for _ in range(150):
        now = (live_dmabufs(), module_users())
        left = [kind for kind, new, old in zip(("dma-bufs", "users"), now, before, strict=True) if new > old]
        if not left:
            break
        time.sleep(0.02)
    tally.same(left, [], f"{name}: what is left of {now}, {before} before")


def drm_device(driver: str) -> str | None:
    """The /dev/dri/card of this DRM driver."""
    for card in sorted(Path("/dev/dri").glob("card*")):
        name = array.array("B", bytes(64))
        # struct drm_version: three ints, then length and pointer of name, date, desc.
        version = array.array("B", struct.pack("@iiiQQQQQQ", 0, 0, 0, 64,
                                               name.buffer_info()[0], 0, 0, 0, 0))
        with open(card, "rb", buffering=0) as node:
            try:
                fcntl.ioctl(node, DRM_IOCTL_VERSION, version)
            except OSError:
                continue
        if name.tobytes().rstrip(b"\0").decode() == driver:
            return str(card)
    return None


class NvmeCommands:
    """Counts the NVMe commands the driver sets up, by the kernel's own tracepoint."""

    event = Path("/sys/kernel/tracing/events/nvme/nvme_setup_cmd")
    # qid 0 is the admin queue.
    trigger = "hist:keys=opcode:vals=hitcount if qid != 0"

    def __enter__(self) -> "NvmeCommands":
        (self.event / "trigger").write_text(self.trigger)
        return self

    def __exit__(self, *_: object) -> None:
        (self.event / "trigger").write_text("!" + self.trigger)

    def count(self) -> dict[str, int]:
        """Commands so far: read and write."""
        found = {"read": 0, "write": 0}
        for line in (self.event / "hist").read_text().splitlines():
            words = line.replace(":", " ").replace("}", " ").replace("{", " ").split()
            if len(words) >= 4 and words[0] == "opcode" and "hitcount" in words:
                kind = {"1": "write", "2": "read"}.get(words[1])
                if kind:
                    found[kind] += int(words[words.index("hitcount") + 1])
        return found


def need_engine() -> None:
    """Ends the program when the guest does not say where the engine is."""
    if not ENGINE:
        sys.exit("ENGINE must say external:/path/of/libdmabuf.so")
