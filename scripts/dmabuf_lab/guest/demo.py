#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The guest's half of scripts/demo: measures each path with fio, then proves both directions.

Exit status 0 only if every path was proven by the module's counters or by construction, fio's own
counts agree with the report, and every byte was right in both directions. Needs only the standard
library. fio's output and the reports stay in /share when the host gave one.
"""

import json
import mmap
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GPU = "/dev/dri/card0"
TARGET = "/dev/nvme0n1"
SECONDS = 3
MEASURED_MIB = 256

# 65 pages: more than a drive takes in one PRP pair, and no power of two.
VERIFY_BLOCK = 260 * 1024
VERIFY_BLOCKS = 48
MARK = b"dmabufRW"
POISON = 0xA5


@dataclass(frozen=True)
class Lane:
    """One way for bytes to move. Exporter None: host memory, no dma-buf."""

    exporter: str | None
    datapath: str

    def name(self) -> str:
        """A short name, also used for files."""
        return f"{self.exporter or 'none'}-{self.datapath}"

    def options(self) -> list[str]:
        """fio's options that choose this lane; they must follow --ioengine."""
        words = [f"--dmabuf_datapath={self.datapath}"]
        if self.exporter:
            words.append(f"--dmabuf_exporter={self.exporter}")
        if self.exporter == "drm":
            words.append(f"--dmabuf_device={GPU}")
        return words


EXPORTERS = ("udmabuf", "drm")
PROVEN_LANES = [Lane(e, d) for e in EXPORTERS for d in ("premapped", "registered")]
CONTROLS = [Lane(e, "bounce") for e in EXPORTERS] + [Lane(None, "host")]


class Failed(Exception):
    """Something was not as it must be; the text says what."""


def out_folder() -> Path:
    """Where files are kept: the share of the host, or a place that goes away with the guest."""
    folder = Path("/share")
    return folder if os.path.ismount(folder) else Path("/tmp")


