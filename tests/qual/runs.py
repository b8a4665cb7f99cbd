# SPDX-License-Identifier: GPL-2.0-only
"""A run on a machine that is none: its drive, its cases and what stops it are what a test says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmabuf_common.drive_identity import Identity, Node
from dmabuf_common.sysfs import System
from dmabuf_qual import cases, requirements, rules, suite
from dmabuf_qual.cases import Case
from dmabuf_qual.drive import Drive
from dmabuf_qual.execute import Bench
from dmabuf_qual.store import Record
from dmabuf_qual.tools import Tools

DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", 10**12,
              512, 0, False, 131072)
NEEDS = requirements.load(None)
FACTS = [["kernel", "7.1", "subject"], ["module srcversion", "A", "subject"],
         ["engine", "B", "subject"], ["drive firmware", "F", "subject"], ["fio", "fio-3.41", "key"],
         ["IOMMU", "DMA-FQ", "key"], ["PCIe link", "16.0 GT/s PCIe x4", "key"],
         ["IOMMU group", "3", "state"]]


class Machine:
    """What stands for the drive, the kernel's log and the cases of a run."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.log = folder / "kmsg"
        self.log.write_text("")
        self.number = 0
        self.facts = [list(fact) for fact in FACTS]
        self.boot = "boot-1"
        self.done: list[str] = []
        self.during: Callable[[Case], None] = lambda _case: None
        self.iops = 100.0
        self.written = 0

    def say(self, text: str, skip: int = 0) -> None:
        """A message of the kernel's, before which as many others were overwritten."""
        self.number += 1 + skip
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"6,{self.number},1,-;{text}\n")

    def run(self, _bench: Bench, case: Case) -> Record:
        """A case that is right."""
        self.during(case)
        self.done.append(case.id)
        record: Record = {
            "id": case.id, "kind": case.kind, "requirement": case.requirement, "exporter": case.exporter,
            "path": case.path, "test": case.test, "params": case.params, "started": 0.0, "seconds": 1.0,
            "bounces_seen": True, "findings": [],
        }
        if case.kind == "integrity":
            return {**record, "compared_bytes": 1, "transfers": 1, "facts": {}}
        figures = {"read_iops": self.iops, "read_mib_s": self.iops, "read_mean_us": 1.0}
        record |= {"figures": figures, "runtime_s": 60.0, "size": "100%", "written_bytes": self.written,
                   "report": {"proven": True, "datapath": case.path, "proof": "counted"}}
        if case.kind == "precondition":
            # All of the drive, twice, as fast as all else.
            twice = 2 * DRIVE.bytes
            record |= {"written_bytes": twice, "runtime_s": 60.0 * twice / (self.written or twice)}
        return record


class Held:
    """What stands for the guard of a drive that stays where it is."""

    identity = Identity(Node("nvme9n1", "259:9", "nvme9n1", 0, 10**12), serial="S")

    def check(self) -> None:
        """It is."""


FULL = {"scale": cases.Scale(1 << 20, 60, 1, True), "quick": False}


def start(
    machine: Machine, resume: bool = False, said: list[str] | None = None, **changes: Any
) -> dict[str, rules.Judged]:
    """A run to its end; the verdicts. `said`: gets what the run says."""
    boot = machine.folder / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True, exist_ok=True)
    boot.write_text(machine.boot)
    words = {"exporters": ["udmabuf"], "needs": NEEDS, "scale": cases.QUICK, "quick": True, **changes}
    request = suite.Request(DRIVE, machine.folder / "q", resume=resume, guard=Held(), **words)  # type: ignore[arg-type]
    one = suite.Suite(request, Tools("i", "e", machine.folder), System(machine.folder / "root"))
    machine.done.clear()
    if said is not None:
        machine.patch.setattr(suite, "say", said.append)
    try:
        return {judged.id: judged for judged in one.execute()}
    finally:
        one.store.release()


def stop() -> None:
    raise KeyboardInterrupt


def die() -> None:
    """As a kill does it: nothing of what a program does at its end is done."""
    raise SystemExit


def stop_after(machine: Machine, number: int, end: Callable[[], None] = stop) -> Callable[[Case], None]:
    def during(_case: Case) -> None:
        if len(machine.done) + 1 == number:
            end()

    return during
