#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs fio over exporters and datapaths and compares three counts of the same I/O: fio's own, the
engine's report, and for premapped the kernel's nvme_setup_cmd tracepoint.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import os
import sys
from pathlib import Path

from fio.harness import (DEV, ENGINE, NvmeCommands, Run, Tally, drm_device, engine, fio,
                         need_engine, nothing_left)

DATAPATHS = ("premapped", "registered", "bvec", "bounce", "host", "auto")


def exporters() -> dict[str, list[str]]:
    """By name, the options that choose an exporter."""
    found = {"udmabuf": ["--dmabuf_exporter=udmabuf"],
             "udmabuf-huge": ["--dmabuf_exporter=udmabuf", "--dmabuf_hugepages=1"],
             "heap": ["--dmabuf_exporter=heap"]}
    for driver in ("virtio_gpu", "vgem"):
        device = drm_device(driver)
        if device is None:
            sys.exit(f"setup: no DRM device of driver {driver}")
        found[f"drm-{driver}"] = ["--dmabuf_exporter=drm", f"--dmabuf_device={device}"]
    return found


def check_run(tally: Tally, name: str, run: Run, datapath: str, wanted_jobs: int = 1) -> None:
    """What must hold of any run that was to succeed."""
    if not tally.check(run.status == 0 and bool(run.jobs), f"{name}: fio's exit status",
                       run.said()):
        return
    tally.same(len(run.reports), wanted_jobs, f"{name}: report lines")
    # fio adds the jobs of a group up or lists them one by one.
    for kind in ("read", "write"):
        fios = sum(job[kind]["total_ios"] for job in run.jobs)
        ours = sum(report["issued"][f"{kind}s"] for report in run.reports)
        tally.same(ours, fios, f"{name}: {kind}s by the engine and by fio")
        fio_bytes = sum(job[kind]["io_bytes"] for job in run.jobs)
        our_bytes = sum(report["issued"][f"{kind}_bytes"] for report in run.reports)
        tally.same(our_bytes, fio_bytes, f"{name}: bytes of {kind}s by the engine and by fio")
    tally.check(all(job["error"] == 0 for job in run.jobs), f"{name}: fio's error")
    effective = "premapped" if datapath == "auto" else datapath
    for report in run.reports:
        tally.same(report["proven"], True, f"{name}: proven, by {report['proof']!r}")
        tally.same(report["datapath"], effective, f"{name}: datapath")
        tally.same(report["datapath_requested"], datapath, f"{name}: datapath asked for")
        tally.same((report["errors"], report["short"]), (0, 0), f"{name}: errors and short I/O")
        issued, module = report["issued"], report["module"]
        if effective in ("premapped", "bvec"):
            for key in ("reads", "writes", "read_bytes", "write_bytes"):
                tally.same(module[key], issued[key], f"{name}: {key} by the module")
            tally.check(module["commands"] >= issued["reads"] + issued["writes"],
                        f"{name}: commands by the module", str(module["commands"]))
            tally.same(module["errors"], 0, f"{name}: errors by the module")
            tally.same(report["memory"], "system", f"{name}: where the memory is")
        elif effective == "registered":
            tally.check(module["registrations"] >= 1, f"{name}: registrations by the module")
            tally.same(module["reads"] + module["writes"], 0, f"{name}: no other path was used")
        else:
            tally.same(module, None, f"{name}: the module was not used")
        if effective == "bounce":
            tally.check(report["copies"]["to_buffer_bytes"] >= issued["read_bytes"],
                        f"{name}: copies to the dma-buf", str(report["copies"]))
    tally.check(f"datapath {effective} (asked: {datapath})" in run.stderr,
                f"{name}: the line on stderr", run.said())


def matrix(tally: Tally) -> None:
    """Every exporter on every datapath: random reads, then random writes that are verified."""
    for exporter, options in exporters().items():
        for datapath in DATAPATHS:
            if datapath == "host" and exporter != "udmabuf":
                continue  # host memory has no exporter
            name = f"{exporter} {datapath}"
            common = [f"--filename={DEV}", "--direct=1", "--iodepth=32"]
            with nothing_left(tally, name):
                run = fio(["--name=r", *common, "--rw=randread", "--bs=4k", "--size=8m",
                           *engine(options, datapath)])
                check_run(tally, f"{name} randread", run, datapath)
                if run.jobs:
                    tally.same(run.jobs[0]["read"]["total_ios"], 2048, f"{name} randread: I/Os")
                run = fio(["--name=w", *common, "--rw=randwrite", "--bsrange=4k-96k",
                           "--size=12m", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                           *engine(options, datapath)])
                check_run(tally, f"{name} verify", run, datapath)
                if run.jobs:
                    tally.check(run.jobs[0]["read"]["total_ios"]
                                == run.jobs[0]["write"]["total_ios"] > 100,
                                f"{name} verify: every write was read again",
                                f"{run.jobs[0]['read']['total_ios']} reads")


