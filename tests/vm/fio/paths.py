#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with checksums while one of the namespace's two controllers goes away.

On every datapath fio writes, and verifies what it wrote, while first the one and then the other
controller is removed. No error may reach it, and every byte must be right. Runs in the lab's guest
(dmabuf-lab run --paths 2) and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fio.harness import DEV, NvmeCommands, Run, Tally, engine, fio, need_engine, nothing_left

CLASS = Path("/sys/class/nvme")
PCI = Path("/sys/bus/pci")
DATAPATHS = ("premapped", "registered", "bvec")
# NVMe commands before the loss, and after it.
BEFORE, AFTER = 300, 1000


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Looks until the condition holds or the time is over; whether it held."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def controllers() -> dict[str, str]:
    """The controllers that are live: PCI function by name."""
    found = {}
    for entry in sorted(CLASS.iterdir()):
        try:
            if (entry / "state").read_text().strip() == "live":
                found[entry.name] = (entry / "device").resolve().name
        except OSError:
            continue
    return found


def both_there() -> bool:
    """Whether both controllers are live."""
    return len(controllers()) == 2


def job(datapath: str) -> list[str]:
    """Writes that are read back and compared, as fio's options."""
    return [*engine(["--dmabuf_exporter=udmabuf"], datapath), "--name=paths",
            f"--filename={DEV}", "--direct=1", "--rw=randwrite", "--bs=16k", "--iodepth=16",
            "--offset=64m", "--size=32m", "--verify=crc32c", "--verify_backlog=64",
            "--verify_fatal=1", "--time_based", "--runtime=15"]


def under_loss(tally: Tally, datapath: str, function: str) -> None:
    """One run of fio, which loses the controller of this PCI function on the way."""
    name = f"{datapath}, {function} is removed"
    runs: list[Run] = []
    with nothing_left(tally, name), NvmeCommands() as commands:
        def done() -> int:
            return sum(commands.count().values())

        thread = threading.Thread(target=lambda: runs.append(fio(job(datapath))))
        thread.start()
        tally.check(wait(lambda: done() > BEFORE or bool(runs), 60), f"{name}: fio runs")
        (PCI / "devices" / function / "remove").write_text("1")
        lost = done()
        tally.check(wait(lambda: done() > lost + AFTER or bool(runs), 60) and not runs,
                    f"{name}: fio goes on for {AFTER} commands", f"{done() - lost}")
        thread.join()
    run = runs[0]
    tally.check(run.status == 0 and bool(run.jobs), f"{name}: fio's exit status", run.said())
    tally.check(all(each["error"] == 0 for each in run.jobs), f"{name}: fio's error")
    for report in run.reports:
        tally.same(report["datapath"], datapath, f"{name}: datapath")
        tally.same((report["errors"], report["short"]), (0, 0), f"{name}: errors and short I/O")
    tally.same(len(run.reports), 1, f"{name}: report lines")


def main() -> int:
    """All datapaths, each losing either controller."""
    need_engine()
    tally = Tally()
    if not wait(both_there, 30):
        print("setup: not two controllers (dmabuf-lab run --paths 2)", file=sys.stderr)
        return 2
    for function in controllers().values():
        for datapath in DATAPATHS:
            under_loss(tally, datapath, function)
            (PCI / "rescan").write_text("1")
            if not tally.check(wait(both_there, 60), f"{function} comes back"):
                return tally.finish("fio_paths")
    return tally.finish("fio_paths")


if __name__ == "__main__":
    sys.exit(main())
