#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""One GPU of this machine under the engine's exporter, on datapath bounce: needs neither the kernel
module nor an NVMe drive, so it runs wherever a GPU and its driver are.

    tests/hardware/gpu.py --exporter cuda --engine build/host/engine/libdmabuf.so --folder /var/tmp

Each direction is looked at alone. What went from the GPU's memory into a file is compared, byte by byte,
with a plain pread; what comes from a file into the GPU's memory was put there by a plain pwrite, and is
compared by fio after the exporter copied it back. For CUDA the driver is asked besides, by nvidia-smi,
whether that memory is the GPU's. It says nothing of a drive's own way to the GPU.

`--folder`: takes files of 1.1 GiB in all, and removes them. Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import ctypes
import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = 16 << 10
SIZE = 64 << 20
LARGE = 1 << 30
EXPORTERS = ("cuda", "hip", "amdgpu", "xe", "i915")


class Tally:
    """Counts checks and prints those that do not hold."""

    def __init__(self) -> None:
        self.right = 0
        self.wrong = 0

    def check(self, holds: bool, what: str, why: str = "") -> bool:
        if holds:
            self.right += 1
        else:
            self.wrong += 1
            print(f"does not hold: {what}\n  {why}" if why else f"does not hold: {what}", flush=True)
        return holds

    def same(self, got: object, wanted: object, what: str) -> bool:
        return self.check(got == wanted, what, f"is {got!r}, not {wanted!r}")


@dataclass
class Run:
    """What one run of fio gave."""

    status: int
    said: str
    reports: list[dict[str, Any]]


@dataclass
class Bench:
    """What all runs share."""

    fio: str
    engine: Path
    exporter: str
    device: str | None
    folder: Path

    def command(self, words: list[str], report: Path) -> list[str]:
        command = [self.fio, "--name=t", f"--ioengine=external:{self.engine}", f"--dmabuf_exporter={self.exporter}",
                   "--dmabuf_datapath=bounce", f"--dmabuf_report={report}", *words]
        if self.device is not None:
            command.append("--dmabuf_device=" + self.device.replace(":", "\\:"))
        return command

    def run(self, *words: str) -> Run:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            report = Path(scratch) / "report"
            done = subprocess.run(self.command(list(words), report), text=True, capture_output=True, timeout=300,
                                  cwd=scratch, check=False)
            lines = report.read_text().splitlines() if report.exists() else []
        return Run(done.returncode, done.stdout + done.stderr, [json.loads(line) for line in lines])


