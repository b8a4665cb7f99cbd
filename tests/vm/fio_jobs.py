#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs every file of jobs/ on the drive, and damages data to see that the verify jobs notice.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import os
import sys
from pathlib import Path

from fio_harness import DEV, ENGINE, Run, Tally, drm_device, fio, need_engine, nothing_left

JOBS = Path(__file__).resolve().parents[2] / "jobs"
SECONDS = "2"
ENVIRONMENT = {"DEV": DEV, "ENGINE": ENGINE, "RUNTIME": SECONDS}


def run_job(file: Path, options: list[str], section: str | None = None) -> Run:
    """One job file; options are given before it, as its head says."""
    words = [f"--ioengine={ENGINE}", *options, "--dmabuf_report=REPORT"]
    if section:
        words.append(f"--section={section}")
    return fio([*words, str(file)], env=ENVIRONMENT, timeout=100)


def damage(offset: int) -> None:
    """Changes one byte on the drive."""
    target = os.open(DEV, os.O_RDWR)
    byte = os.pread(target, 1, offset)[0]
    os.pwrite(target, bytes([byte ^ 1]), offset)
    os.fsync(target)
    os.close(target)


def all_files(tally: Tally) -> None:
    """As the files stand, with nothing but their three variables, and with an exporter chosen."""
    vgem = drm_device("vgem")
    variants: dict[str, list[str]] = {"defaults": [],
                "drm registered": ["--dmabuf_exporter=drm", f"--dmabuf_device={vgem}",
                                   "--dmabuf_datapath=registered"]}
    files = sorted(JOBS.rglob("*.fio"))
    for wanted in ("basic/randread-4k.fio", "basic/seq-1m.fio", "verify/read-direction.fio",
                   "verify/write-direction.fio"):
        tally.check(JOBS / wanted in files, f"there is {wanted}")
    for file in files:
        head = file.read_text().split("[global]")[0]
        for word in ("Scenario", "Metric", "Destroys data", "DEV", "RUNTIME", "ENGINE"):
            tally.check(word in head, f"{file.name}: its head says {word}")
        for variant, options in variants.items():
            name = f"{file.name} {variant}"
            with nothing_left(tally, name):
                run = run_job(file, options)
            if not tally.check(run.status == 0 and bool(run.jobs), f"{name}: runs", run.said()):
                continue
            tally.check(bool(run.reports), f"{name}: the engine under test ran")
            path = "registered" if options else "premapped"
            for report in run.reports:
                tally.check(report["proven"] is True and report["datapath"] == path,
                            f"{name}: {report['job']} is proven on {path}", report["proof"])
                moved = report["issued"]["reads"] + report["issued"]["writes"]
                tally.check(moved > 10, f"{name}: {report['job']} did I/O", str(moved))
            # Sections in which one engine lays down or checks and the other moves.
            if file.parent.name == "verify":
                tally.check(len(run.jobs) > len(run.reports),
                            f"{name}: an independent engine took part")


def damaged(tally: Tally) -> None:
    """One wrong byte on the drive must fail the check that follows."""
    reads, writes = JOBS / "verify/read-direction.fio", JOBS / "verify/write-direction.fio"
    premapped = ["--dmabuf_datapath=premapped"]
    for section in ("read-all", "read-pages"):
        tally.same(run_job(reads, premapped, "lay-down").status, 0, "read-direction lay-down")
        tally.same(run_job(reads, premapped, section).status, 0,
                   f"read-direction {section} before the damage")
        damage(33 * (1 << 20) + 4096 * 5 + 1234)
        run = run_job(reads, premapped, section)
        tally.check(run.status != 0, f"read-direction {section} notices one byte", run.said())
    for written, checked in (("write-pages", "check-pages"), ("write-long", "check-all")):
        for section in ("poison", written):
            tally.same(run_job(writes, premapped, section).status, 0, f"write-direction {section}")
        tally.same(run_job(writes, premapped, checked).status, 0,
                   f"write-direction {checked} before the damage")
        damage(17 * (1 << 20) + 4096 * 9 + 77)
        run = run_job(writes, premapped, checked)
        tally.check(run.status != 0, f"write-direction {checked} notices one byte", run.said())
        tally.same(run_job(writes, premapped, "poison").status, 0, "write-direction poison")
        run = run_job(writes, premapped, checked)
        tally.check(run.status != 0, f"write-direction {checked} notices that nothing was written",
                    run.said())


def main() -> int:
    need_engine()
    tally = Tally()
    all_files(tally)
    damaged(tally)
    return tally.finish("fio_jobs")


if __name__ == "__main__":
    sys.exit(main())
