#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with dmabuf_pin_file: files of ext4 and xfs past their file system.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from fio.harness import DEV, Run, Tally, engine, fio, need_engine, nothing_left
from fio.jobs import JOBS, run_job

MOUNT = Path("/tmp/fio_files")
MIB = 1 << 20


def run_on(path: Path, *words: str, datapath: str = "premapped") -> Run:
    """One job on a file of 8 MiB."""
    return fio([*engine([], datapath), "--name=f", f"--filename={path}", "--direct=1", "--size=8m", *words])


def digest(path: Path) -> str:
    """Of the file as it is on the disk."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def moved(tally: Tally, name: str, run: Run) -> None:
    """The job ran, premapped."""
    if tally.check(run.status == 0 and len(run.reports) == 1, f"{name}: fio", run.said()):
        report = run.reports[0]
        tally.check(report["proven"] is True and report["datapath"] == "premapped", f"{name}: proven",
                    report["proof"])


def weights(tally: Tally, system: str) -> None:
    """jobs/ai/weight-load.fio on a file: past the file system, and beside it what a copy by the CPU does."""
    path, job = MOUNT / "weights", JOBS / "ai/weight-load.fio"
    part = 16 * MIB
    with path.open("wb") as file:
        for at in range(4 * part // MIB):
            file.write(at.to_bytes(4, "little") * (MIB // 4))
    subprocess.run(["sync", "-f", str(path)], check=True)
    before = digest(path)
    for name, options in (("premapped", ["--dmabuf_datapath=premapped", "--dmabuf_pin_file=1"]),
                          ("bounce", ["--dmabuf_datapath=bounce"])):
        what = f"{system}: weight-load of a file, {name}"
        with nothing_left(tally, what):
            run = run_job(job, ["--dmabuf_exporter=udmabuf", *options], more={"DEV": str(path), "PART": str(part)})
        if not tally.check(run.status == 0 and len(run.reports) == 4, f"{what}: runs", run.said()):
            continue
        for report in run.reports:
            tally.check(report["proven"] is True and report["datapath"] == name, f"{what}: proven", report["proof"])
            read = report["issued"]["read_bytes"]
            tally.check(read >= part, f"{what}: its whole part was read", str(read))
            tally.same(report["copies"]["to_buffer_bytes"], 0 if name == "premapped" else read, f"{what}: bytes copied")
        print(f"      {what}: {sum(entry['read']['bw'] for entry in run.jobs) >> 10} MiB/s", flush=True)
    # Without consent the same job does not go past the file system.
    run = run_job(job, ["--dmabuf_exporter=udmabuf", "--dmabuf_datapath=premapped"],
                  more={"DEV": str(path), "PART": str(part)})
    tally.check(run.status != 0 and "not a block device" in run.stderr, f"{system}: weight-load without consent",
                run.said())
    tally.same(digest(path), before, f"{system}: the weights are as they were")
    path.unlink()


def on(tally: Tally, system: str) -> None:
    """All of it on one file system."""
    path = MOUNT / "file"
    path.write_bytes(bytes(range(256)) * (8 * MIB // 256))
    with path.open("rb") as file:
        subprocess.run(["sync", "-f", str(path)], check=True, stdin=file)
    before = digest(path)
    for how in ("1", "prepare"):
        name = f"{system} dmabuf_pin_file={how}"
        with nothing_left(tally, name):
            moved(tally, f"{name}: read", run_on(path, f"--dmabuf_pin_file={how}", "--rw=randread", "--iodepth=4"))
        tally.same(digest(path), before, f"{name}: a read changes nothing")
        with nothing_left(tally, name):
            moved(tally, f"{name}: verify", run_on(path, f"--dmabuf_pin_file={how}", "--rw=randwrite", "--bs=16k",
                                                    "--iodepth=8", "--verify=crc32c"))
        tally.check(digest(path) != before, f"{name}: a write is on the disk")
        # What was written past the file system is what fio reads by way of it.
        run = run_on(path, "--rw=randwrite", "--bs=16k", "--verify=crc32c", "--verify_only=1", datapath="host")
        tally.check(run.status == 0, f"{name}: read by another datapath", run.said())
        before = digest(path)
        with path.open("r+b"):
            run = run_on(path, f"--dmabuf_pin_file={how}", "--rw=read")
        tally.check(run.status != 0 and "open for writing" in run.stderr, f"{name}: who writes it is in the way",
                    run.said())
    run = run_on(path, "--rw=read")
    tally.check(run.status != 0 and "not a block device" in run.stderr, f"{system}: without consent", run.said())

    hole = MOUNT / "hole"
    with hole.open("wb") as file:
        file.write(b"a" * MIB)
        file.truncate(8 * MIB)
    run = run_on(hole, "--dmabuf_pin_file=1", "--rw=read")
    tally.check(run.status != 0 and "hole" in run.stderr, f"{system}: a hole is refused", run.said())
    before = digest(hole)
    moved(tally, f"{system}: a file that is prepared", run_on(hole, "--dmabuf_pin_file=prepare", "--rw=read"))
    tally.same(digest(hole), before, f"{system}: preparing keeps the bytes")
    moved(tally, f"{system}: it stays so", run_on(hole, "--dmabuf_pin_file=1", "--rw=read"))
    if system == "xfs":
        subprocess.run(["cp", "--reflink=always", str(hole), str(MOUNT / "copy")], check=True)
        run = run_on(hole, "--dmabuf_pin_file=1", "--rw=read")
        tally.check(run.status != 0 and "shared" in run.stderr, "xfs: shared blocks are refused", run.said())
        apart = MOUNT / "apart"
        subprocess.run(["cp", "--reflink=never", "--sparse=never", str(hole), str(apart)], check=True)
        moved(tally, "xfs: a copy with blocks of its own", run_on(apart, "--dmabuf_pin_file=1", "--rw=read"))
        tally.same(digest(apart), before, "xfs: its bytes")
    new = MOUNT / "new"
    run = run_on(new, "--dmabuf_pin_file=prepare", "--rw=write", "--bs=64k")
    moved(tally, f"{system}: a file that fio makes", run)


def main() -> int:
    need_engine()
    tally = Tally()
    MOUNT.mkdir(exist_ok=True)
    for system in sys.argv[1:] or ("ext4", "xfs"):
        subprocess.run([f"mkfs.{system}", "-q", "-F" if system == "ext4" else "-f", DEV], check=True)
        subprocess.run(["mount", "-t", system, DEV, str(MOUNT)], check=True)
        try:
            on(tally, system)
            weights(tally, system)
        finally:
            subprocess.run(["umount", str(MOUNT)], check=True)
            subprocess.run(["wipefs", "-q", "-a", DEV], check=True)
    return tally.finish("fio_files")


if __name__ == "__main__":
    sys.exit(main())
