#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual paths: what it says of the lab's drives is so, and no drive is touched.

    disk      a plain disk, its partition with a mounted file system, a drive that is not NVMe
    head      a multipath head of two controllers (dmabuf-lab run --paths 2)
    bar       a PCI BAR that the drive reaches (--p2p --smp 1)
    no-route  one that it does not (--p2p --smp 1 --cpu qemu64)

Each drive's whole content and its counters of reads and writes are the same before and after. Runs in
the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import hashlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fio.device import ivshmem
from fio.harness import DEV, NOT_NVME, Tally, nothing_left
from gpu.integrity import bind

TOP = Path(__file__).resolve().parents[3]
QUAL = str(TOP / "scripts/dmabuf-qual")
DATAPATHS = ("premapped", "registered", "bvec")


def content(device: str) -> str:
    """A digest of all of it, by reads that pass the page cache by: of its size, and of each piece that
    is not all zeros, with its place."""
    digest = hashlib.sha256()
    zeros = bytes(1 << 20)
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, len(zeros)) as memory:
        at = 0
        while got := os.preadv(fd, [memory], at):
            piece = memory[:got]
            if piece != zeros[:got]:
                digest.update(at.to_bytes(8, "little") + piece)
            at += got
    digest.update(at.to_bytes(8, "little"))
    os.close(fd)
    return digest.hexdigest()


def counters(device: str) -> list[int]:
    """I/Os and sectors, read and written and discarded, and flushes, by the block layer."""
    words = Path(f"/sys/class/block/{os.path.basename(device)}/stat").read_text().split()
    return [int(words[index]) for index in (0, 2, 4, 6, 11, 13, 15)]


@contextmanager
def untouched(tally: Tally, name: str, *devices: str) -> Iterator[None]:
    """Nothing is read from the drives in the block, nor written to them, nor is any use left."""
    os.sync()
    before = [content(device) for device in devices]
    counted = [counters(device) for device in devices]
    with nothing_left(tally, name):
        yield
    tally.same([counters(device) for device in devices], counted, f"{name}: counters of the drives")
    tally.same([content(device) for device in devices], before, f"{name}: contents of the drives")


def asked(tally: Tally, name: str, status: int, *words: str) -> dict[str, Any]:
    """What it says. That its JSON is as the schema says, the unit tests see."""
    done = subprocess.run([QUAL, "paths", "--json", *words], capture_output=True, text=True, timeout=200,
                          check=False)
    tally.same(done.returncode, status, f"{name}: exit status, {done.stderr[-500:]}")
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = {"exporters": [], "drives": []}
    tally.same((said.get("format"), said.get("version")), ("libdmabuf-paths", 1),
               f"{name}: JSON, {done.stdout[-500:]}")
    return said


def ways(said: dict[str, Any], device: str, exporter: str) -> dict[str, dict[str, Any]]:
    """By datapath."""
    return {way["datapath"]: way for drive in said["drives"] if drive["device"] == device
            for way in drive["paths"] if way["exporter"] == exporter}


def words_of(way: dict[str, Any]) -> tuple[Any, ...]:
    """A way in short: its route, or its reason."""
    return (way["memory"], way["route"]) if way.get("works") else (way.get("reason"),)


