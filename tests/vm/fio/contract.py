#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio that changes its mind in the middle of a job, on the module's datapaths: a replayed log whose later
chunks have longer I/Os, I/O that fio leaves in flight at the end, syncs of a polled ring, threads that verify.

Runs in the lab's guest, booted with nvme.poll_queues=1, and destroys the data on $DEV. Exit status 0 pass,
1 fail, 2 usage.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fio.harness import DEV, Run, Tally, engine, fio, need_engine, nothing_left

DATAPATHS = ("premapped", "registered", "bvec", "bounce")
NONE: list[str] = []


def write_log(folder: Path, ios: list[tuple[str, int, int]]) -> str:
    """An I/O log of fio's for the drive; each I/O is (read or write, offset, length)."""
    path = folder / "log"
    lines = ["fio version 2 iolog", f"{DEV} add", f"{DEV} open", *(f"{DEV} {kind} {at} {length}" for kind, at, length in ios),
             f"{DEV} close", ""]
    path.write_text("\n".join(lines))
    return str(path)


def check_counts(tally: Tally, run: Run, name: str) -> dict[str, Any] | None:
    """What fio issued is what the engine saw end and, where the I/O passes it, what the module counted and sent."""
    if not tally.check(run.status == 0 and len(run.reports) == 1, f"{name}: fio", run.said()):
        return None
    report = run.reports[0]
    for kind in ("read", "write"):
        tally.same(report["issued"][f"{kind}s"], run.jobs[0][kind]["total_ios"], f"{name}: {kind}s")
    tally.same((report["proven"], report.get("unreaped")), (True, 0), f"{name}: {report['proof']}")
    module = report["module"]
    if report["datapath"] in ("premapped", "bvec"):
        tally.same((module["reads"], module["writes"], module["commands"]),
                   (report["issued"]["reads"], report["issued"]["writes"],
                    report["issued"]["reads"] + report["issued"]["writes"]), f"{name}: counts and commands of the module")
    return report


def replay(log: str, datapath: str, *options: str) -> Run:
    """Replays it in chunks."""
    return fio([*engine([], datapath), "--name=r", f"--read_iolog={log}", "--read_iolog_chunked=1", "--direct=1",
                "--rw=randrw", "--bs=4k", "--iodepth=8", *options])


def test_end_of_a_log(tally: Tally) -> None:
    """The last I/Os are in flight, or not even submitted, when fio is done."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder), [(chance.choice(("read", "write")),
                        chance.randrange(4096) * 4096, 4096) for _ in range(4096)])
        for datapath in DATAPATHS:
            for options in (NONE, ["--iodepth_batch=8"]):
                name = f"{datapath} {options}: end of a log"
                with nothing_left(tally, name):
                    run = replay(log, datapath, *options)
                report = check_counts(tally, run, name)
                if report:
                    tally.same(report["issued"]["reads"] + report["issued"]["writes"], 4096, f"{name}: all")


def test_longer_ios(tally: Tally) -> None:
    """Each chunk's I/Os may be longer than the memory of the last one had room for."""
    lengths = (4096, 16384, 131072)
    with tempfile.TemporaryDirectory() as folder:
        ios = [("write", i * length, length) for length in lengths for i in range(128)]
        log = write_log(Path(folder), ios)
        for datapath in DATAPATHS:
            for options in (NONE, ["--thread"], ["--dmabuf_buffers=io_u"], ["--dmabuf_remap_every=50"]):
                if datapath == "bounce" and "remap" in "".join(options):
                    continue
                name = f"{datapath} {options}: longer I/Os"
                subprocess.run(["blkdiscard", "-z", "-l", str(128 << 17), DEV], check=True)
                with nothing_left(tally, name):
                    run = replay(log, datapath, *options, "--buffer_pattern=0x0badcafe")
                report = check_counts(tally, run, name)
                if not report:
                    continue
                tally.same(report["issued"]["write_bytes"], sum(length for _, _, length in ios), f"{name}: bytes")
                tally.check(report["buffer_bytes"] >= 8 * lengths[-1], f"{name}: memory", str(report["buffer_bytes"]))
                with open(DEV, "rb") as drive:
                    data = drive.read(128 * lengths[-1])
                tally.check(data == bytes.fromhex("0badcafe") * (len(data) // 4), f"{name}: data")


def test_polled_syncs(tally: Tally) -> None:
    """fio syncs before it verifies, whatever the job says; and what the job says."""
    for datapath in ("premapped", "registered", "bounce", "host"):
        for options in (["--fsync=16"], ["--fdatasync=16"], ["--sync_file_range=write:16"], ["--end_fsync=1"],
                        ["--fsync_on_close=1"], ["--verify=crc32c"]):
            name = f"{datapath} polled {options}"
            run = fio([*engine([], datapath), "--hipri", "--name=p", f"--filename={DEV}", "--direct=1", "--rw=randwrite",
                       "--bs=4k", "--iodepth=8", "--size=1m", *options])
            if tally.check(run.status == 0 and len(run.reports) == 1, name, run.said()):
                tally.check(run.reports[0]["proven"] is True and run.reports[0]["errors"] == 0, f"{name}: proven",
                            str(run.reports[0]))
                # fio sends one before it verifies if it has the file open at that time.
                tally.check(run.reports[0]["issued"]["syncs"] >= ("verify" not in options[0]), f"{name}: syncs",
                            str(run.reports[0]["issued"]))


def test_threads_that_verify(tally: Tally) -> None:
    """Their data is what the drive has, and one wrong byte is found."""
    common = ["--name=v", f"--filename={DEV}", "--direct=1", "--rw=write", "--bs=64k", "--iodepth=16", "--size=8m",
              "--verify=pattern", "--verify_pattern=0x1d8109b7", "--verify_fatal=1", "--verify_async=3"]
    for datapath in DATAPATHS:
        for exporter in (NONE, ["--dmabuf_buffers=io_u"], ["--dmabuf_exporter=testexp"]):
            if exporter == ["--dmabuf_exporter=testexp"] and not Path("/sys/module/dmabuf_testexp").exists():
                continue
            name = f"{datapath} {exporter}: verify_async"
            with nothing_left(tally, name):
                run = fio([*engine(exporter, datapath), *common])
            if tally.check(run.status == 0 and len(run.reports) == 1, name, run.said()):
                report = run.reports[0]
                tally.same((report["proven"], report["issued"]["reads"], report["issued"]["writes"]), (True, 128, 128), name)
            with open(DEV, "r+b", buffering=0) as drive:
                drive.seek(1 << 20)
                block = bytearray(drive.read(4096))
                block[777] ^= 1
                drive.seek(1 << 20)
                drive.write(block)
                subprocess.run(["blockdev", "--flushbufs", DEV], check=True)
            run = fio([*engine(exporter, datapath), *common, "--verify_only=1"])
            tally.check(run.status != 0, f"{name}: a wrong byte is found", run.said())


TESTS = {"end": test_end_of_a_log, "longer": test_longer_ios, "polled": test_polled_syncs, "verify": test_threads_that_verify}


def main() -> int:
    need_engine()
    if Path("/sys/module/nvme/parameters/poll_queues").read_text().strip() == "0":
        sys.exit("setup: boot with nvme.poll_queues=1")
    tally = Tally()
    for name in sys.argv[1:] or TESTS:
        TESTS[name](tally)
    return tally.finish("fio_contract")


if __name__ == "__main__":
    sys.exit(main())
