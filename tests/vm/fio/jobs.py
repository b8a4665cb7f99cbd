#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs every file of jobs/ on the drive, and damages data to see that the verify jobs notice.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fio.harness import DEV, ENGINE, Run, Tally, drm_device, fio, need_engine, nothing_left
from fio.moves import FEATURE_MOVE, load, query

JOBS = Path(__file__).resolve().parents[3] / "jobs"
# Small scale. A file gets those that its head names, so that a head that forgets one fails.
ENVIRONMENT = {"DEV": DEV, "ENGINE": ENGINE, "RUNTIME": "1", "SIZE": "24m", "PART": "16m",
               "RATE": "12", "TARGET": "20ms", "MOVE_US": "1000", "EVERY": "16", "READS": "65", "BS": "8k",
               "DEPTH": "16", "RW": "randrw", "BAR": "", "OBJECT": "4m", "COMMAND": "0", "STREAMS": "2"}
SHORTER = {"basic": {"RUNTIME": "250ms"}, "ai": {"SIZE": "96m", "PART": "64m"},
           "analytics": {"RUNTIME": "500ms"}, "latency": {"RUNTIME": "500ms"},
           "qual": {"RUNTIME": "500ms"},
           "media": {"PART": "64m"}, "stress": {"SIZE": "8m", "RUNTIME": "700ms"},
           "verify": {"RUNTIME": "500ms", "SIZE": "8m", "PART": "2m"}}
FOLDERS = ("ai", "analytics", "basic", "latency", "media", "qual", "stress", "verify")
FIRST = ("basic/randread-4k.fio", "basic/seq-1m.fio", "verify/read-direction.fio",
         "verify/write-direction.fio")


def head_of(file: Path) -> str:
    """The comment that a job file starts with."""
    return file.read_text().split("[global]")[0]


def variables(file: Path) -> set[str]:
    """What the head says has to be set."""
    return set(re.findall(r"^#   ([A-Z_]+) ", head_of(file), re.MULTILINE))


def needs_bar(file: Path) -> bool:
    """Whether the file is about a PCI device's memory, which device.py has."""
    return "dmabuf_exporter=vfio" in file.read_text()


def run_job(file: Path, options: list[str], section: str | None = None,
            more: dict[str, str] | None = None) -> Run:
    """One job file; options are given before it, as its head says. `more`: other values."""
    words = [f"--ioengine={ENGINE}", *options, "--dmabuf_report=REPORT"]
    if section:
        words.append(f"--section={section}")
    values = {**ENVIRONMENT, **SHORTER.get(file.parent.name, {}), **(more or {})}
    return fio([*words, str(file)], env={name: values[name] for name in variables(file)},
               timeout=100)


@contextmanager
def smaller(file: Path) -> Iterator[Path]:
    """The same job with 16 MiB instead of 64; most of the time goes into checksums."""
    text = file.read_text()
    assert text.count("size=64m\n") == 1, f"{file} does not say size=64m once"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / file.parent.name / file.name
        place.parent.mkdir()
        place.write_text(text.replace("size=64m\n", "size=16m\n"))
        yield place


def damage(offset: int) -> None:
    """Changes one byte on the drive."""
    target = os.open(DEV, os.O_RDWR)
    byte = os.pread(target, 1, offset)[0]
    os.pwrite(target, bytes([byte ^ 1]), offset)
    os.fsync(target)
    os.close(target)


def used_variables(file: Path) -> set[str]:
    """What the file and its includes expect in the environment."""
    text = "".join(line for line in file.read_text().splitlines(keepends=True)
                   if not line.startswith("#"))
    found = set(re.findall(r"\$\{(\w+)\}", text))
    for name in re.findall(r"^include (.*)$", text, re.MULTILINE):
        found |= used_variables(file.parent / name)
    return found


def heads(tally: Tally, files: list[Path]) -> None:
    """Every file says what it is, and names exactly the variables that it uses."""
    for wanted in FIRST:
        tally.check(JOBS / wanted in files, f"there is {wanted}")
    tally.same(tuple(sorted({file.parent.name for file in files})), FOLDERS, "the folders")
    for file in files:
        head = head_of(file)
        for word in ("Scenario", "Metric", "Parameters", "Destroys data"):
            tally.check(f"# {word}" in head, f"{file.name}: its head says {word}")
        tally.same(sorted(variables(file)), sorted(used_variables(file)),
                   f"{file.name}: variables that its head names, and that it uses")
        writes = re.search(r"^rw=.*(write|rw)", file.read_text(), re.MULTILINE)
        tally.same("Destroys data YES" in head, bool(writes or "RW" in variables(file)),
                   f"{file.name}: its head says whether it writes")


def same_count(tally: Tally, name: str, run: Run) -> None:
    """The engine issued as many reads and writes as fio says, which adds up the jobs of a name."""
    engine, said = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    names = {report["job"] for report in run.reports}
    for kind in ("read", "write"):
        for report in run.reports:
            engine[report["job"], kind] += report["issued"][f"{kind}s"]
        for job in run.jobs:
            if job["jobname"] in names:
                said[job["jobname"], kind] += job[kind]["total_ios"]
    tally.same(engine, said, f"{name}: I/Os by the engine's count and by fio's")


