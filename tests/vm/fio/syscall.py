#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with the dma-buf as the file (datapath syscall), and with the module's RW (dmabuf_submit=ioctl).

Each direction alone against a witness: another process, which takes the dma-buf from the running fio
and goes at it by mmap. Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass,
1 fail, 2 usage.
"""

import sys
from pathlib import Path

from fio.harness import (DEV, Run, Tally, drm_device, engine, fio, module_users, need_engine,
                         nothing_left)

WITNESS = f"/usr/bin/python3 -B {Path(__file__).resolve().parent}/buffer_witness.py"
SUBMITS = (("uring", 32), ("sync", 1), ("mmap", 1))
PATTERN = "0badcafe"
SIZE = 4 << 20


def exporters() -> dict[str, list[str]]:
    """By name, the options that choose an exporter."""
    found = {"udmabuf": ["--dmabuf_exporter=udmabuf"], "heap": ["--dmabuf_exporter=heap"]}
    for driver in ("virtio_gpu", "vgem"):
        device = drm_device(driver)
        if device is None:
            sys.exit(f"setup: no DRM device of driver {driver}")
        found[f"drm-{driver}"] = ["--dmabuf_exporter=drm", f"--dmabuf_device={device}"]
    return found


def job(exporter: list[str], submit: str, depth: int, *options: str) -> Run:
    """One job on a dma-buf of SIZE bytes."""
    return fio([*engine(exporter, "syscall"), f"--dmabuf_submit={submit}", "--name=s",
                f"--size={SIZE}", f"--iodepth={depth}", "--bs=16k", *options])


def clean(tally: Tally, name: str, run: Run, submit: str, files: int = 1, jobs: int = 1) -> None:
    """What must hold of a run that was to succeed."""
    if not tally.check(run.status == 0 and bool(run.jobs), f"{name}: fio's exit status", run.said()):
        return
    tally.same(len(run.reports), jobs, f"{name}: reports")
    for kind in ("read", "write"):
        tally.same(sum(report["issued"][f"{kind}s"] for report in run.reports),
                   sum(one[kind]["total_ios"] for one in run.jobs), f"{name}: {kind}s")
    for report in run.reports:
        tally.same((report["datapath"], report["submit"], report["proven"]),
                   ("syscall", submit, True), f"{name}: {report['proof']}")
        tally.same((report["errors"], report["short"]), (0, 0), f"{name}: errors")
        moved = report["issued"]["reads"] + report["issued"]["writes"]
        tally.check(moved > 0, f"{name}: bytes moved")
        tally.same(report["calls"], 0 if submit == "uring" else moved, f"{name}: calls")
        if submit != "mmap":
            tally.same((report["files"]["count"], report["files"]["same_as_dmabuf"]),
                       (files, files), f"{name}: files that were the dma-buf")
            tally.same(report["memory"], "system", f"{name}: memory")


def directions(tally: Tally) -> None:
    """Reads and writes, each alone; the witness sees what is wrong when it is."""
    reads = [f"--verify_pattern=0x{PATTERN}", "--rw=randread", "--verify=pattern"]
    writes = [f"--buffer_pattern=0x{PATTERN}", "--rw=randwrite", "--nrfiles=2"]
    for exporter, options in exporters().items():
        for submit, depth in SUBMITS:
            name = f"{exporter} {submit}"
            with nothing_left(tally, name):
                run = job(options, submit, depth, *reads,
                          f"--exec_prerun={WITNESS} fill {PATTERN}")
                clean(tally, f"{name} reads", run, submit)
                checks = [(PATTERN, "witness: check 2 dma-bufs")]
                if exporter == "udmabuf":  # the checks themselves: they see what is wrong
                    checks.append(("0bad", "WRONG"))
                    run = job(options, submit, depth, *reads, f"--exec_prerun={WITNESS} "
                              f"fill {PATTERN} && {WITNESS} damage 3654321")
                    tally.check(run.status != 0, f"{name} reads: one byte is noticed", run.said())
                for pattern, word in checks:
                    # fio's own files go away with its folder: the verdict has to be said elsewhere
                    said = Path("/tmp/witness.txt")
                    run = job(options, submit, depth, *writes,
                              f"--exec_postrun={WITNESS} check {pattern} >{said} 2>&1; true")
                    clean(tally, f"{name} writes", run, submit, files=2)
                    tally.check(word in said.read_text(), f"{name} writes: {word}",
                                said.read_text())


def verified(tally: Tally) -> None:
    """fio's own verification, several files and jobs, as processes and threads."""
    for submit, depth in SUBMITS:
        for extra in (["--nrfiles=3", "--openfiles=1", "--fsync=16"],
                      ["--numjobs=2", "--thread=0"], ["--numjobs=2", "--thread=1", "--bs=4k"],
                      ["--create_serialize=0", "--direct=1", "--bsrange=512-64k"]):
            name = f"verify {submit} {' '.join(extra)}"
            with nothing_left(tally, name):
                run = job([], submit, depth, "--rw=randrw", "--verify=crc32c", *extra)
                tally.check(run.status == 0, f"{name}: fio's exit status", run.said())
                for report in run.reports:
                    tally.check(report["proven"] and report["issued"]["writes"] > 0,
                                f"{name}: proven", report["proof"])
    run = job([], "mmap", 1, "--rw=randrw")
    clean(tally, "mmap", run, "mmap")


def rw_call(tally: Tally) -> None:
    """The module's RW moves what io_uring moves, on the drive, and is counted by the module."""
    for datapath in ("premapped", "bvec"):
        for exporter, options in exporters().items():
            name = f"ioctl {datapath} {exporter}"
            words = [*engine(options, datapath), "--dmabuf_submit=ioctl", "--name=i",
                     f"--filename={DEV}", "--direct=1", "--bsrange=4k-64k", "--size=4m"]
            with nothing_left(tally, name):
                run = fio([*words, "--rw=randwrite", "--verify=crc32c"])
            if not tally.check(run.status == 0 and len(run.reports) == 1, f"{name}: fio", run.said()):
                continue
            report = run.reports[0]
            tally.same((report["datapath"], report["submit"], report["proven"]),
                       (datapath, "ioctl", True), f"{name}: {report['proof']}")
            for key in ("reads", "writes", "read_bytes", "write_bytes"):
                tally.same(report["module"][key], report["issued"][key], f"{name}: {key}")
            tally.same(report["calls"], report["issued"]["reads"] + report["issued"]["writes"],
                       f"{name}: calls")
    # Read again what io_uring wrote and the other way round: both are the same I/O.
    for first, second in (("uring", "ioctl"), ("ioctl", "uring")):
        words = [*engine([], "premapped"), "--name=x", f"--filename={DEV}", "--direct=1", "--bs=16k",
                 "--size=4m", "--verify=crc32c", "--iodepth=1"]
        run = fio([*words, "--rw=write", "--do_verify=0", f"--dmabuf_submit={first}"])
        tally.same(run.status, 0, f"{first} then {second}: written")
        run = fio([*words, "--rw=read", f"--dmabuf_submit={second}"])
        tally.same(run.status, 0, f"{first} then {second}: read")


PARTS = (directions, verified, rw_call)


def main() -> int:
    need_engine()
    if module_users() < 0:
        sys.exit("setup: dmabuf_rw is not loaded")
    tally = Tally()
    for part in PARTS:
        held = tally.held
        part(tally)
        print(f"      {part.__name__}: {tally.held - held} checks held", flush=True)
    return tally.finish("fio_syscall")


if __name__ == "__main__":
    sys.exit(main())