def system_memory(tally: Tally, said: dict[str, Any], device: str, exporter: str,
                  longest: int, controller: str) -> None:
    """All three datapaths to the machine's own memory, with the commands' size."""
    name = f"{device} {exporter}"
    found = ways(said, device, exporter)
    tally.same({path: words_of(found.get(path, {})) for path in DATAPATHS},
               dict.fromkeys(DATAPATHS, ("system", "memory")), f"{name}: ways")
    premapped = found.get("premapped", {})
    tally.same((premapped.get("command_bytes"), premapped.get("controller")), (longest, controller),
               f"{name}: premapped's commands")
    disk = Path(os.path.basename(device)).name.partition("p")[0]
    queue = Path(f"/sys/block/{disk}/queue")
    cut, pieces = (int((queue / word).read_text()) for word in ("max_sectors_kb", "max_segments"))
    for path in ("registered", "bvec"):
        way = found.get(path, {})
        most = pieces * (BUFFER // way.get("segments", BUFFER))
        tally.same(way.get("command_bytes"), min(cut << 10, most), f"{name}: {path}'s commands")


MDTS = 512 << 10  # of QEMU's drive
BUFFER = 8 << 20  # that is asked about


def disk(tally: Tally) -> None:
    """A drive, its partition, a mounted file system, a drive that is not NVMe."""
    subprocess.run(["sfdisk", "-q", DEV], input="size=64M\n", text=True, check=True)
    part = f"{DEV}p1"
    for _ in range(100):
        if os.path.exists(part):
            break
        time.sleep(0.05)
    subprocess.run(["mkfs.ext4", "-qF", "-E", "lazy_itable_init=0,lazy_journal_init=0", part], check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-o", "noatime", part, folder], check=True)
        try:
            (Path(folder) / "file").write_bytes(b"\xa5" * (8 << 20))
            subprocess.run(["sync", "-f", folder], check=True)
            with untouched(tally, "mounted", DEV, part, NOT_NVME):
                # Nobody asked about the machine's own memory, and there is no other.
                said = asked(tally, "all", 77)
                here = asked(tally, "partition", 0, "--exporter", "udmabuf", part)
            mounts = Path("/proc/self/mountinfo").read_text()
            tally.check(f" {folder} " in mounts, "the file system is still mounted")
            tally.same((Path(folder) / "file").read_bytes(), b"\xa5" * (8 << 20), "the file is whole")
        finally:
            subprocess.run(["umount", folder], check=True)
    checked = subprocess.run(["fsck.ext4", "-nf", part], capture_output=True, text=True, check=False)
    tally.same(checked.returncode, 0, f"fsck: {checked.stdout}")
    works = sum(way["works"] for drive in said["drives"] for way in drive["paths"])
    tally.same((said["direct"], said["not_direct"], works > 0), (0, works, True), "all: direct, and over other memory")
    tally.same((here["direct"], here["not_direct"]), (3, 0), "partition: what was asked about is direct")
    screens = [way for drive in said["drives"] for way in drive["paths"]
               if way["works"] and way["exporter"].startswith("drm:")]
    tally.same({(way["memory"], way["direct"]) for way in screens}, {("system", False)},
               "a virtual screen is the machine's own memory")
    tally.same([drive["device"] for drive in said["drives"]], [DEV, NOT_NVME], "the machine's drives")
    for exporter in ("udmabuf", "heap:/dev/dma_heap/system"):
        system_memory(tally, said, DEV, exporter, MDTS, "nvme0")
        found = ways(said, NOT_NVME, exporter)
        tally.same(words_of(found.get("premapped", {})), ("NOT_NVME",), f"{NOT_NVME} {exporter}: premapped")
        tally.same(words_of(found.get("bvec", {})), ("system", "memory"), f"{NOT_NVME} {exporter}: bvec")
    system_memory(tally, here, part, "udmabuf", MDTS, "nvme0")
    absent = {one["exporter"]: one["text"] for one in said["exporters"] if not one["made"]}
    tally.check("libcuda.so.1 cannot be loaded" in absent.get("cuda", ""), "cuda: why not", str(absent))
    tally.check("no PCI device with a memory BAR" in absent.get("vfio", ""), "vfio: why not", str(absent))
    tally.same(set(absent) >= {"hip", "amdgpu", "xe", "i915", "testexp"}, True, f"not there: {absent}")
    done = subprocess.run([QUAL, "paths", "--exporter", "cuda", DEV], capture_output=True, text=True,
                          check=False)
    tally.same(done.returncode, 77, "nothing to be had: exit status")
    tally.check("cuda  NOT_AVAILABLE: libcuda.so.1" in done.stdout, "nothing to be had: why", done.stdout)


def head(tally: Tally) -> None:
    """A head is asked as one drive; the controller that takes the commands is named."""
    with untouched(tally, "head", DEV):
        said = asked(tally, "head", 0, "--exporter", "udmabuf")
    tally.same([(drive["device"], drive["multipath"]) for drive in said["drives"]],
               [(DEV, True), (NOT_NVME, False)], "head: drives")
    found = ways(said, DEV, "udmabuf")
    tally.same(words_of(found.get("premapped", {})), ("system", "memory"), "head: premapped")
    tally.check(found.get("premapped", {}).get("controller") in ("nvme0", "nvme1"), "head: its controller",
                str(found))


def bar(tally: Tally) -> None:
    """A BAR that is reached, and that only premapped can use; vfio names no device by itself."""
    address = ivshmem()
    bind(address)
    exporter = f"vfio:{address}/2"
    with untouched(tally, "bar", DEV):
        said = asked(tally, "bar", 0, "--exporter", exporter, DEV)
        unasked = asked(tally, "unasked", 77)
    found = ways(said, DEV, exporter)
    tally.same([words_of(found.get(path, {})) for path in DATAPATHS],
               [("peer", "host_bridge"), ("NO_CPU_VIEW",), ("NO_CPU_VIEW",)], "bar: ways")
    tally.same((said["direct"], said["not_direct"]), (1, 0), "bar: direct")
    tally.same(found.get("premapped", {}).get("command_bytes"), MDTS, "bar: its commands")
    tally.same([(one["pci"], one["device"]) for one in said["exporters"]], [(address, f"{address}/2")],
               "bar: the device")
    text = next((one["text"] for one in unasked["exporters"] if one["exporter"] == "vfio"), "")
    tally.check("takes no device unasked" in text and address in text, "vfio unasked", text)
    both = asked(tally, "too much", 77, "--exporter", f"vfio:{address}/0", DEV)
    tally.same([one.get("reason") for one in both["exporters"]], ["SMALL_BAR"], "a small BAR")


def no_route(tally: Tally) -> None:
    """Nothing works, and the reason has a name."""
    address = ivshmem()
    bind(address)
    with untouched(tally, "no route", DEV):
        said = asked(tally, "no route", 77, "--exporter", f"vfio:{address}/2", DEV)
    found = ways(said, DEV, f"vfio:{address}/2")
    tally.same([words_of(found.get(path, {})) for path in DATAPATHS],
               [("NO_P2P_ROUTE",), ("NO_CPU_VIEW",), ("NO_CPU_VIEW",)], "no route: ways")


PARTS: dict[str, Callable[[Tally], None]] = {"disk": disk, "head": head, "bar": bar, "no-route": no_route}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    tally = Tally()
    PARTS[sys.argv[1]](tally)
    return tally.finish(f"paths {sys.argv[1]}")


if __name__ == "__main__":
    sys.exit(main())