def named(offset: int, generation: int) -> bytes:
    """A block that says in each of its 8 bytes where it belongs, as fio's %o does for generation 0."""
    return (offset ^ generation).to_bytes(8, "little") * (BLOCK // 8)


def area(path: Path, rw: str, size: int = SIZE) -> list[str]:
    return [f"--filename={path}", f"--size={size}", f"--bs={BLOCK}", f"--rw={rw}", "--iodepth=16", "--randseed=7",
            "--verify=pattern", "--verify_pattern=%o"]


def proven(tally: Tally, name: str, run: Run, jobs: int = 1) -> bool:
    """What must hold of a run whatever it moved."""
    if not tally.check(run.status == 0, f"{name}: fio's exit status", run.said):
        return False
    tally.same(len(run.reports), jobs, f"{name}: report lines")
    for report in run.reports:
        tally.same(report["proven"], True, f"{name}: proven ({report['proof']})")
        tally.same(report["datapath"], "bounce", f"{name}: datapath")
    return True


def writes(tally: Tally, bench: Bench) -> dict[str, Any] | None:
    """GPU to file, and a plain pread as the witness. Gives the report."""
    path = bench.folder / "writes"
    path.write_bytes(b"\xa5" * SIZE)
    run = bench.run(*area(path, "randwrite"), "--do_verify=0")
    if not proven(tally, "write", run):
        return None
    wrong = [offset for offset, block in blocks(path) if block != named(offset, 0)]
    tally.check(not wrong, "write: each byte of the file", f"{len(wrong)} blocks, the first at {wrong[:1]}")
    report = run.reports[0]
    tally.check(report["copies"]["to_buffer_bytes"] >= SIZE, "write: the exporter copied all of it up",
                str(report["copies"]))
    tally.check(report["copies"]["from_buffer_bytes"] >= SIZE, "write: bounce took all of it from the GPU",
                str(report["copies"]))
    path.unlink()
    return report


def blocks(path: Path) -> list[tuple[int, bytes]]:
    file = os.open(path, os.O_RDONLY)
    try:
        return [(offset, os.pread(file, BLOCK, offset)) for offset in range(0, SIZE, BLOCK)]
    finally:
        os.close(file)


def reads(tally: Tally, bench: Bench) -> None:
    """File to GPU: right data is taken as right, and one wrong byte is found."""
    path = bench.folder / "reads"
    with path.open("wb") as file:
        for offset in range(0, SIZE, BLOCK):
            file.write(named(offset, 0))
    words = [*area(path, "randwrite"), "--verify_only"]
    run = bench.run(*words)
    if proven(tally, "read", run):
        tally.same(run.reports[0]["issued"]["read_bytes"], SIZE, "read: bytes")
        tally.same(run.reports[0]["issued"]["writes"], 0, "read: writes")
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, b"\x5a", SIZE // 2 + 4711)
    os.close(file)
    run = bench.run(*words)
    tally.check(run.status != 0 and "verify" in run.said, "read: one byte that is wrong in the file is found", run.said)
    path.unlink()


def jobs(tally: Tally, bench: Bench) -> None:
    """Three jobs at once, as processes and as threads; a dma-buf for each I/O in flight."""
    for thread in (0, 1):
        run = bench.run(f"--directory={bench.folder}", "--filename_format=jobs.$jobnum", "--size=16m", "--rw=randrw",
                        f"--bs={BLOCK}", "--iodepth=8", "--verify=crc32c", "--numjobs=3", f"--thread={thread}")
        proven(tally, "threads" if thread else "processes", run, 3)
    run = bench.run(f"--directory={bench.folder}", "--filename_format=jobs.0", "--size=16m", "--rw=randrw",
                    f"--bs={BLOCK}", "--iodepth=5", "--verify=crc32c", "--dmabuf_buffers=io_u")
    if proven(tally, "a dma-buf for each I/O", run):
        tally.same(run.reports[0]["buffers"], 5, "a dma-buf for each I/O: buffers")
    for path in bench.folder.glob("jobs.*"):
        path.unlink()


def refusals(tally: Tally, bench: Bench, too_much: int) -> None:
    """More GiB than the GPU has, and a GPU that is not there: refused, with what would help."""
    path = bench.folder / "large"
    path.touch()
    os.truncate(path, LARGE)
    run = bench.run(f"--filename={path}", "--size=1g", "--rw=read", "--bs=1g", f"--iodepth={too_much}")
    tally.check(run.status != 0, f"{too_much} GiB are refused", run.said)
    print(f"  {too_much} GiB:", last(run))
    other = Bench(bench.fio, bench.engine, bench.exporter, "99", bench.folder)
    run = other.run(f"--filename={path}", "--size=1m", "--rw=read", "--bs=4k")
    tally.check(run.status != 0, "a GPU that is not there is refused", run.said)
    print("  GPU 99:", last(run))
    path.unlink()


def last(run: Run) -> str:
    """What the engine said."""
    said = [line for line in run.said.splitlines() if line.startswith("libdmabuf:")]
    return said[0] if said else run.said[-300:]


def used_mib() -> int | None:
    """The GPU's memory in use, by its driver."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], text=True,
                              capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return int(done.stdout.split()[0])


def memory(tally: Tally, bench: Bench) -> None:
    """The buffer is memory of the GPU, and is given back, also by a job that is killed."""
    before = used_mib()
    if not tally.check(before is not None, "nvidia-smi tells what is in use"):
        return
    assert before is not None
    path = bench.folder / "large"
    path.write_bytes(bytes(SIZE))
    for kill in (False, True):
        name = "killed" if kill else "ended"
        words = [f"--filename={path}", "--size=64m", "--rw=read", "--bs=16m", "--iodepth=64", "--time_based",
                 "--runtime=60" if kill else "--runtime=8"]
        process = subprocess.Popen(bench.command([*words, "--thread=1"], bench.folder / "report"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        most = before
        try:
            end = time.monotonic() + 30
            while most - before < LARGE >> 20 and time.monotonic() < end and process.poll() is None:
                most = max(most, used_mib() or 0)
            tally.check(most - before >= LARGE >> 20, f"{name}: 1 GiB of the GPU's memory is in use meanwhile",
                        f"{before} MiB before, {most} MiB at most")
        finally:
            if kill:
                process.kill()
            process.wait()
        end = time.monotonic() + 30
        while (used_mib() or 0) > before + 64 and time.monotonic() < end:
            time.sleep(0.5)
        after = used_mib() or 0
        tally.check(after <= before + 64, f"{name}: the memory is given back", f"{before} MiB before, {after} MiB now")
        print(f"  {name}: {before} MiB in use before, {most} MiB meanwhile, {after} MiB after")
    path.unlink()


def facts() -> None:
    """What a CUDA dma-buf can do, as a table of facts: nothing is judged."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device = ctypes.c_int()
    context = ctypes.c_void_p()
    pointer = ctypes.c_uint64()
    for name, result in (
        ("cuInit", cuda.cuInit(0)), ("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), 0)),
        ("retain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)),
        ("push", cuda.cuCtxPushCurrent_v2(context)),
        ("cuMemAlloc", cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(SIZE))),
    ):
        if result:
            print(f"  {name}: error {result}")
            return
    for label, flags in (("default", 0), ("PCIe mapping", 1)):
        fd = ctypes.c_int(-1)
        result = cuda.cuMemGetHandleForAddressRange(ctypes.byref(fd), pointer, ctypes.c_size_t(SIZE), 1,
                                                    ctypes.c_uint64(flags))
        print(f"  export, {label}: error {result}")
        if result:
            continue
        print("   ", " ".join(Path(f"/proc/self/fdinfo/{fd.value}").read_text().split()))
        print("    size by lseek:", os.lseek(fd.value, 0, os.SEEK_END))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        mapped = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, fd.value, ctypes.c_long(0))
        print("    mmap:", "works" if mapped != ctypes.c_void_p(-1).value else os.strerror(ctypes.get_errno()))
        try:
            fcntl.ioctl(fd.value, 0x40086200, (3).to_bytes(8, "little"))  # DMA_BUF_IOCTL_SYNC, start, both ways
            print("    DMA_BUF_IOCTL_SYNC: works")
        except OSError as error:
            print("    DMA_BUF_IOCTL_SYNC:", error.strerror)
        os.close(fd.value)
    cuda.cuMemFree_v2(pointer)


def machine() -> None:
    print("machine:", platform.release(), platform.machine())
    for name, path in (("NVIDIA driver", "/proc/driver/nvidia/version"), ("parameters", "/proc/driver/nvidia/params")):
        try:
            text = Path(path).read_text()
        except OSError as error:
            print(f"{name}: {error.strerror}")
            continue
        print(f"{name}:", text.splitlines()[0] if "version" in path else
              " ".join(re.findall(r"(?:Open\w*|EnableResizableBar|Peer\w*): \S+", text)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", choices=EXPORTERS, required=True)
    parser.add_argument("--device", help="as dmabuf_device")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--fio", default="fio")
    parser.add_argument("--too-much", type=int, default=1024, metavar="GIB",
                        help="more than the GPU has; where the machine itself has more, its refusal is the GPU's own")
    chosen = parser.parse_args()
    machine()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="libdmabuf-gpu-", dir=chosen.folder) as folder:
        bench = Bench(chosen.fio, chosen.engine.resolve(), chosen.exporter, chosen.device, Path(folder))
        report = writes(tally, bench)
        if report is not None:
            print(f"GPU: {report['device']}")
            reads(tally, bench)
            jobs(tally, bench)
        refusals(tally, bench, chosen.too_much)
        if chosen.exporter == "cuda":
            memory(tally, bench)
            facts()
    print(f"gpu: {tally.right} checks hold, {tally.wrong} do not")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
