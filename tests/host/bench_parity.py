#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Does this engine cost more per I/O than fio's own io_uring engine?

4 KiB random reads from a file in the page cache, or with --drive from a drive with O_DIRECT, iodepth 32: fio's io_uring
with fixedbufs and registerfiles against datapath host, which asks the kernel for the same. The two take
turns, in changing order, and the median of the pairs' ratios has to be at least --least. Only a quiet
machine says anything: with other work on it (the load average above --load) nothing is measured.

Exit status 0 pass, 1 fail, 2 usage or no result, 77 the machine is not quiet.

examples: FIO=fio LIBDMABUF=build/host/engine/libdmabuf.so tests/host/bench_parity.py --pairs 15
          dmabuf-lab run --icount -- /src/tests/host/bench_parity.py --drive /dev/nvme0n1
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE = 64 << 20


def iops(folder: Path, seconds: int, target: list[str], engine: list[str]) -> float:
    """Reads per second of one run."""
    words = [os.environ.get("FIO", "fio"), "--name=t", *target, f"--size={SIZE}", "--rw=randread", "--bs=4k", "--iodepth=32",
             "--readonly", "--invalidate=0", "--time_based", f"--runtime={seconds}", "--norandommap", "--randseed=1",
             *engine, "--registerfiles=1", "--fixedbufs=1", "--output-format=json"]
    done = subprocess.run(words, cwd=folder, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return float(json.loads(done.stdout)["jobs"][0]["read"]["iops"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="runs of each engine, at least 7 (default 9)")
    parser.add_argument("--seconds", type=int, default=3, help="of each run (default 3)")
    parser.add_argument("--least", type=float, default=0.99, help="median ratio to reach (default 0.99)")
    parser.add_argument("--load", type=float, default=0.5, help="load average that is quiet enough (default 0.5)")
    parser.add_argument("--drive", help="read this, with O_DIRECT, and no file in the page cache")
    options = parser.parse_args()
    if options.pairs < 7:
        parser.error("fewer than 7 pairs say nothing")
    load = os.getloadavg()[0]
    if load > options.load:
        print(f"SKIP  this machine is not quiet: its load average is {load:.2f}, above {options.load}")
        return 77
    # The lab says where the engine is in its own way.
    library = os.environ.get("LIBDMABUF") or os.environ["ENGINE"].removeprefix("external:")
    engines = {"io_uring": ["--ioengine=io_uring"],
               "host": [f"--ioengine=external:{Path(library).resolve()}", "--dmabuf_datapath=host"]}
    ratios = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        target = [f"--filename={options.drive}", "--direct=1"]
        if not options.drive:
            target = ["--filename=target"]
            (folder / "target").write_bytes(os.urandom(SIZE))
        for engine in engines.values():  # to warm up
            iops(folder, 1, target, engine)
        for pair in range(options.pairs):
            order = list(engines) if pair % 2 else list(reversed(engines))
            run = {which: iops(folder, options.seconds, target, engines[which]) for which in order}
            ratios.append(run["host"] / run["io_uring"])
            print(f"      pair {pair + 1}: io_uring {run['io_uring']:.0f} IOPS, host {run['host']:.0f} IOPS, "
                  f"ratio {ratios[-1]:.4f}", flush=True)
    median = statistics.median(ratios)
    quarters = statistics.quantiles(ratios, n=4)
    good = median >= options.least
    print(f"{'PASS' if good else 'FAIL'} bench_parity: median ratio {median:.4f} of {len(ratios)} pairs, middle half "
          f"{quarters[0]:.4f} to {quarters[2]:.4f}, wanted {options.least}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
