#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio on memory that the CPU does not map through the dma-buf.

    bar        a PCI BAR by exporter vfio (dmabuf-lab run --p2p)
    refusals   what cannot be on a BAR (the same)
    no-route   a BAR that the drive cannot reach (--p2p --cpu qemu64)
    no-iommu   a machine without one (--p2p --iommu off)
    old-kernel a kernel whose VFIO exports nothing (--p2p --kernel 6.12)
    testexp    the test exporter's, anywhere

Each direction alone against plain pread and pwrite, checksums, what is copied and what is not, and
what is refused. Runs in the lab's guest and destroys the data on $DEV. Exit status 0 pass, 1 fail,
2 usage.
"""

import argparse
import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fio.errors import job, refused, works
from fio.harness import DEV, NvmeCommands, Run, Tally, engine, fio, need_engine, nothing_left
from fio.jobs import ENVIRONMENT, JOBS, needs_bar, one_file
from fio.moves import load

BASE, SIZE, BLOCK = 64 << 20, 4 << 20, 64 << 10
PCI = Path("/sys/bus/pci/devices")
PATTERN = [f"--bs={BLOCK}", "--verify=pattern", "--verify_pattern=%o"]


def ivshmem() -> str:
    """Address of the lab's function with a large BAR."""
    for device in sorted(PCI.iterdir()):
        if (device / "vendor").read_text() == "0x1af4\n" and \
                (device / "device").read_text() == "0x1110\n":
            return device.name
    sys.exit("setup: no ivshmem function (boot with --p2p)")


