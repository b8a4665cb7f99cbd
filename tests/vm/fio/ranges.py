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
    ("--iodepth_batch_complete_min=3", "--iodepth_batch_complete_max=3"),
    ("--iodepth_batch_complete_min=1", "--iodepth_low=24"),
)


def main() -> int:
    need_engine()
    tally = Tally()
    common = ["--name=r", f"--filename={DEV}", "--direct=1", "--size=8m", "--bs=4k", "--iodepth=32"]
    together = ["--iodepth_batch=16", "--iodepth_batch_complete_min=8", "--dmabuf_ranges=8"]
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
                vectored = report["vectored"]
                tally.same(vectored["ios"], report["issued"]["reads"] + report["issued"]["writes"],
                           f"{name}: I/Os in commands of several")
                # Of up to eight, and of more than two where fio hands over sixteen.
                tally.check(vectored["ios"] / 8 <= vectored["commands"] < vectored["ios"] / 2,
                            f"{name}: commands of several", str(vectored))
                tally.check("I/Os are under way fio waits" not in run.stderr, f"{name}: no note", run.said())
            # What was written so is what fio reads by another datapath.
            run = fio([*engine([], "host"), *common, "--rw=randwrite", "--verify=crc32c", "--verify_only=1"])
            tally.check(run.status == 0, f"{name}: read by another datapath", run.said())
        # What fio refills one by one is said to go alone, and counted.
        run = fio([*engine([], path), *common, *together, "--iodepth_batch_complete_min=1", "--rw=randread"])
        if tally.check(run.status == 0 and len(run.reports) == 1, f"{path}: fio that refills one by one", run.said()):
            tally.check("iodepth_batch_complete_min" in run.stderr, f"{path}: refilling one by one is said",
                        run.said())
            tally.same(run.reports[0]["vectored"]["ios"], 2048, f"{path}: I/Os refilled one by one")
        run = fio([*engine([], path), *common, *together, "--dmabuf_buffers=io_u", "--rw=randread"])
        tally.check(run.status != 0 and "dmabuf_buffers=io_u" in run.stderr, f"{path}: a dma-buf for each is refused",
                    run.said())
        run = fio([*engine([], path), *common, "--dmabuf_ranges=8", "--rw=randread"])
        tally.check(run.status != 0 and "iodepth_batch" in run.stderr, f"{path}: I/Os that go alone are refused",
                    run.said())
    return tally.finish("fio_ranges")


if __name__ == "__main__":
    sys.exit(main())
