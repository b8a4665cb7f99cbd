#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The guest's half of dmabuf-bench for fio: runs the cases interleaved, prints a line for each run.

usage: fio_runs.py PLAN    (JSON: repeats, perhaps a scheduler for the guest's drive, and for each
case fio's options)

Needs only the standard library.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

SCHEDULER = Path("/sys/block/nvme0n1/queue/scheduler")
# Kept for the JSON by name.
PERCENTILES = {"p50": "50.000000", "p99": "99.000000"}


def figures(result: dict[str, Any]) -> dict[str, float]:
    """IOPS, latencies in ns and CPU time in µs per I/O of the one group of jobs."""
    job = result["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio's job failed with error {job['error']}")
    read = job["read"]
    latency = read["clat_ns"]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1000
    found = {"iops": read["iops"], "mean_ns": latency["mean"], "cpu_us": busy / read["total_ios"]}
    for name, key in PERCENTILES.items():
        found[f"{name}_ns"] = latency["percentile"][key]
    return found


def run(words: list[str]) -> dict[str, float]:
    """One run of fio."""
    engine = os.environ["ENGINE"]
    argv = [word.replace("=ENGINE", f"={engine}") for word in words]
    done = subprocess.run(["fio", "--output-format=json", *argv], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fio ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return figures(json.loads(done.stdout[done.stdout.index("{") :]))


def main() -> int:
    """All cases once to warm up, then all again for each repeat, every time in another order."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    cases = plan["cases"]
    if "scheduler" in plan:
        SCHEDULER.write_text(plan["scheduler"])
    order = list(range(len(cases)))
    shuffle = random.Random(1)
    for repeat in range(plan["repeats"] + 1):
        shuffle.shuffle(order)
        for number in order:
            found = run(cases[number])
            if repeat:
                print(json.dumps({"case": number, **found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
