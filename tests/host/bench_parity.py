#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Does this engine cost more per I/O than fio's own io_uring engine?

4 KiB random reads from a file in the page cache, or with --drive from a drive with O_DIRECT, iodepth 32: fio's io_uring
with fixedbufs and registerfiles against datapath host, which asks the kernel for the same. Both make the same number of
I/Os. The two take turns, in changing order.

What counts is the CPU time of fio's job per I/O, by --measure cpu: other work on the machine makes a job wait, and hardly
costs it CPU time. --measure iops is for a machine on which nothing else runs, or whose clock counts instructions.

The median of the pairs' ratios (io_uring's CPU time by host's, or host's IOPS by io_uring's) has to be at least --least.
The verdict needs the median's 95 % interval on one side of that; as long as it is on both there are more pairs, up to --most.

Exit status 0 pass, 1 fail, 2 usage or no result, 77 undecided.

examples: FIO=fio LIBDMABUF=build/host/engine/libdmabuf.so tests/host/bench_parity.py
          dmabuf-lab run --icount -- /src/tests/host/bench_parity.py --drive /dev/nvme0n1 --measure iops
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZE = 64 << 20
BLOCK = 4096
# Pairs after which the interval is looked at, again and again.
STEP = 7
# The chance that the interval leaves out the median, of both sides together, at one look. Several looks make it some
# 5 % where the median is the one that is wanted, and hardly more elsewhere.
MISS = 0.02


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values with the median between them, but for a chance of MISS; by counting alone (the sign test)."""
    ordered = sorted(values)
    count = len(ordered)
    outside, rank = 0.0, 0
    while rank < count // 2:
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > MISS:
            break
        rank += 1
    if not rank:
        raise ValueError(f"{count} values have no such interval")
    return ordered[rank - 1], ordered[count - rank]


def verdict(ratios: Sequence[float], least: float) -> int | None:
    """The exit status; None: these pairs do not decide."""
    low, high = interval(ratios)
    if low >= least:
        return 0
    return 1 if high < least else None


def job(folder: Path, ios: int, words: Sequence[str]) -> dict[str, Any]:
    """What fio says of one run."""
    argv = [os.environ.get("FIO", "fio"), "--name=t", f"--size={SIZE}", f"--io_size={ios * BLOCK}", "--rw=randread",
            f"--bs={BLOCK}", "--iodepth=32", "--readonly", "--invalidate=0", "--norandommap", "--randseed=1",
            *words, "--registerfiles=1", "--fixedbufs=1", "--output-format=json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, cwd=folder, text=True, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(f"{' '.join(argv)}: {done.stderr}", file=sys.stderr)
        sys.exit(2)
    found: dict[str, Any] = json.loads(done.stdout)["jobs"][0]
    # Of all of fio's threads: what it says itself leaves out io_uring's workers.
    found["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def cost(measure: str, run: dict[str, Any]) -> float:
    """Microseconds per I/O: of CPU time, or of all time."""
    ios = run["read"]["total_ios"]
    if not ios:
        print("fio made no I/O", file=sys.stderr)
        sys.exit(2)
    if measure == "iops":
        return 1e6 / float(run["read"]["iops"])
    return float(run["cpu_s"] * 1e6 / ios)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=["cpu", "iops"], default="cpu", help="what counts (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=21, help="runs of each engine, at least 7 (default: %(default)s)")
    parser.add_argument("--most", type=int, default=63, help="of them where they do not decide (default: %(default)s)")
    parser.add_argument("--ios", type=int, default=500_000, help="of each run (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0.99, help="median ratio to reach (default: %(default)s)")
    parser.add_argument("--drive", help="read this, with O_DIRECT, and no file in the page cache")
    options = parser.parse_args()
    if options.pairs < STEP or options.most < options.pairs:
        parser.error(f"fewer than {STEP} pairs say nothing, and --most is at least as many as --pairs")
    return options


def main() -> int:
    options = arguments()
    # The lab says where the engine is in its own way.
    library = os.environ.get("LIBDMABUF") or os.environ["ENGINE"].removeprefix("external:")
    engines = {"io_uring": ["--ioengine=io_uring"],
               "host": [f"--ioengine=external:{Path(library).resolve()}", "--dmabuf_datapath=host"]}
    ratios: list[float] = []
    status: int | None = None
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        target = [f"--filename={options.drive}", "--direct=1"]
        if not options.drive:
            target = ["--filename=target"]
            (folder / "target").write_bytes(os.urandom(SIZE))
        for engine in engines.values():  # to warm up
            job(folder, options.ios // 10 + 1, [*target, *engine])
        while status is None and len(ratios) < options.most:
            order = list(engines) if len(ratios) % 2 else list(reversed(engines))
            took = {which: cost(options.measure, job(folder, options.ios, [*target, *engines[which]])) for which in order}
            ratios.append(took["io_uring"] / took["host"])
            print(f"      pair {len(ratios)}: io_uring {took['io_uring']:.4f} us, host {took['host']:.4f} us, "
                  f"ratio {ratios[-1]:.4f}", flush=True)
            if len(ratios) >= options.pairs and (len(ratios) - options.pairs) % STEP == 0:
                status = verdict(ratios, options.least)
    low, high = interval(ratios)
    word = {0: "PASS", 1: "FAIL", None: "UNDECIDED"}[status]
    print(f"{word} bench_parity: by {options.measure}, median ratio {statistics.median(ratios):.4f} of {len(ratios)} pairs, "
          f"{1 - MISS:.0%} interval {low:.4f} to {high:.4f}, wanted {options.least}; load average {os.getloadavg()[0]:.2f}")
    return 77 if status is None else status


if __name__ == "__main__":
    sys.exit(main())
