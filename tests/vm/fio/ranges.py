#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with dmabuf_ranges: several I/Os in one command, each with its own checksum.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import sys

from fio.harness import DEV, Tally, engine, fio, need_engine, nothing_left

PATHS = ("premapped", "bvec")
# What else changes how commands are made, taken, and handed back.
WAYS = (
    (),
    ("--sqthread_poll=1",),
    ("--dmabuf_remap_every=100",),
    ("--iodepth_batch_complete_max=3",),
    ("--dmabuf_buffers=io_u",),
)


def main() -> int:
    need_engine()
    tally = Tally()
    common = ["--name=r", f"--filename={DEV}", "--direct=1", "--size=8m", "--bs=4k", "--iodepth=32"]
    together = ["--iodepth_batch=16", "--dmabuf_ranges=8"]
    for path in PATHS:
        for way in WAYS:
            name = f"dmabuf_ranges, {path} {' '.join(way)}"
            words = [*common, *together, "--rw=randwrite", "--verify=crc32c", *way]
            with nothing_left(tally, name):
                run = fio([*engine([], path), *words])
            if tally.check(run.status == 0 and len(run.reports) == 1, f"{name}: fio", run.said()):
                report = run.reports[0]
                tally.check(report["proven"] is True and report["datapath"] == path, f"{name}: proven",
                            report["proof"])
            # What was written so is what fio reads by another datapath.
            run = fio([*engine([], "host"), *common, "--rw=randwrite", "--verify=crc32c", "--verify_only=1"])
            tally.check(run.status == 0, f"{name}: read by another datapath", run.said())
        run = fio([*engine([], path), *common, "--dmabuf_ranges=8", "--rw=randread"])
        tally.check(run.status != 0 and "iodepth_batch" in run.stderr, f"{path}: I/Os that go alone are refused",
                    run.said())
    return tally.finish("fio_ranges")


if __name__ == "__main__":
    sys.exit(main())