def did_enough(file: Path, run: Run) -> bool:
    """Each job moved something worth the name, and memory that is to move did so."""
    for report in run.reports:
        issued = report["issued"]
        if issued["reads"] + issued["writes"] <= 10 and issued["read_bytes"] + issued["write_bytes"] <= 4 << 20:
            return False
    return file.name != "moving-memory.fio" or all(report["module"]["invalidations"] > 10 for report in run.reports)


def one_file(tally: Tally, file: Path, variant: str, options: list[str]) -> None:
    """A file runs, on the datapath that it should, proven, and leaves nothing."""
    name = f"{file.name} {variant}"
    with nothing_left(tally, name):
        run = run_job(file, options)
        # How much a job gets done in its time is the machine's business, and that of the jobs beside it.
        if run.status == 0 and "RUNTIME" in variables(file) and not did_enough(file, run):
            run = run_job(file, options, more={"RUNTIME": "5"})
    if not tally.check(run.status == 0 and bool(run.jobs), f"{name}: runs", run.said()):
        return
    tally.check(bool(run.reports), f"{name}: the engine under test ran")
    path = "registered" if options else "premapped"
    for report in run.reports:
        tally.check(report["proven"] is True and report["datapath"] == path,
                    f"{name}: {report['job']} is proven on {path}", report["proof"])
    tally.check(did_enough(file, run), f"{name}: every job did I/O, and memory moved that is to move",
                str([report["issued"] for report in run.reports]))
    same_count(tally, name, run)
    # Sections in which one engine lays down or checks and the other moves.
    if file.parent.name == "verify":
        tally.check(len(run.jobs) > len(run.reports), f"{name}: an independent engine took part")


def all_files(tally: Tally, files: list[Path]) -> None:
    """As the files stand, with nothing but their variables; some with an exporter chosen."""
    drm = ["--dmabuf_exporter=drm", f"--dmabuf_device={drm_device('vgem')}",
           "--dmabuf_datapath=registered"]
    moves = bool(query()[0] & FEATURE_MOVE)
    for file in files:
        begin = time.monotonic()
        if file.name == "moving-memory.fio" and not moves:
            print(f"SKIP  {file.name}: this kernel keeps mapped dma-bufs where they are")
            continue
        if needs_bar(file):
            print(f"SKIP  {file.name}: needs a PCI device's memory; device.py bar runs it")
            continue
        one_file(tally, file, "defaults", [])
        if file.parent.name == "verify" and str(file.relative_to(JOBS)) in FIRST:
            with smaller(file) as less:
                one_file(tally, less, "drm registered", drm)
        elif str(file.relative_to(JOBS)) in FIRST:
            one_file(tally, file, "drm registered", drm)
        print(f"      {file.relative_to(JOBS)}: {time.monotonic() - begin:.1f} s", flush=True)


def objects(tally: Tally) -> None:
    """An offloaded object takes as many commands as its size and COMMAND say, in each direction."""
    file = JOBS / "ai/kv-offload.fio"
    for object_mib, command_kb, streams, part_mib in (
            (4, 128, 1, 32), (4, 512, 3, 32), (8, 256, 2, 32), (32, 512, 2, 64), (32, 128, 1, 64)):
        name = f"kv-offload {object_mib} MiB, commands of {command_kb} KiB, {streams} streams"
        run = run_job(file, [], more={"OBJECT": f"{object_mib}m", "COMMAND": str(command_kb),
                                      "STREAMS": str(streams), "PART": f"{part_mib}m"})
        if not tally.check(run.status == 0, f"{name}: runs", run.said()):
            continue
        each = part_mib // object_mib
        commands = each * object_mib * 1024 // command_kb
        tally.same(sorted(moved(run)), sorted([(each, 0, commands), (0, each, commands)] * streams),
                   f"{name}: objects stored, objects restored, commands of each stream")


def moved(run: Run) -> list[tuple[int, int, int]]:
    """Of each stream: objects stored, objects restored, commands as the module counted them."""
    return [(report["issued"]["writes"], report["issued"]["reads"], report["module"]["commands"])
            for report in run.reports]


