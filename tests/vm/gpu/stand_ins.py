#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs fio with the exporters of GPUs on stand-ins for what their vendors give: the engine calls
them as it would the real ones, and what they give is a udmabuf. Each direction alone, with fio's own
io_uring engine as the other side, then both together as processes and as threads.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import sys
import tempfile
from pathlib import Path

from fio.harness import DEV, Run, Tally, engine, fio, need_engine, nothing_left

FAKES = Path("/src/build/lab/tests/fakes")
GPUS = {
    "cuda": ("0000\\:42\\:00.0", "0000:42:00.0"),
    "hip": ("1", "0000:04:00.0"),
    "amdgpu": ("renderD902", "/dev/dri/renderD902"),
    "xe": ("renderD900", "/dev/dri/renderD900"),
    "i915": ("renderD901", "/dev/dri/renderD901"),
}
DATAPATHS = ("premapped", "registered", "bvec", "bounce", "auto")
AREA = ["--name=t", f"--filename={DEV}", "--direct=1", "--size=4m", "--bs=16k", "--iodepth=8",
        "--verify=crc32c", "--verify_fatal=1", "--randseed=7"]
WRITE = ["--rw=randwrite", "--do_verify=0"]
CHECK = ["--rw=randwrite", "--verify_only"]


def on_gpu(exporter: str, datapath: str, words: list[str], log: Path,
           more: list[str] | None = None) -> Run:
    """fio on one stand-in. `more`: options of the engine."""
    chosen = [f"--dmabuf_exporter={exporter}", f"--dmabuf_device={GPUS[exporter][0]}"]
    return fio([*AREA, *words, *engine(chosen, datapath), *(more or [])],
               env={"LD_LIBRARY_PATH": str(FAKES), "LD_PRELOAD": str(FAKES / "nodes.so"),
                    "FAKE_GPU_LOG": str(log)})


def check(tally: Tally, name: str, run: Run, exporter: str, datapath: str, jobs: int = 1) -> None:
    """What must hold of every run."""
    if not tally.check(run.status == 0, f"{name}: fio's exit status", run.said()):
        return
    tally.same(len(run.reports), jobs, f"{name}: report lines")
    effective = "premapped" if datapath == "auto" else datapath
    for report in run.reports:
        tally.same(report["proven"], True, f"{name}: proven, by {report['proof']!r}")
        tally.same((report["exporter"], report["device"], report["datapath"]),
                   (exporter, GPUS[exporter][1], effective), f"{name}: exporter, device, datapath")
        tally.check(report["copies"]["to_buffer_bytes"] + report["copies"]["from_buffer_bytes"] > 0,
                    f"{name}: the exporter copied", str(report["copies"]))


def given_back(tally: Tally, name: str, log: Path, times: int) -> None:
    """As many allocations as expected, and each was given back."""
    notes = log.read_text().splitlines()
    log.unlink()
    tally.same(sum(" takes " in note for note in notes), times, f"{name}: allocations")
    tally.same(sum(" gives back " in note for note in notes), times, f"{name}: given back")


def plain(words: list[str]) -> Run:
    """fio's own engine on the same area."""
    return fio([*AREA, *words, "--ioengine=io_uring"])


def directions(tally: Tally, exporter: str, datapath: str, log: Path) -> None:
    """What the drive got from the GPU's memory is right, and what that got from the drive."""
    name = f"{exporter} {datapath}"
    with nothing_left(tally, name):
        check(tally, f"{name} write", on_gpu(exporter, datapath, WRITE, log), exporter, datapath)
    given_back(tally, f"{name} write", log, 1)
    run = plain(CHECK)
    tally.check(run.status == 0, f"{name}: what was written", run.said())
    run = plain([*WRITE, "--verify_pattern=%o", "--verify=pattern"])
    tally.check(run.status == 0, f"{name}: io_uring writes", run.said())
    # Bytes that the earlier run did not write: stale memory would show.
    words = [*CHECK, "--verify_pattern=%o", "--verify=pattern"]
    with nothing_left(tally, name):
        check(tally, f"{name} read", on_gpu(exporter, datapath, words, log), exporter, datapath)
    given_back(tally, f"{name} read", log, 1)


def main() -> int:
    need_engine()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "gpu.log"
        for exporter in GPUS:
            for datapath in DATAPATHS:
                directions(tally, exporter, datapath, log)
            for thread in (0, 1):
                name = f"{exporter} {'threads' if thread else 'processes'}"
                words = ["--rw=randrw", "--numjobs=3", "--offset_increment=4m",
                         f"--thread={thread}"]
                with nothing_left(tally, name):
                    check(tally, name, on_gpu(exporter, "auto", words, log), exporter, "auto", 3)
                given_back(tally, name, log, 3)
            name = f"{exporter} a dma-buf for each slot"
            with nothing_left(tally, name):
                check(tally, name, on_gpu(exporter, "premapped", ["--rw=randrw"], log,
                                          ["--dmabuf_buffers=io_u"]), exporter, "premapped")
            given_back(tally, name, log, 8)
    return tally.finish("fio_gpu")


if __name__ == "__main__":
    sys.exit(main())
