#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Jobs of fio's engine io_uring on this one: the same depth, the same bits in the drive's commands,
or a sentence that says why not.

Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import os
import re
import sys
from pathlib import Path

from fio.harness import DEV, Run, Tally, engine, fio, need_engine

TRACING = Path("/sys/kernel/tracing")
EXPORTER = ["--dmabuf_exporter=udmabuf"]
PLACE = ["--offset=64m"]


class ControlWords:
    """The control words of the NVMe commands that the driver sets up, by what they do."""

    event = TRACING / "events/nvme/nvme_setup_cmd/enable"

    def __enter__(self) -> "ControlWords":
        (TRACING / "trace").write_text("")
        self.event.write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        self.event.write_text("0")

    def seen(self, kind: str) -> set[int]:
        """Of all reads, or writes, at our place on the drive and beyond."""
        words = set()
        for line in (TRACING / "trace").read_text().splitlines():
            found = re.search(rf"nvme_cmd_{kind} slba=(\d+), len=\d+, ctrl=(0x[0-9a-f]+)", line)
            if found and int(found[1]) >= (64 << 20) // 512:
                words.add(int(found[2], 16))
        return words


FUA = 0x4000


def refused(tally: Tally, name: str, run: Run, *words: str) -> None:
    """Checks that a job was refused before its first I/O, in these words."""
    tally.check(run.status != 0 and not run.reports, f"{name}: refused", run.said())
    for word in words:
        tally.check(word in run.stderr, f"{name}: says {word!r}", run.said())


def trims(tally: Tally) -> None:
    """As many in flight as with fio's engine, one at a time where that one has more, and said so."""
    job = ["--name=t", f"--filename={DEV}", "--rw=randtrim", "--bs=64k", "--size=64m", "--iodepth=32"]
    theirs = fio([*job, "--ioengine=io_uring"])
    tally.check(theirs.jobs[0]["iodepth_level"]["32"] > 90, "fio's own trims are in flight together",
                str(theirs.jobs[0]["iodepth_level"]))
    for datapath in ("premapped", "registered", "bvec", "auto", "host"):
        run = fio([*job, "--direct=1", *engine(EXPORTER, datapath)])
        if not tally.check(run.status == 0 and len(run.reports) == 1, f"randtrim, {datapath}", run.said()):
            continue
        issued = run.reports[0]["issued"]
        tally.same((issued["trims"], issued["queued_trims"]), (1024, 1024), f"randtrim, {datapath}: trims")
        tally.check(run.jobs[0]["iodepth_level"]["32"] > 90, f"randtrim, {datapath}: depth",
                    str(run.jobs[0]["iodepth_level"]))
        tally.same(run.reports[0]["proven"], True, f"randtrim, {datapath}: proven")
    run = fio([*job, "--rw=trimwrite", "--direct=1", *engine(EXPORTER, "premapped")])
    tally.check(run.status == 0 and "one at a time: this job also writes" in run.stderr, "trimwrite", run.said())
    tally.same(run.reports[0]["issued"]["queued_trims"], 0, "trimwrite: queued trims")
    trim_rate(tally, job)
    refused(tally, "num_range", fio([*job, "--num_range=4", *engine(EXPORTER, "premapped"), "--direct=1"]))


