#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A job's dma-buf lies on the NUMA node that fio's options name.

Counts the pages of the buffer itself: the kernel's own tracepoint says which page frames were
taken for it, and /proc/zoneinfo which node they are of. What else takes memory meanwhile does not
matter. Needs two nodes (dmabuf-lab run --nodes 2) and the module. Standard library only.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fio.harness import DEV, Run, Tally, engine, fio

DEPTH = 48
BUFFER = DEPTH << 20
NODES = (0, 1)
PAGE = 4096
TRACING = Path("/sys/kernel/tracing/instances/fio_numa")
# In whose call the pages of a buffer are taken. The memory of their tables comes from slabs.
TAKEN_IN = {"udmabuf": "shmem_fallocate", "heap": "dma_heap_ioctl"}
# Room for the pages of a job, one by one, with the calls that took them.
TRACE_KIB = 32768

_ALLOC = re.compile(r"mm_page_alloc: .*\bpfn=(0x[0-9a-f]+) order=(\d+)")
_TASK = re.compile(r".+-\d+ +\[\d+\]")
_ENTRIES = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")
_ZONE = re.compile(r"Node (\d+), zone")


def spans(zoneinfo: str) -> list[tuple[int, int, int]]:
    """First page frame, number of page frames and node of each zone that has any."""
    found = []
    node = spanned = 0
    for line in zoneinfo.splitlines():
        if zone := _ZONE.match(line):
            node, spanned = int(zone.group(1)), 0
        elif line.split()[:1] == ["spanned"]:
            spanned = int(line.split()[1])
        elif line.strip().startswith("start_pfn:") and spanned:
            found.append((int(line.split()[1]), spanned, node))
    return found


def node_of(pfn: int, zones: Iterable[tuple[int, int, int]]) -> int:
    """The node of a page frame; ValueError unless it is of one."""
    nodes = {node for first, count, node in zones if first <= pfn < first + count}
    if len(nodes) != 1:
        raise ValueError(f"page frame {pfn:#x} is of the nodes {sorted(nodes)}")
    return nodes.pop()


def pages_taken(trace: str, call: str) -> list[tuple[int, int]]:
    """Page frame and number of pages of each piece of memory that was taken inside `call`."""
    complete = _ENTRIES.search(trace)
    if not complete or complete.group(1) != complete.group(2):
        raise ValueError("the trace lost events")
    found: list[tuple[int, int]] = []
    # The calls of an event are one of their own. Those of another CPU, or of an interrupt, may lie between.
    pending: dict[str, list[tuple[int, int]]] = {}
    piece: tuple[int, int] | None = None
    inside = slab = False
    for line in [*trace.splitlines(), ""]:
        if line.startswith(" => "):
            inside |= call in line
            slab |= "slab" in line
            continue
        if piece and inside and not slab:
            found.append(piece)
        piece, inside, slab = None, False, False
        task = _TASK.match(line)
        if not task:
            continue
        if match := _ALLOC.search(line):
            pending.setdefault(task.group(), []).append((int(match.group(1), 16), 1 << int(match.group(2))))
        elif "<stack trace>" in line:
            piece = pending[task.group()].pop()
    return found


@contextmanager
def traced() -> Iterator[None]:
    """Every allocation of pages by a process named fio is noted, with the calls that led to it."""
    TRACING.mkdir(exist_ok=True)
    try:
        (TRACING / "buffer_size_kb").write_text(str(TRACE_KIB))
        (TRACING / "options/stacktrace").write_text("1")
        event = TRACING / "events/kmem/mm_page_alloc"
        (event / "filter").write_text('comm == "fio"')
        (event / "enable").write_text("1")
        yield
    finally:
        TRACING.rmdir()


def measure(words: list[str], call: str) -> tuple[Run, dict[int, int]]:
    """One run of fio, and the bytes of each node that its buffer has."""
    with traced():
        run = fio(words)
        taken = pages_taken((TRACING / "trace").read_text(), call)
    zones = spans(Path("/proc/zoneinfo").read_text())
    placed = dict.fromkeys(NODES, 0)
    for pfn, count in taken:
        placed[node_of(pfn, zones)] += count * PAGE
    return run, placed


def main() -> int:
    """Exit status 0 only if all checks hold."""
    tally = Tally()
    if not tally.check(Path("/sys/devices/system/node/node1").exists(), "two nodes", "there is one"):
        return tally.finish("fio_numa")
    base = ["--name=t", f"--filename={DEV}", "--direct=1", "--rw=randread", "--bs=1m", f"--iodepth={DEPTH}",
            "--size=256m", "--io_size=64m"]
    places = {
        "node 0": ["--numa_cpu_nodes=0", "--numa_mem_policy=bind:0"],
        "node 1": ["--numa_cpu_nodes=1", "--numa_mem_policy=bind:1"],
        "both in turn": ["--numa_mem_policy=interleave:0-1"],
    }
    for exporter, call in TAKEN_IN.items():
        for place, options in places.items():
            name = f"{exporter}, {place}"
            run, placed = measure([*base, *options, *engine([f"--dmabuf_exporter={exporter}"], "premapped")], call)
            if not tally.same(run.status, 0, f"{name}: exit status, {run.said()}"):
                continue
            sizes = [report["buffer_bytes"] for report in run.reports]
            if not tally.check(len(sizes) == 1 and sizes[0] >= BUFFER, f"{name}: one dma-buf", f"{sizes} bytes"):
                continue
            said = f"{placed[0]} bytes of node 0, {placed[1]} bytes of node 1"
            if place.startswith("node"):
                node = int(place[-1])
                tally.same((placed[node], placed[1 - node]), (sizes[0], 0), f"{name}: bytes of that node and the other")
            else:
                # A way of counting that cannot tell the nodes apart, or counts other memory, fails here.
                tally.same(sum(placed.values()), sizes[0], f"{name}: bytes of both nodes")
                tally.check(min(placed.values()) >= BUFFER / 4, f"{name}: a share of each node", said)
            print(f"      {name}: {said}", flush=True)
    return tally.finish("fio_numa")


if __name__ == "__main__":
    sys.exit(main())
