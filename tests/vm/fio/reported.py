#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What people reported of fio on drives that only a guest has: zoned namespaces, NVMe over TCP, blocks of
4 KiB, character devices. The table is in docs/testing.md.

Runs in the lab's guest, booted with --formats, and destroys the data on its drives. Exit status 0 pass,
1 fail, 2 usage.
"""

import argparse
import subprocess
import sys
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


PARTS = {"zones": zones, "blocks": blocks, "characters": characters, "tcp": tcp}


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
