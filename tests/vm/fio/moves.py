#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio with checksums while the memory moves under it, and while fio is killed.

The memory is dmabuf_testexp's; a thread of that module moves it every millisecond while it is
mapped. No error may reach fio, every byte must be right, and after any end of fio nothing may be
left. Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from fio.harness import DEV, Tally, engine, fio, live_dmabufs, module_users, need_engine

MOVE_US = 1000
DEVICE = "/dev/dmabuf_testexp"
QUERY = 0xC040E800  # DMABUF_TESTEXP_IOC_QUERY, struct dmabuf_testexp_query is 64 bytes
FEATURE_MOVE = 1


def load(module: str) -> None:
    """Loads the test exporter unless it is there; ends the program when that fails."""
    if Path("/sys/module/dmabuf_testexp").exists():
        return
    if not module or subprocess.run(["insmod", module], check=False).returncode:
        sys.exit("DMABUF_TESTEXP_KO must name dmabuf_testexp.ko")


def query() -> tuple[int, int]:
    """Features of the test exporter, and how many of its buffers exist in any process."""
    answer = bytearray(64)
    with open(DEVICE, "rb+", buffering=0) as device:
        fcntl.ioctl(device, QUERY, answer)
    _, _, features, _, _, _, live, _ = struct.unpack_from("=IIQQIIII", answer)
    return features, live


def job(name: str, seconds: float, moves: bool = True) -> list[str]:
    """A random read and write job that checks what it reads by checksum, as fio's options."""
    device = [f"--dmabuf_device=move-{MOVE_US}"] if moves else []
    return [*engine(["--dmabuf_exporter=testexp", *device], "premapped"),
            f"--name={name}", f"--filename={DEV}", "--direct=1", "--rw=randrw", "--iodepth=32",
            "--bsrange=4k-64k", "--offset=64m", "--size=32m", "--verify=crc32c", "--verify_fatal=1",
            "--time_based", f"--runtime={seconds}"]


def left() -> tuple[int, int, int]:
    """Buffers of the test exporter, all dma-bufs, and users of dmabuf_rw."""
    return query()[1], live_dmabufs(), module_users()


def nothing_left(tally: Tally, name: str, before: tuple[int, int, int]) -> None:
    """What fio had is gone, at the latest soon."""
    now = left()
    for _ in range(250):
        if now == before:
            break
        time.sleep(0.02)
        now = left()
    tally.same(now, before, f"{name}: test buffers, dma-bufs and users of the module afterwards")


def undisturbed(tally: Tally) -> None:
    """The exporter without moves, as a control: none is counted."""
    run = fio(job("still", 1, moves=False))
    if tally.check(run.status == 0 and len(run.reports) == 1, "still: fio", run.said()):
        report = run.reports[0]
        tally.check(report["exporter"] == "testexp" and report["proven"] is True,
                    "still: proven on testexp", str(report))
        tally.same(report["module"]["invalidations"], 0, "still: moves")


def moving(tally: Tally, seconds: float, least: int) -> None:
    """fio to its end while the memory moves."""
    run = fio(job("moving", seconds), timeout=seconds * 3 + 120)
    if not tally.check(run.status == 0 and len(run.jobs) == 1 and len(run.reports) == 1,
                       "moving: fio ends well", run.said()):
        return
    report, module = run.reports[0], run.reports[0]["module"]
    tally.same(run.jobs[0]["error"], 0, "moving: fio's error")
    tally.check(report["datapath"] == "premapped" and report["proven"] is True,
                "moving: proven on premapped", report["proof"])
    tally.same((report["errors"], report["short"], module["errors"]), (0, 0, 0),
               "moving: errors of the engine, short I/O, errors of the module")
    tally.check(module["invalidations"] >= least, f"moving: at least {least} moves",
                str(module["invalidations"]))
    moved = module["reads"] + module["writes"]
    tally.check(moved > 1000, "moving: fio did I/O", str(moved))
    print(f"      moving: {module['invalidations']} moves in {seconds} s, {module['reads']} reads, "
          f"{module['writes']} writes, {(module['read_bytes'] + module['write_bytes']) >> 20} MiB, "
          f"{module['deferred']} deferred, {report['retries']} retries", flush=True)


def children_of(pid: int) -> list[int]:
    """fio's job processes."""
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()]


def killed(tally: Tally, times: int, dice: random.Random) -> None:
    """SIGKILL of every process of fio, with I/O in flight and the memory on the move."""
    before = left()
    in_flight = 0
    for number in range(times):
        words = [word for word in job("killed", 600) if not word.startswith("--dmabuf_report")]
        # pylint: disable-next=consider-using-with
        run = subprocess.Popen(["fio", "--output=/dev/null", *words], cwd="/tmp",
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Not before the memory is there: a kill of a fio that has not begun shows nothing.
        for _ in range(1000):
            if left()[0] > before[0] or run.poll() is not None:
                break
            time.sleep(0.02)
        time.sleep(dice.uniform(0.2, 1.5))
        if tally.check(run.poll() is None, f"kill {number}: fio runs", f"status {run.returncode}"):
            in_flight += left()[0] > before[0]
            for pid in [*children_of(run.pid), run.pid]:
                os.kill(pid, signal.SIGKILL)
        run.wait()
        nothing_left(tally, f"kill {number}", before)
    tally.same(in_flight, times, "fio had its buffer whenever it was killed")


def unload(tally: Tally) -> None:
    """Both modules go, which they would not with anything of theirs alive."""
    for module in ("dmabuf_rw", "dmabuf_testexp"):
        for _ in range(100):
            done = subprocess.run(["rmmod", module], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.05)
        tally.same(done.returncode, 0, f"{module} unloads: {done.stderr.strip()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 s instead of 60 s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the kills' moments")
    options = parser.parse_args()
    need_engine()
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    if not query()[0] & FEATURE_MOVE:
        print("SKIP  this kernel keeps mapped dma-bufs where they are")
        return 77
    print(f"      seed {options.seed}", flush=True)
    tally = Tally()
    before = left()
    undisturbed(tally)
    moving(tally, 10 if options.quick else 60, 100 if options.quick else 1000)
    nothing_left(tally, "moving", before)
    killed(tally, 4 if options.quick else 20, random.Random(options.seed))
    unload(tally)
    return tally.finish("fio_moves")


if __name__ == "__main__":
    sys.exit(main())