def fio(lane: Lane, words: list[str], tag: str) -> tuple[int, dict[str, Any], dict[str, Any], str]:
    """Runs fio on a lane; its status, its JSON, the engine's report and what it said on stderr."""
    base = out_folder() / f"{lane.name()}-{tag}"
    report = base.with_suffix(".report.json")
    report.unlink(missing_ok=True)
    argv = ["fio", f"--name={lane.name()}", f"--filename={TARGET}", "--direct=1", *words]
    argv += [f"--ioengine={os.environ['ENGINE']}", *lane.options(), f"--dmabuf_report={report}"]
    argv += ["--output-format=json"]
    result = subprocess.run(argv, capture_output=True, text=True)
    base.with_suffix(".fio.json").write_text(result.stdout)
    try:
        parsed = json.loads(result.stdout)
        reported = json.loads(report.read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        parsed, reported = {}, {}
    return result.returncode, parsed, reported, result.stderr.strip()


def check_report(lane: Lane, job: dict[str, Any], report: dict[str, Any]) -> str:
    """Compares the report with what was asked for and with fio's own counts; returns the proof."""
    if report.get("datapath") != lane.datapath or report.get("proven") is not True:
        raise Failed(f"{lane.name()} is not proven: {report.get('proof', 'there is no report')}")
    for kind in ("read", "write"):
        ours, fios = report["issued"][f"{kind}s"], job[kind]["total_ios"]
        if ours != fios:
            raise Failed(f"{lane.name()}: the engine counted {ours} {kind}s and fio {fios}")
    module = report["module"]
    done = report["issued"]["reads"] + report["issued"]["writes"]
    if lane.datapath == "premapped":
        if module["reads"] + module["writes"] != done:
            raise Failed(f"{lane.name()}: the module did not see every one of {done} I/Os")
        return f"{module['commands']} NVMe commands by the module for {done} I/Os"
    if lane.datapath == "registered":
        if module["registrations"] < 1:
            raise Failed(f"{lane.name()}: the module registered nothing")
        return f"{done} fixed-buffer I/Os on the slot that the module filled"
    copied = report["copies"]["to_buffer_bytes"] + report["copies"]["from_buffer_bytes"]
    if lane.datapath == "bounce" and copied == 0:
        raise Failed(f"{lane.name()}: nothing was copied, so it did not bounce")
    return f"control: {done} fixed-buffer I/Os on host memory, {copied >> 20} MiB copied"


def measure(lane: Lane) -> list[str]:
    """One row of the table."""
    words = ["--rw=randread", "--bs=4k", "--iodepth=32", f"--size={MEASURED_MIB}m"]
    words += ["--time_based=1", f"--runtime={SECONDS}", "--norandommap=1"]
    status, result, report, said = fio(lane, words, "randread-4k")
    if status != 0 or not result:
        raise Failed(f"fio failed on {lane.name()} with status {status}: {said}")
    job = result["jobs"][0]
    proof = check_report(lane, job, report)
    speed = job["read"]["bw_bytes"] / (1 << 20)
    return [lane.exporter or "-", lane.datapath, f"{job['read']['iops']:.0f}", f"{speed:.1f}", proof]


def block(offset: int) -> bytes:
    """What fio's pattern makes of the block at `offset` bytes: a mark and the offset, repeated."""
    return (MARK + struct.pack("<Q", offset)) * (VERIFY_BLOCK // 16)


class Disk:
    """The target, read and written by plain pread and pwrite past the page cache."""

    def __init__(self) -> None:
        self.fd = os.open(TARGET, os.O_RDWR | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, VERIFY_BLOCK)

    def write(self, offset: int, data: bytes) -> None:
        """Writes one block; raises OSError, or Failed for a short write."""
        self.buffer[:] = data
        if os.pwrite(self.fd, self.buffer, offset) != VERIFY_BLOCK:
            raise Failed("a plain write was short")

    def read(self, offset: int) -> bytes:
        """Reads one block."""
        if os.preadv(self.fd, [self.buffer], offset) != VERIFY_BLOCK:
            raise Failed("a plain read was short")
        return self.buffer[:]


def verify_words(direction: str) -> list[str]:
    """fio's options for a pass over the blocks that carries, or expects, the pattern of block()."""
    return [
        f"--rw={'randread' if direction == 'read' else 'randwrite'}",
        f"--bs={VERIFY_BLOCK}",
        "--iodepth=8",
        f"--size={VERIFY_BLOCK * VERIFY_BLOCKS}",
        "--verify=pattern",
        f'--verify_pattern="{MARK.decode()}"%o',
        f"--do_verify={1 if direction == 'read' else 0}",
        "--verify_fatal=1",
    ]


def offsets() -> range:
    """Where the blocks are."""
    return range(0, VERIFY_BLOCK * VERIFY_BLOCKS, VERIFY_BLOCK)


def verify_read(lane: Lane, disk: Disk) -> None:
    """Plain writes, then reads through the dma-buf compared by fio; one wrong byte must be noticed."""
    for offset in offsets():
        disk.write(offset, block(offset))
    status, result, report, said = fio(lane, verify_words("read"), "verify-read")
    if status != 0 or not result:
        raise Failed(f"{lane.name()}: reads through the dma-buf are wrong (status {status}): {said}")
    check_report(lane, result["jobs"][0], report)
    wrong = bytearray(block(VERIFY_BLOCK * 7))
    wrong[VERIFY_BLOCK // 2 + 3] ^= 1
    disk.write(VERIFY_BLOCK * 7, bytes(wrong))
    status, _, _, _ = fio(lane, verify_words("read"), "verify-read-wrong-byte")
    if status == 0:
        raise Failed(f"{lane.name()}: one wrong byte on the drive was not noticed, so nothing is proven")


def verify_write(lane: Lane, disk: Disk) -> None:
    """Writes through the dma-buf over poison, then plain reads of every byte."""
    for offset in offsets():
        disk.write(offset, bytes([POISON]) * VERIFY_BLOCK)
    status, result, report, said = fio(lane, verify_words("write"), "verify-write")
    if status != 0 or not result:
        raise Failed(f"fio failed on {lane.name()} writing (status {status}): {said}")
    check_report(lane, result["jobs"][0], report)
    for offset in offsets():
        if disk.read(offset) != block(offset):
            raise Failed(f"{lane.name()}: the block at {offset} was not written as it should be")


def table(rows: list[list[str]]) -> str:
    """Rows as aligned text; the first is the head, the last column runs free."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in (2, 3) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row[:-1], widths, strict=True))
        ]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def main() -> int:
    """Runs everything; 0 if all of it is proven, else 1."""
    failures = []
    rows = [["exporter", "datapath", "IOPS", "MiB/s", "proof"]]
    for lane in PROVEN_LANES + CONTROLS:
        print(f"demo: measuring {lane.name()}", file=sys.stderr, flush=True)
        try:
            rows.append(measure(lane))
        except Failed as failure:
            rows.append([lane.exporter or "-", lane.datapath, "-", "-", "FAILED"])
            failures.append(str(failure))
    print(f"Random 4 KiB reads of {TARGET}, queue depth 32, kernel {os.uname().release}:\n")
    print(table(rows), "\n")
    print("The drive, the GPU and the CPU are emulated: these figures say nothing about hardware.\n")
    sys.stdout.flush()
    disk = Disk()
    size = VERIFY_BLOCK * VERIFY_BLOCKS
    for lane in PROVEN_LANES:
        for title, test in (
            ("plain pwrite, read through the dma-buf", verify_read),
            ("written through the dma-buf, plain pread", verify_write),
        ):
            try:
                test(lane, disk)
                print(f"{lane.name():20} {title}: all {size} bytes right", flush=True)
            except Failed as failure:
                print(f"{lane.name():20} {title}: FAILED", flush=True)
                failures.append(str(failure))
    for sentence in failures:
        print(f"demo: {sentence}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
