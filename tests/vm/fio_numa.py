#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A job's dma-buf lies on the NUMA node that fio's options name.

Needs two nodes (dmabuf-lab run --nodes 2) and the module. Standard library only.
"""

import sys
import threading
import time
from pathlib import Path

from fio_harness import DEV, Run, Tally, engine, fio

BUFFER_MIB = 48
NODES = (0, 1)
# What else takes and gives back memory meanwhile: fio itself, the run before.
SLACK_MIB = BUFFER_MIB / 4


def free_mib(node: int) -> float:
    """Memory of a node that nobody has."""
    text = Path(f"/sys/devices/system/node/node{node}/meminfo").read_text()
    line = next(line for line in text.splitlines() if "MemFree:" in line)
    return int(line.split()[-2]) / 1024


def measure(words: list[str]) -> tuple[Run, dict[int, float]]:
    """One run of fio, and the most memory it took from each node."""
    free_before = {node: free_mib(node) for node in NODES}
    least = dict(free_before)
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for node in NODES:
                least[node] = min(least[node], free_mib(node))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = fio(words)
    stop.set()
    watcher.join()
    return run, {node: free_before[node] - least[node] for node in NODES}


def main() -> int:
    """Exit status 0 only if all checks hold."""
    tally = Tally()
    if not tally.check(Path("/sys/devices/system/node/node1").exists(), "two nodes", "there is one"):
        return tally.finish("fio_numa")
    base = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=randread", "--bs=1m", f"--iodepth={BUFFER_MIB}",
            "--size=256m", "--time_based", "--runtime=2"]
    # The first run reads fio and its libraries into memory, wherever: that is no buffer's.
    small = [word for word in base if not word.startswith("--iodepth")]
    warm = fio([*small, *engine(["--dmabuf_exporter=udmabuf"], "premapped")])
    tally.same(warm.status, 0, f"a first run, which is not measured: {warm.said()}")
    for exporter in ("udmabuf", "heap"):
        for node in NODES:
            name = f"{exporter}, node {node}"
            place = [f"--numa_cpu_nodes={node}", f"--numa_mem_policy=bind:{node}"]
            run, taken = measure([*base, *place, *engine([f"--dmabuf_exporter={exporter}"], "premapped")])
            if not tally.same(run.status, 0, f"{name}: exit status, {run.said()}"):
                continue
            sizes = [report["buffer_bytes"] >> 20 for report in run.reports]
            tally.same(sizes, [BUFFER_MIB], f"{name}: MiB of the dma-buf")
            tally.check(taken[node] >= BUFFER_MIB - SLACK_MIB, f"{name}: memory of that node", f"{taken} MiB taken")
            tally.check(taken[1 - node] < SLACK_MIB, f"{name}: memory of the other", f"{taken} MiB taken")
            print(f"      {name}: {taken[0]:.0f} MiB of node 0, {taken[1]:.0f} MiB of node 1", flush=True)
    return tally.finish("fio_numa")


if __name__ == "__main__":
    sys.exit(main())