def trim_rate(tally: Tally, job: list[str]) -> None:
    """As many in a second as with fio's engine, which takes turns with this one. Trims that are made one at a time are a
    quarter of that in every round; of a round that other programs disturbed there is another, twice."""
    for datapath in ("premapped", "host"):
        middle = 0.0
        for _ in range(3):
            ratios = []
            for _ in range(9):
                theirs, ours = fio([*job, "--ioengine=io_uring"]), fio([*job, "--direct=1", *engine(EXPORTER, datapath)])
                if not (theirs.jobs and ours.jobs):
                    break
                ratios.append(ours.jobs[0]["trim"]["iops"] / theirs.jobs[0]["trim"]["iops"])
            middle = sorted(ratios)[len(ratios) // 2] if len(ratios) == 9 else 0.0
            print(f"      trims in a second, {datapath} to io_uring: median {middle:.2f} of " +
                  " ".join(f"{one:.2f}" for one in ratios))
            if middle > 0.6 or len(ratios) < 9:
                break
        tally.check(middle > 0.6, f"randtrim, {datapath}: rate", f"{middle:.2f} of fio's own")


def fua(tally: Tally) -> None:
    """What is to be forced to the medium, or from it, has FUA in the drive's command."""
    cases: list[tuple[list[str], bool, bool]] = [  # options, reads have it, writes have it
        ([], False, False),
        (["--sync=dsync"], False, True),
        (["--sync=sync"], False, True),
        (["--writefua=1"], False, True),
        (["--readfua=1"], True, False),
        (["--readfua=1", "--writefua=1"], True, True),
    ]
    for datapath in ("premapped", "registered", "bvec", "host"):
        for submit in (("uring", "ioctl") if datapath in ("premapped", "bvec") else ("uring",)):
            for options, reads, writes in cases:
                name = f"{datapath} by {submit}, {' '.join(options) or 'nothing'}"
                words = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=randrw", "--bs=4k", "--size=1m", *PLACE,
                         f"--iodepth={8 if submit == 'uring' else 1}", *engine(EXPORTER, datapath),
                         f"--dmabuf_submit={submit}", *options]
                with ControlWords() as drive:
                    run = fio(words)
                if reads and datapath != "premapped":
                    refused(tally, name, run, "readfua", "dmabuf_datapath=premapped")
                    continue
                tally.check(run.status == 0 and bool(run.reports) and run.reports[0]["proven"], name, run.said())
                tally.same(drive.seen("read"), {FUA if reads else 0}, f"{name}: control words of reads")
                tally.same(drive.seen("write"), {FUA if writes else 0}, f"{name}: control words of writes")


def atomic(tally: Tally) -> None:
    """Linux takes an atomic write of ordinary memory only; the drive says how long it may be."""
    most = int(Path("/sys/block", Path(DEV).name, "queue/atomic_write_unit_max_bytes").read_text())
    job = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=randwrite", "--size=256k", *PLACE, "--iodepth=4",
           "--atomic=1"]
    if not tally.check(most > 0, "the drive has atomic writes"):
        return
    run = fio([*job, f"--bs={most}", "--verify=crc32c" if most >= 4096 else "--verify=pattern", "--verify_pattern=0xa5",
               *engine(EXPORTER, "host")])
    tally.check(run.status == 0 and bool(run.reports) and run.reports[0]["proven"], "atomic=1, host", run.said())
    tally.check("RWF_ATOMIC" in run.stderr, "atomic=1, host: said in the proof", run.said())
    refused(tally, "atomic=1, too long", fio([*job, f"--bs={2 * most}", *engine(EXPORTER, "host")]),
            f"writes at most {most} bytes at once")
    for datapath in ("premapped", "registered", "bvec", "bounce", "auto"):
        refused(tally, f"atomic=1, {datapath}", fio([*job, f"--bs={most}", *engine(EXPORTER, datapath)]),
                "atomic=1", f"dmabuf_datapath={datapath}")
    # As soon as Linux takes one of a registered buffer, that refusal is no longer right.
    theirs = fio([*job, f"--bs={most}", "--ioengine=io_uring", "--fixedbufs"])
    tally.check(theirs.status != 0, "fio's own engine cannot with fixedbufs=1", "it can: registered could, too")


def uncached(tally: Tally) -> None:
    """Through the page cache, and out of it again."""
    with open(DEV, "rb"):  # the pages of a block device go with its last user
        for datapath in ("registered", "host", "bounce"):
            pages = []
            for option in ("--uncached=0", "--uncached=1"):
                Path("/proc/sys/vm/drop_caches").write_text("1")
                run = fio(["--name=t", f"--filename={DEV}", "--rw=read", "--bs=64k", "--size=4m", *PLACE,
                           "--iodepth=4", *engine(EXPORTER, datapath), option])
                tally.check(run.status == 0 and bool(run.reports), f"{datapath}, {option}", run.said())
                pages.append(cached_pages())
            tally.check(pages[0] >= 1024 > pages[1], f"{datapath}: pages in the cache without and with uncached",
                        str(pages))
    refused(tally, "uncached, bvec", fio(["--name=t", f"--filename={DEV}", "--rw=read", "--bs=64k", "--size=4m",
                                           *engine(EXPORTER, "bvec"), "--uncached=1"]), "uncached", "bvec")