def words_at(offset: int) -> bytes:
    """What fio's pattern %o is for the block at an offset of the drive."""
    return struct.pack("<Q", offset) * (BLOCK // 8)


def lay_down(byte: int | None) -> None:
    """By plain pwrite: each block names its own offset, or all is one byte."""
    target = os.open(DEV, os.O_RDWR)
    for offset in range(BASE, BASE + SIZE, BLOCK):
        os.pwrite(target, words_at(offset) if byte is None else bytes([byte]) * BLOCK, offset)
    os.fsync(target)
    os.close(target)


def on_drive(offset: int, length: int) -> bytes:
    """By plain pread, from the drive itself."""
    target = os.open(DEV, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, length) as memory:
        got = os.preadv(target, [memory], offset)
        data = memory[:got]
    os.close(target)
    return data


def wrong_blocks(byte: int | None) -> int:
    """Blocks that are not what lay_down() would have put there."""
    data = on_drive(BASE, SIZE)
    return sum(data[at:at + BLOCK] != (words_at(BASE + at) if byte is None
                                       else bytes([byte]) * BLOCK) for at in range(0, SIZE, BLOCK))


def run(exporter: list[str], *words: str, datapath: str = "auto") -> Run:
    """A job on the part of the drive that is used here."""
    return fio(["--name=d", f"--filename={DEV}", "--direct=1", f"--offset={BASE}", f"--size={SIZE}",
                "--iodepth=8", *engine(exporter, datapath), *words])


def good(tally: Tally, name: str, done: Run, memory: str) -> dict[str, Any] | None:
    """What holds of any run that was to succeed on premapped; its report."""
    if not tally.check(done.status == 0 and bool(done.reports), f"{name}: works", done.said()):
        return None
    report = done.reports[0]
    tally.same((report["proven"], report["datapath"], report["memory"]),
               (True, "premapped", memory), f"{name}: by the report")
    for key in ("reads", "writes", "read_bytes", "write_bytes"):
        tally.same(report["module"][key], report["issued"][key], f"{name}: {key} by the module")
    return report


def copies(tally: Tally, name: str, report: dict[str, Any] | None, up: str | int,
           down: str | int, fill: bool) -> None:
    """Bytes copied: a number, or the name of what was issued and has to equal it."""
    if report is None:
        return
    wanted = [way if isinstance(way, int) else report["issued"][way] for way in (up, down)]
    got = report["copies"]
    tally.same([got["to_buffer_bytes"], got["from_buffer_bytes"]], wanted, f"{name}: copies")
    tally.same(report["first_fill_bytes"] > 0, fill, f"{name}: fio's first fill was copied")


def directions(tally: Tally, exporter: list[str], memory: str) -> None:
    """Each direction alone, the other side by plain pread and pwrite."""
    lay_down(0x11)
    done = run(exporter, "--rw=randwrite", *PATTERN, "--do_verify=0")
    copies(tally, "write", good(tally, "write", done, memory), "write_bytes", 0, False)
    tally.same(wrong_blocks(None), 0, "write: blocks on the drive that are wrong")

    lay_down(None)
    done = run(exporter, "--rw=randread", *PATTERN)
    copies(tally, "read", good(tally, "read", done, memory), 0, "read_bytes", False)
    target = os.open(DEV, os.O_RDWR)
    os.pwrite(target, b"\xee", BASE + 4096 * 777 + 99)
    os.fsync(target)
    os.close(target)
    done = run(exporter, "--rw=randread", *PATTERN, "--verify_fatal=1")
    tally.check(done.status != 0, "read: one wrong byte on the drive is noticed", done.said())

    lay_down(0x11)
    done = run(exporter, "--rw=write", "--bs=256k", "--buffer_pattern=0xa5", "--scramble_buffers=0")
    copies(tally, "pattern", good(tally, "pattern", done, memory), 0, 0, True)
    tally.same(wrong_blocks(0xa5), 0, "pattern: blocks on the drive that are wrong")


def checked(tally: Tally, exporter: list[str], memory: str) -> None:
    """Checksums, with every way to have and to submit buffers."""
    crc = ["--verify=crc32c", "--verify_fatal=1"]
    ways: dict[str, list[str]] = {
        "crc32c": ["--rw=randwrite", "--bsrange=4k-96k", *crc],
        "mixed": ["--rw=randrw", "--bsrange=4k-32k", *crc, "--verify_backlog=64"],
        "a dma-buf for each slot": ["--rw=randwrite", "--bsrange=4k-64k", *crc,
                                    "--dmabuf_buffers=io_u", "--dmabuf_remap_every=50"],
        "by ioctl": ["--rw=randwrite", "--bs=128k", *crc, "--dmabuf_submit=ioctl", "--iodepth=1"]}
    for name, words in ways.items():
        with nothing_left(tally, name):
            done = run(exporter, *words,
                       datapath="premapped" if "--dmabuf_submit=ioctl" in words else "auto")
        copies(tally, name, good(tally, name, done, memory), "write_bytes", "read_bytes", False)
    name = "bounce"
    done = run(exporter, "--rw=randwrite", "--bs=128k", *crc, datapath="bounce")
    if tally.check(done.status == 0 and bool(done.reports), f"{name}: works", done.said()):
        issued = done.reports[0]["issued"]
        both = issued["read_bytes"] + issued["write_bytes"]
        copies(tally, name, done.reports[0], both, both, False)


def benchmark(tally: Tally, exporter: list[str], memory: str) -> None:
    """Nobody looks at the data: no I/O costs a copy."""
    for words in (["--rw=randread"], ["--rw=randrw"], ["--rw=randwrite", "--scramble_buffers=0"]):
        name = " ".join(words)
        with nothing_left(tally, name), NvmeCommands() as kernel:
            done = run(exporter, *words, "--bs=16k")
            counted = kernel.count()
        report = good(tally, name, done, memory)
        writes = "randread" not in name
        copies(tally, name, report, 0, 0, writes)
        said = "scrambling of write buffers is left out" in done.stderr
        tally.same(said, words == ["--rw=randrw"], f"{name}: what it says of scrambling")
        if report is None:
            continue
        tally.same(report["module"]["commands"], SIZE >> 14, f"{name}: commands by the module")
        total = counted["read"] + counted["write"]
        tally.check(SIZE >> 14 <= total <= (SIZE >> 14) + 64, f"{name}: commands by the tracepoint",
                    str(total))
    for option in ("--scramble_buffers=1", "--refill_buffers=1"):
        done = run(exporter, "--rw=randwrite", "--bs=64k", option)
        copies(tally, option, good(tally, option, done, memory), "write_bytes", 0, False)


def unbound(tally: Tally, address: str) -> None:
    """Before vfio-pci has the device: what to do is said, and works."""
    words = job("--dmabuf_exporter=vfio", f"--dmabuf_device={address}")
    refused(tally, "not bound", words, [f"{address} is driven by nothing", "drivers_probe"])
    refused(tally, "none bound", job("--dmabuf_exporter=vfio"), ["no PCI device with a memory BAR"])
    said = re.search(r"bind it: (.*drivers_probe)", fio(words).stderr)
    if tally.check(said is not None, "the commands are in the message") and said:
        subprocess.run(said[1], shell=True, check=True)
        tally.same((PCI / address / "driver").resolve().name, "vfio-pci", "they bind it")
    subprocess.run(["modprobe", "vfio_iommu_type1"], check=True)


def refusals(tally: Tally) -> None:
    """What cannot be, by name."""
    address = ivshmem()
    unbound(tally, address)
    vfio = ["--dmabuf_exporter=vfio", f"--dmabuf_device={address}"]
    for datapath in ("registered", "bvec"):
        refused(tally, f"{datapath} of a BAR", job(*vfio, f"--dmabuf_datapath={datapath}"),
                ["no_cpu_view", "use dmabuf_datapath=premapped"])
    refused(tally, "a BAR as a file",
            ["--name=f", "--size=1m", "--rw=read", *engine(vfio, "syscall")], ["no_cpu_view"])
    refused(tally, "its mmap",
            ["--name=f", "--size=1m", "--rw=read", *engine(vfio, "syscall"), "--dmabuf_submit=mmap"],
            ["dmabuf_submit=sync"])
    refused(tally, "a BAR that is too small", job(*vfio, bs="8m", iodepth=16, size="128m"),
            ["small_bar", "bar 2 of " + address, "lower iodepth or bs"])
    refused(tally, "a BAR that is none", job(vfio[0], f"--dmabuf_device={address}/5"),
            ["bar 5 of " + address])
    refused(tally, "no address", job(vfio[0], "--dmabuf_device=card0"), ["0000:01:00.0/2"])
    refused(tally, "no such device", job(vfio[0], "--dmabuf_device=00ff:1f:1f.7"),
            ["no pci device 00ff:1f:1f.7"])
    nvme = Path("/sys/class/nvme/nvme0/device").resolve().name
    refused(tally, "another driver's device", job(vfio[0], f"--dmabuf_device={nvme}"),
            [f"{nvme} is driven by nvme", "unbind"])
    refused(tally, "two processes", job(*vfio, "--numjobs=2", "--time_based", "--runtime=1"),
            ["is in use by another process", "thread=1", "':' list"])
    works(tally, "two threads", job(*vfio, "--numjobs=2", "--thread=1", rw="randrw"))
    refused(tally, "no device", job(vfio[0]),
            ["takes no device unasked", f"{address} (bar 0:", "bar 2:", f"dmabuf_device={address}"])
    msix(tally, nvme)


def msix(tally: Tally, address: str) -> None:
    """The drive itself is given to vfio-pci: its registers and its MSI-X table are no memory. Nothing
    else can use it afterwards."""
    words = job("--dmabuf_exporter=vfio", f"--dmabuf_device={address}")
    said = re.search(r"bind it: (.*drivers_probe)", fio(words).stderr)
    if not tally.check(said is not None, "the commands are in the message") or not said:
        return
    subprocess.run(said[1], shell=True, check=True)
    with tempfile.NamedTemporaryFile() as target:
        os.truncate(target.name, 1 << 20)
        for bar_name in ("", "/0"):
            refused(tally, f"registers{bar_name}",
                    ["--name=r", f"--filename={target.name}", "--size=1m", "--rw=read", "--bs=4k",
                     *engine(["--dmabuf_exporter=vfio", f"--dmabuf_device={address}{bar_name}"], "auto")],
                    ["bar 0", "holds the msi-x table"])


def job_files(tally: Tally, bar_name: str) -> None:
    """The files of jobs/ that need such memory."""
    files = [file for file in sorted(JOBS.rglob("*.fio")) if needs_bar(file)]
    tally.check(bool(files), "there is a job file for a BAR")
    ENVIRONMENT["BAR"] = bar_name
    for file in files:
        one_file(tally, file, "on a BAR", [])


def bar(tally: Tally) -> None:
    """All of it on a PCI BAR."""
    address = ivshmem()
    unbound(tally, address)
    vfio = ["--dmabuf_exporter=vfio", f"--dmabuf_device={address}/2"]
    directions(tally, vfio, "peer")
    checked(tally, vfio, "peer")
    benchmark(tally, vfio, "peer")
    job_files(tally, f"{address}/2")


def no_route(tally: Tally) -> None:
    """The drive cannot reach the BAR."""
    address = ivshmem()
    unbound(tally, address)
    vfio = ["--dmabuf_exporter=vfio", f"--dmabuf_device={address}"]
    for datapath in ("premapped", "auto"):
        refused(tally, f"no route, {datapath}", job(*vfio, f"--dmabuf_datapath={datapath}"),
                ["no_p2p_route"])
    works(tally, "bounce needs none", job(*vfio, "--dmabuf_datapath=bounce"))


def no_iommu(tally: Tally) -> None:
    """VFIO gives no device without an IOMMU."""
    for device in ([f"--dmabuf_device={ivshmem()}"], []):
        refused(tally, f"no IOMMU {device}", job("--dmabuf_exporter=vfio", *device),
                ["no iommu stands before", "intel_iommu=on"])


def old_kernel(tally: Tally) -> None:
    """VFIO is there, and exports nothing."""
    address = ivshmem()
    unbound(tally, address)
    refused(tally, "no export", job("--dmabuf_exporter=vfio", f"--dmabuf_device={address}"),
            ["linux 6.19 or newer"])


def testexp(tally: Tally) -> None:
    """The test exporter's memory, still and moving."""
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    still = ["--dmabuf_exporter=testexp", "--dmabuf_device=no-cpu"]
    directions(tally, still, "system")
    checked(tally, [still[0], "--dmabuf_device=no-cpu+move-5000"], "system")
    benchmark(tally, still, "system")
    refused(tally, "registered", job(*still, "--dmabuf_datapath=registered"), ["no_cpu_view"])


PARTS = {"bar": bar, "refusals": refusals, "no-route": no_route, "no-iommu": no_iommu,
         "old-kernel": old_kernel, "testexp": testexp}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    args = parser.parse_args()
    need_engine()
    tally = Tally()
    PARTS[args.part](tally)
    return tally.finish(f"fio_device {args.part}")


if __name__ == "__main__":
    sys.exit(main())
