#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with hipri: the drive is polled, which its interrupts show by not coming.

Runs in the lab's guest, booted with nvme.poll_queues=1, and destroys the data on $DEV. Exit status 0
pass, 1 fail, 2 usage.
"""

import sys
from pathlib import Path

from fio.harness import DEV, NOT_NVME, Tally, engine, fio, need_engine, nothing_left


def interrupts() -> int:
    """Interrupts of the drives' I/O queues so far; queue 0 is the admin queue."""
    total = 0
    for line in Path("/proc/interrupts").read_text().splitlines():
        words = line.split()
        if words and words[-1].startswith("nvme") and not words[-1].endswith("q0"):
            total += sum(int(word) for word in words[1:] if word.isdigit())
    return total


def main() -> int:
    need_engine()
    if Path("/sys/module/nvme/parameters/poll_queues").read_text().strip() == "0":
        sys.exit("setup: boot with nvme.poll_queues=1")
    tally = Tally()
    for datapath in ("premapped", "registered", "bounce", "host"):
        for hipri in (1, 0):
            name = f"{datapath} hipri={hipri}"
            before = interrupts()
            with nothing_left(tally, name):
                run = fio([*engine([], datapath), f"--hipri={hipri}", "--name=p", f"--filename={DEV}",
                           "--direct=1", "--rw=randrw", "--bs=4k", "--iodepth=4", "--size=8m"])
            came = interrupts() - before
            if not tally.check(run.status == 0 and len(run.reports) == 1, f"{name}: fio", run.said()):
                continue
            report = run.reports[0]
            tally.check(report["proven"] is True and report["datapath"] == datapath,
                        f"{name}: proven", report["proof"])
            ios = report["issued"]["reads"] + report["issued"]["writes"]
            tally.same(ios, 2048, f"{name}: I/Os")
            # The scans of udev and others are not polled for.
            tally.check(came < 128 if hipri else came >= 256, f"{name}: interrupts", str(came))
            run = fio([*engine([], datapath), f"--hipri={hipri}", "--name=v", f"--filename={DEV}",
                       "--direct=1", "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16",
                       "--size=8m", "--verify=crc32c"])
            tally.same(run.status, 0, f"{name}: verify: {run.said()}")
    run = fio([*engine([], "registered"), "--hipri", "--name=n", f"--filename={NOT_NVME}",
               "--direct=1", "--rw=read", "--size=1m"])
    tally.check(run.status != 0 and "no polled queues" in run.stderr,
                "a disk without polled queues is refused", run.said())
    return tally.finish("fio_polled")


if __name__ == "__main__":
    sys.exit(main())