def must_show(tally: Tally) -> None:
    """The commands that the project promises, word for word, with the kernel's own count. Where
    data is verified all but the first have less of it: checksums take their time here."""
    for exporter in ("drm", "udmabuf", "heap"):
        for datapath in ("premapped", "registered"):
            for verify in (False, True):
                name = f"must show {exporter} {datapath} {'verify' if verify else 'randread'}"
                mib = 16 if verify and (exporter, datapath) != ("drm", "premapped") else 64
                words = ["--name=t", f"--filename={DEV}", "--direct=1"]
                words += (["--rw=randwrite", "--verify=crc32c", "--do_verify=1"] if verify
                          else ["--rw=randread"])
                words += ["--bs=4k", "--iodepth=32", f"--size={mib}m", f"--ioengine={ENGINE}",
                          f"--dmabuf_exporter={exporter}", f"--dmabuf_datapath={datapath}",
                          "--dmabuf_report=REPORT"]
                with nothing_left(tally, name), NvmeCommands() as kernel:
                    run = fio(words)
                    counted = kernel.count()
                check_run(tally, name, run, datapath)
                if not run.reports:
                    continue
                report = run.reports[0]
                tally.same(report["issued"]["writes" if verify else "reads"], mib * 256,
                           f"{name}: I/Os")
                # udev and the partition scan may read a little, too.
                for kind in ("read", "write"):
                    extra = counted[kind] - report["issued"][f"{kind}s"]
                    tally.check(0 <= extra <= 64, f"{name}: {kind} commands by the tracepoint",
                                f"{counted[kind]} for {report['issued'][f'{kind}s']} I/Os")
                if datapath == "premapped":
                    total = report["issued"]["reads"] + report["issued"]["writes"]
                    tally.same(report["module"]["commands"], total,
                               f"{name}: as many commands as fio issued")


def shapes(tally: Tally) -> None:
    """Several jobs, threads instead of processes, depths, block sizes, partial buffers."""
    base = [f"--filename={DEV}", "--direct=1", "--size=8m"]
    udmabuf = ["--dmabuf_exporter=udmabuf"]
    for datapath in ("premapped", "registered"):
        for extra in (["--numjobs=2"], ["--numjobs=2", "--thread=1"],
                      ["--numjobs=3", "--group_reporting=1"]):
            name = f"{datapath} {' '.join(extra)}"
            with nothing_left(tally, name):
                run = fio(["--name=j", *base, *extra, "--rw=randread", "--bs=8k", "--iodepth=16",
                           *engine(udmabuf, datapath)])
                check_run(tally, name, run, datapath, wanted_jobs=int(extra[0][-1]))
        for depth, size, rw in ((1, "4k", "read"), (1, "512", "randwrite"), (64, "512", "randrw"),
                                (256, "4k", "randread"), (4, "1m", "read"), (2, "4m", "write"),
                                (3, "12k", "rw"), (8, "132k", "randrw")):
            name = f"{datapath} depth {depth} bs {size} {rw}"
            length = "--size=1m" if size == "512" else "--size=8m"
            with nothing_left(tally, name):
                run = fio(["--name=s", *base, length, f"--rw={rw}", f"--bs={size}",
                           f"--iodepth={depth}", *engine(udmabuf, datapath)])
                check_run(tally, name, run, datapath)
        # The mapping comes and goes under the I/O; io_uring is full in between.
        name = f"{datapath} mapped again every 100 I/Os"
        with nothing_left(tally, name):
            run = fio(["--name=m", *base, "--rw=randrw", "--bsrange=4k-64k", "--iodepth=16",
                       "--verify=crc32c", *engine(udmabuf, datapath),
                       "--dmabuf_remap_every=100"])
            check_run(tally, name, run, datapath)
            if run.reports:
                ios = run.reports[0]["issued"]["reads"] + run.reports[0]["issued"]["writes"]
                tally.same(run.reports[0]["remaps"], (ios - 1) // 100, f"{name}: {ios} I/Os")
        churn: dict[str, list[str]] = {
            "a dma-buf for each slot": [],
            "those mapped again": ["--dmabuf_remap_every=200"]}
        for what, options in churn.items():
            name = f"{datapath} {what}"
            with nothing_left(tally, name):
                run = fio(["--name=b", *base, "--rw=randrw", "--bsrange=4k-64k", "--iodepth=16",
                           "--verify=crc32c", *engine(udmabuf, datapath), "--dmabuf_buffers=io_u",
                           *options])
                check_run(tally, name, run, datapath)
                if run.reports:
                    tally.same((run.reports[0]["buffers"], run.reports[0]["buffer_bytes"]),
                               (16, 16 << 16), f"{name}: dma-bufs and bytes")
                    tally.check(run.reports[0]["segments"] >= 16, f"{name}: segments")
        name = f"{datapath} a file with an offset and fsync"
        run = fio(["--name=f", *base, "--offset=4m", "--rw=randwrite", "--bs=4k", "--fsync=16",
                   "--verify=crc32c", "--iodepth=8", *engine(udmabuf, datapath)])
        check_run(tally, name, run, datapath)
        if run.reports:
            tally.check(run.reports[0]["issued"]["syncs"] > 0, f"{name}: syncs")
    # Verified data must be seen to be wrong when it is: damage it between write and check.
    for datapath in ("premapped", "registered"):
        name = f"{datapath} damage is noticed"
        words = ["--name=d", *base, "--rw=write", "--bs=4k", "--iodepth=8", "--verify=crc32c"]
        run = fio([*words, "--do_verify=0", *engine(udmabuf, datapath)])
        check_run(tally, name, run, datapath)
        target = os.open(DEV, os.O_RDWR)
        os.pwrite(target, b"x", 4096 * 700 + 3000)
        os.fsync(target)
        os.close(target)
        run = fio([*[word.replace("--rw=write", "--rw=read") for word in words], "--do_verify=1",
                   *engine(udmabuf, datapath)])
        tally.check(run.status != 0, f"{name}: one byte on the drive", run.said())


PARTS = {"matrix": matrix, "must-show": must_show, "shapes": shapes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    args = parser.parse_args()
    need_engine()
    tally = Tally()
    Path("/proc/sys/vm/nr_hugepages").write_text("40")
    for part in args.parts or list(PARTS):
        held = tally.held
        PARTS[part](tally)
        print(f"      {part}: {tally.held - held} checks held", flush=True)
    return tally.finish("fio_matrix")


if __name__ == "__main__":
    sys.exit(main())