def cached_pages() -> int:
    """Pages of block devices, which /proc/meminfo calls buffers."""
    found = re.search(r"^Buffers:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) // 4 if found else -1


def placement(tally: Tally) -> None:
    """Identifiers of streams and of FDP are in no command of ours, so the job does not run without them."""
    job = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=write", "--bs=16k", "--size=256k", *PLACE]
    cause = "dataplacement: no write here carries an identifier of streams or of FDP"
    with open(DEV, "rb", buffering=0) as disk:
        before = os.pread(disk.fileno(), 256 << 10, 64 << 20)
    for datapath in ("premapped", "registered", "bvec", "auto", "host"):
        for options in (["--dataplacement=streams", "--plids=1,2"], ["--dataplacement=fdp", "--plids=0"],
                        ["--dataplacement=fdp"], ["--fdp=1"]):
            run = fio([*job, *engine(EXPORTER, datapath), *options])
            name = f"{' '.join(options)}, {datapath}"
            refused(tally, name, run, cause, "io_uring_cmd", "drop it")
            tally.same(run.stderr.count(cause), 1, f"{name}: said once")
    # fio itself has no use for identifiers without an interface.
    alone = fio([*job, *engine(EXPORTER, "premapped"), "--rw=read", "--plids=1,2"])
    tally.check(alone.status == 0 and bool(alone.reports), "plids alone", alone.said())
    with open(DEV, "rb", buffering=0) as disk:
        tally.same(os.pread(disk.fileno(), 256 << 10, 64 << 20) == before, True, "the drive is as it was")
    # What docs/engine.md says of it.
    theirs = fio([*job, "--ioengine=io_uring", "--dataplacement=streams", "--plids=1,2"])
    tally.same(theirs.status, 0, "fio's own engine ignores streams")


def block_layer(tally: Tally) -> None:
    """What Linux's block layer does to an I/O it does not do to a command of premapped; a job that asks for it is told so."""
    job = ["--name=t", f"--filename={DEV}", "--direct=1", "--bs=4k", "--size=1m", *PLACE, "--iodepth=4"]
    schedulers = sorted(Path("/sys/block").glob("nvme*/queue/scheduler"))
    # With one CPU Linux gives these drives the one that is asked for below; the guest's agent takes it away.
    before = [path.read_text() for path in schedulers]
    tally.check(bool(before) and all("[none]" in text and "mq-deadline" in text for text in before),
                "there is a scheduler to change", str(before))
    for datapath in ("premapped", "auto"):
        # With auto fio has joined the group and set the scheduler before a file is open.
        for option in ("--write_hint=short", "--prio=3", "--prioclass=2", "--priohint=1",
                       *(["--cgroup=libdmabuf", "--ioscheduler=mq-deadline"] if datapath == "premapped" else [])):
            run = fio([*job, "--rw=write", option, *engine(EXPORTER, datapath)])
            refused(tally, f"{option}, {datapath}", run, option[2:].partition("=")[0])
    tally.same([path.read_text() for path in schedulers], before, "the drive's scheduler is as it was")
    for option in ("--write_hint=none", "--ioscheduler=none"):
        run = fio([*job, "--rw=write", option, *engine(EXPORTER, "premapped")])
        tally.check(run.status == 0 and bool(run.reports) and run.reports[0]["proven"], f"{option}, premapped", run.said())
    for option in ("--prio=3", "--priohint=1", "--write_hint=short"):
        run = fio([*job, "--rw=write", option, *engine(EXPORTER, "registered")])
        tally.check(run.status == 0 and bool(run.reports) and run.reports[0]["proven"], f"{option}, registered", run.said())
    # fio's disk_util is of the block layer's counters, whatever these are told of commands that pass it by.
    switches = list(Path("/sys/block").glob("nvme*/queue/iostats_passthrough"))
    for datapath, counted in (("premapped", False), ("registered", True)):
        for switch in ("1", "0"):
            for path in switches:
                path.write_text(switch)
            # It looks at them four times a second.
            run = fio([*job, "--rw=randread", "--time_based", "--runtime=2", *engine(EXPORTER, datapath)])
            seen = [disk["read_ios"] for disk in run.result.get("disk_util", [])]
            tally.check(bool(seen) and (max(seen) > 64) == counted, f"disk_util, {datapath}, {switch}", f"{seen}; {run.said()}")


def main() -> int:
    """All of it."""
    need_engine()
    tally = Tally()
    trims(tally)
    fua(tally)
    atomic(tally)
    uncached(tally)
    placement(tally)
    block_layer(tally)
    return tally.finish("fio_parity")


if __name__ == "__main__":
    sys.exit(main())
