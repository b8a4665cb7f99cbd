#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What people reported of fio on drives that only a guest has: zoned namespaces, NVMe over TCP, blocks of
4 KiB, metadata, trims that are verified, character devices; and jobs that are stopped and ended. The table is in
docs/testing.md.

Runs in the lab's guest, booted with --formats, and destroys the data on its drives. Exit status 0 pass,
1 fail, 2 usage.
"""

import argparse
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fio import fabric
from fio.harness import DEV, NOT_NVME, Run, Tally, engine, fio, need_engine, nothing_left

EXPORTER = ["--dmabuf_exporter=udmabuf"]


def refused(tally: Tally, name: str, run: Run, *words: str) -> None:
    """Checks that a job was refused before its first I/O, once, in these words."""
    tally.check(run.status != 0 and not run.reports, f"{name}: refused", run.said())
    tally.same(sum(line.startswith("libdmabuf: job") for line in run.stderr.splitlines()), 1, f"{name}: one sentence")
    for word in words:
        tally.check(word in run.stderr, f"{name}: says {word!r}", run.said())


def proven(tally: Tally, name: str, run: Run) -> bool:
    """Checks that a job ended well and did what it says."""
    return tally.check(run.status == 0 and bool(run.reports) and all(report["proven"] for report in run.reports), name,
                       run.said())


def namespace(nsid: int) -> str:
    """The block device of a namespace of the drive with many formats."""
    for place in Path("/sys/block").glob("nvme1n*"):
        if int((place / "nsid").read_text()) == nsid:
            return f"/dev/{place.name}"
    raise SystemExit("no such namespace: boot with --formats")


ZONE = 4 << 20


def empty_zones(device: str) -> None:
    """All zones as they are before the first write."""
    subprocess.run(["blkdiscard", "-z", device], check=False, capture_output=True)
    subprocess.run(["blkzone", "reset", device], check=True)


def written_zones(device: str) -> int:
    """Zones that are not empty."""
    shown = subprocess.run(["blkzone", "report", device], check=True, capture_output=True, text=True).stdout
    return sum("em)" not in line for line in shown.splitlines() if "start:" in line)


def zones(tally: Tally) -> None:
    """fio resets zones by its own calls: the same verdict, and as many zones, as with its own engine."""
    device = namespace(1)
    job = ["--name=z", f"--filename={device}", "--direct=1", "--zonemode=zbd", "--iodepth=4", "--bs=64k", "--randseed=7"]
    jobs = {
        "randwrite": ["--rw=randwrite", f"--size={4 * ZONE}", "--max_open_zones=3", "--verify=crc32c"],
        "read": ["--rw=read", f"--offset={ZONE}", f"--size={2 * ZONE}"],
        "resets": ["--rw=randwrite", f"--size={4 * ZONE}", "--io_size=24m", "--zone_reset_threshold=0.5",
                   "--zone_reset_frequency=0.1", "--max_open_zones=3"],
    }
    for name, words in jobs.items():
        seen = {}
        for datapath in ("io_uring", "registered", "bvec", "bounce"):
            if name != "read":
                empty_zones(device)
            run = fio([*job, *words, *(["--ioengine=io_uring"] if datapath == "io_uring" else engine(EXPORTER, datapath))])
            if datapath != "io_uring":
                proven(tally, f"{name}, {datapath}", run)
            seen[datapath] = (run.status, written_zones(device))
        tally.same(set(seen.values()), {seen["io_uring"]}, f"{name}: status and zones written, as fio's own engine")
        tally.check(seen["io_uring"][0] == 0 and seen["io_uring"][1] > 0, f"{name}: fio's own engine did it", str(seen))
    refused(tally, "premapped", fio([*job, *jobs["randwrite"], *engine(EXPORTER, "premapped")]), "ZONED")


def blocks(tally: Tally) -> None:
    """What is no whole block is refused once; its size is named."""
    device = namespace(4)
    for datapath in ("premapped", "registered", "bvec", "host"):
        job = ["--name=b", f"--filename={device}", "--direct=1", "--rw=write", "--size=8m", "--iodepth=8",
               *engine(EXPORTER, datapath)]
        refused(tally, f"a tail, {datapath}", fio([*job, "--bssplit=64k/80:4608/20"]), "bs=4608", "4096 bytes", "RANGE")
        refused(tally, f"sectors, {datapath}", fio([*job, "--bs=512"]), "bs=512", "4096 bytes", "RANGE")
        proven(tally, f"whole blocks, {datapath}", fio([*job, "--bssplit=64k/80:4k/20", "--verify=crc32c"]))


def commands(tally: Tally) -> None:
    """An object whose tail is a few blocks has as many commands as its pieces take, and no more."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        run = fio(["--name=o", f"--filename={DEV}", "--direct=1", "--rw=write", "--bssplit=2m/80:4608/20", "--size=32m",
                   "--iodepth=8", "--randseed=3", "--verify=crc32c", f"--write_iolog={log}", *engine(EXPORTER, "premapped"),
                   "--dmabuf_max_command_kb=512"])
        if not proven(tally, "objects with a tail", run):
            return
        lengths = [int(length) for length in re.findall(r" (?:read|write) \d+ (\d+)$", log.read_text(), re.MULTILINE)]
    issued, module = run.reports[0]["issued"], run.reports[0]["module"]
    tally.same((len(lengths), sum(lengths)), (issued["reads"] + issued["writes"], issued["read_bytes"] + issued["write_bytes"]),
               "objects with a tail: fio's log has all I/Os")
    # fio makes each length a multiple of the shortest.
    tally.same(set(lengths), {4608, (2 << 20) // 4608 * 4608}, "objects with a tail: both lengths")
    tally.same(module["commands"], sum(-(-length // (512 << 10)) for length in lengths),
               "objects with a tail: commands of at most 512 KiB")


def trims(tally: Tally) -> None:
    """Trims beside verify: the verdict, and the number, of fio's own engine in the same guest."""
    job = ["--name=v", f"--filename={DEV}", "--direct=1", "--randseed=11"]
    for name, words in {
        "of what was written": ["--rw=randwrite", "--bs=16k", "--size=16m", "--iodepth=16", "--verify=crc32c",
                                "--verify_backlog=500", "--trim_percentage=5", "--trim_backlog=100"],
        "and writes": ["--rw=trimwrite", "--bs=64k", "--size=16m", "--iodepth=8"],
        "and writes at random": ["--rw=randtrimwrite", "--bs=64k", "--size=16m", "--iodepth=8"],
    }.items():
        theirs = fio([*job, *words, "--ioengine=io_uring"])
        wanted = theirs.jobs[0]["trim"]["total_ios"] if theirs.jobs else -1
        tally.check(theirs.status != 0 or wanted > 0, f"trims {name}: fio's own engine makes some", theirs.said())
        for datapath in ("premapped", "registered", "bvec"):
            run = fio([*job, *words, *engine(EXPORTER, datapath)])
            tally.same(run.status, theirs.status, f"trims {name}, {datapath}: status of fio's own engine")
            if run.status == 0 and proven(tally, f"trims {name}, {datapath}", run):
                tally.same(run.jobs[0]["trim"]["total_ios"], wanted, f"trims {name}, {datapath}: as many")
                tally.same(run.reports[0]["issued"]["trims"], wanted, f"trims {name}, {datapath}: in the report")


def spoil(device: str, place: int) -> None:
    """Changes one bit. Not by way of the page cache: it reads ahead in bios that Linux merges, and of these Linux 7.3 cannot
    map the metadata under an IOMMU (it warns, dma_iova_link)."""
    disk = os.open(device, os.O_RDWR | os.O_DIRECT)
    block = mmap.mmap(-1, 4096)  # aligned as O_DIRECT wants it
    try:
        os.preadv(disk, [block], place & ~4095)
        block[place & 4095] ^= 1
        os.pwritev(disk, [block], place & ~4095)
    finally:
        os.close(disk)
        block.close()


def metadata(tally: Tally) -> None:
    """Blocks with metadata keep what a first job has written, by what that job has noted, for a second one."""
    for nsid, datapaths in ((2, ("registered", "bvec")), (3, ("registered", "bvec", "premapped"))):
        device = namespace(nsid)
        for datapath in datapaths:
            name = f"namespace {nsid} with metadata, {datapath}"
            with tempfile.TemporaryDirectory() as folder:
                job = ["--name=m", f"--filename={device}", "--direct=1", "--rw=write", "--bs=128k", "--size=8m", "--iodepth=4",
                       "--verify=crc32c", f"--aux-path={folder}", *engine(EXPORTER, datapath)]
                proven(tally, f"{name}: written", fio([*job, "--do_verify=0", "--verify_state_save=1"]))
                tally.check(bool(os.listdir(folder)), f"{name}: fio has noted what it wrote")
                run = fio([*job, "--verify_only=1", "--verify_state_load=1"])
                if proven(tally, f"{name}: verified", run):
                    tally.same(run.reports[0]["issued"]["reads"], 64, f"{name}: reads")
                spoil(device, (3 << 20) + 100)
                tally.check(fio([*job, "--verify_only=1", "--verify_state_load=1"]
                            ).status != 0, f"{name}: one wrong bit is found")


def started(device: str, wanted: int) -> bool:
    """Waits until so many processes of fio's, or threads, have a device open."""
    for _ in range(1200):
        seen = 0
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                seen += os.readlink(link) == device
            except OSError:
                continue
        if seen >= wanted:
            return True
        time.sleep(0.05)
    return False


def signals(tally: Tally) -> None:
    """A job that is stopped goes on; one that is interrupted ends, proven, and leaves nothing."""
    for datapath, more in (("premapped", ["--iodepth=16"]), ("premapped", ["--iodepth=16", "--thread"]),
                           ("premapped", ["--iodepth=1", "--dmabuf_submit=ioctl"]), ("registered", ["--iodepth=16"]),
                           ("bvec", ["--iodepth=16"])):
        name = f"{datapath} {' '.join(more)}: signals"
        with nothing_left(tally, name), tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report")
            words = ["fio", "--name=s", f"--filename={DEV}", "--direct=1", "--rw=randrw", "--bs=4k", "--size=8m", "--numjobs=4",
                     "--time_based", "--runtime=250", *(word.replace("REPORT", str(report))
                                                        for word in engine(EXPORTER, datapath)),
                     *more]
            with subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  start_new_session=True) as process:
                tally.check(started(DEV, 4), f"{name}: the jobs have begun")
                time.sleep(1)
                for _ in range(3):
                    for number in (signal.SIGSTOP, signal.SIGCONT):
                        os.killpg(process.pid, number)
                        time.sleep(0.2)
                tally.check(process.poll() is None, f"{name}: it goes on after it was stopped")
                process.send_signal(signal.SIGINT)
                try:
                    said, _ = process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    said = "it did not end within 60 s"
            lines = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
            tally.same([(line["proven"], line["errors"], line["unreaped"]) for line in lines], [(True, 0, 0)] * 4,
                       f"{name}: reports; {said[-400:]}")
            tally.check(all(line["issued"]["reads"] > 0 for line in lines), f"{name}: all have read")


def characters(tally: Tally) -> None:
    """The character device of a namespace, as users of io_uring_cmd paste it."""
    node = DEV.replace("nvme", "ng")
    for datapath in ("premapped", "auto", "host"):
        refused(tally, f"character device, {datapath}",
                fio(["--name=c", f"--filename={node}", "--direct=1", "--rw=randread", "--bs=4k", *engine(EXPORTER, datapath)]),
                f"{node} takes NVMe commands", f"give {DEV}")


def disconnect_under_load(device: str) -> None:
    """Lets the target go once some hundred reads of fio's were done."""
    counts = Path("/sys/block", Path(device).name, "stat")
    before = int(counts.read_text().split()[0])
    for _ in range(2000):
        if int(counts.read_text().split()[0]) > before + 300:
            break
        time.sleep(0.05)
    fabric.disconnect("tcp")


def tcp(tally: Tally) -> None:
    """Premapped is refused by name; the others move the right bytes; a target that goes ends the job."""
    exporters = [["--dmabuf_exporter=udmabuf"], ["--dmabuf_exporter=heap", "--dmabuf_device=system"], ["--dmabuf_exporter=drm"]]
    with fabric.taken(NOT_NVME, "tcp") as device:
        job = ["--name=n", f"--filename={device}", "--direct=1", "--iodepth=16", "--size=16m"]
        checked = ["--rw=randrw", "--verify=crc32c", "--bsrange=4k-256k"]
        run = fio([*job, *checked, *engine(EXPORTER, "premapped")])
        refused(tally, "premapped over TCP", run, "over PCI", "dmabuf_datapath=registered")
        for exporter in exporters:
            for datapath in ("registered", "bvec", "auto"):
                name = f"{datapath} over TCP, {' '.join(exporter)}"
                run = fio([*job, *checked, *engine(exporter, datapath)])
                if proven(tally, name, run) and datapath == "auto":
                    tally.same(run.reports[0]["datapath"], "registered", f"{name}: what auto took")
                    tally.check("over PCI" in run.stderr, f"{name}: says why", run.said())
        with nothing_left(tally, "a target that goes"):
            leaver = threading.Thread(target=disconnect_under_load, args=(device,))
            leaver.start()
            run = fio([*job, "--rw=randrw", "--bs=16k", "--time_based", "--runtime=300", *engine(EXPORTER, "registered")],
                      timeout=250)
            leaver.join()
        tally.check(run.status not in (0, 124), "a target that goes ends the job with an error", run.said())


PARTS = {"zones": zones, "blocks": blocks, "commands": commands, "trims": trims, "metadata": metadata, "signals": signals,
         "characters": characters, "tcp": tcp}


def main() -> int:
    """Those that are named, or all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or list(PARTS)
    need_engine()
    tally = Tally()
    for name in chosen:
        PARTS[name](tally)
    return tally.finish("fio_reported")


if __name__ == "__main__":
    sys.exit(main())