def large_objects(tally: Tally) -> None:
    """Objects of 32 MiB, each direction alone against plain I/O: every 4 KiB names its place and has a checksum."""
    file, mib, streams, part_mib = JOBS / "ai/kv-offload.fio", 32, 2, 64
    checked = ["--verify=crc32c", "--verify_interval=4k", "--verify_fatal=1"]
    area = ["--name=plain", f"--filename={DEV}", "--direct=1", "--ioengine=psync", "--bs=1m",
            f"--size={streams * part_mib}m"]
    # 0: what the drive takes, which is 512 KiB in the lab.
    values = {"OBJECT": f"{mib}m", "COMMAND": "0", "STREAMS": str(streams), "PART": f"{part_mib}m"}
    each = part_mib // mib
    commands = each * mib * 1024 // 512
    # bvec counts calls of the target: a second one for each object where the first would have had to wait.
    for datapath, counted in (("premapped", {commands}), ("bvec", {each, 2 * each})):
        name = f"kv-offload {mib} MiB, {datapath}"
        way = [f"--dmabuf_datapath={datapath}"]
        tally.same(fio([*area, "--rw=write", "--buffer_pattern=0xa5"]).status, 0, f"{name}: poison")
        run = run_job(file, [*way, *checked, "--do_verify=0"], "store", values)
        tally.check(run.status == 0, f"{name}: store", run.said())
        tally.same([one[:2] for one in moved(run)], [(each, 0)] * streams, f"{name}: objects stored")
        tally.check({one[2] for one in moved(run)} <= counted, f"{name}: commands to store them", str(moved(run)))
        plain = fio([*area, "--rw=read", *checked])
        tally.check(plain.status == 0, f"{name}: plain reads find what was stored", plain.said())
        # Other data than what the store left in the memory and on the drive.
        tally.same(fio([*area, "--rw=write", *checked, "--do_verify=0", "--randseed=99"]).status, 0, f"{name}: plain")
        restore = [*way, *checked, "--do_verify=1"]
        run = run_job(file, restore, "restore", values)
        tally.check(run.status == 0, f"{name}: what was restored is right", run.said())
        tally.same([one[:2] for one in moved(run)], [(0, each)] * streams, f"{name}: objects restored")
        tally.check({one[2] for one in moved(run)} <= counted, f"{name}: commands to restore them", str(moved(run)))
        damage(((part_mib + mib - 1) << 20) + 4096 * 37 + 1234)  # late in the second stream's first object
        run = run_job(file, restore, "restore", values)
        tally.check(run.status != 0, f"{name}: one byte that is wrong is noticed", run.said())


def damaged(tally: Tally) -> None:
    """One wrong byte on the drive must fail the check that follows."""
    with (smaller(JOBS / "verify/read-direction.fio") as reads,
          smaller(JOBS / "verify/write-direction.fio") as writes):
        damaged_reads(tally, reads)
        damaged_writes(tally, writes)


def damaged_reads(tally: Tally, reads: Path) -> None:
    """Damaged, and mended by the same change, between plain writes and reads of a dma-buf."""
    premapped = ["--dmabuf_datapath=premapped"]
    place = 9 * (1 << 20) + 4096 * 5 + 1234
    tally.same(run_job(reads, premapped, "lay-down").status, 0, "read-direction lay-down")
    for section in ("read-all", "read-pages"):
        tally.same(run_job(reads, premapped, section).status, 0,
                   f"read-direction {section} before the damage")
        damage(place)
        run = run_job(reads, premapped, section)
        tally.check(run.status != 0, f"read-direction {section} notices one byte", run.said())
        damage(place)


def damaged_writes(tally: Tally, writes: Path) -> None:
    """Damaged, or never written, between writes of a dma-buf and plain reads."""
    premapped = ["--dmabuf_datapath=premapped"]
    for written, checked in (("write-pages", "check-pages"), ("write-long", "check-all")):
        for section in ("poison", written):
            tally.same(run_job(writes, premapped, section).status, 0, f"write-direction {section}")
        tally.same(run_job(writes, premapped, checked).status, 0,
                   f"write-direction {checked} before the damage")
        damage(7 * (1 << 20) + 4096 * 9 + 77)
        run = run_job(writes, premapped, checked)
        tally.check(run.status != 0, f"write-direction {checked} notices one byte", run.said())
        tally.same(run_job(writes, premapped, "poison").status, 0, "write-direction poison")
        run = run_job(writes, premapped, checked)
        tally.check(run.status != 0, f"write-direction {checked} notices that nothing was written",
                    run.said())


def damaged_small(tally: Tally) -> None:
    """The same for the files that take a size: damage in every MiB, and nothing written at all."""
    for name in ("buffer-offsets", "segment-boundaries", "under-load"):
        file, what = JOBS / f"verify/{name}.fio", name.split("-")[1]
        tally.same(run_job(file, [], "lay-down").status, 0, f"{name} lay-down")
        for mib in range(8):
            damage((mib << 20) + 4096 * (mib + 5) + 123)
        run = run_job(file, [], f"read-{what}")
        tally.check(run.status != 0 and bool(run.jobs), f"{name} read-{what} notices bytes",
                    run.said())
        tally.same(run_job(file, [], "poison").status, 0, f"{name} poison")
        run = run_job(file, [], f"check-{what}")
        tally.check(run.status != 0 and bool(run.jobs),
                    f"{name} check-{what} notices that nothing was written", run.said())


def main() -> int:
    need_engine()
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    tally = Tally()
    files = sorted(JOBS.rglob("*.fio"))
    files = [file for file in files if file.parent.name != "include"]
    heads(tally, files)
    all_files(tally, files)
    objects(tally)
    large_objects(tally)
    damaged(tally)
    damaged_small(tally)
    return tally.finish("fio_jobs")


if __name__ == "__main__":
    sys.exit(main())
