# SPDX-License-Identifier: GPL-2.0-only
"""A GPU's exporter under fio, on datapath bounce: needs neither the module nor an NVMe drive.

Each direction is looked at alone. What went from the GPU's memory into a file is compared, byte by byte,
with a plain pread; what comes from a file into the GPU's memory was put there by a plain pwrite, and is
compared by fio after the exporter copied it back. For CUDA the driver is asked besides, by nvidia-smi,
whether that memory is the GPU's. It says nothing of a drive's own way to the GPU.
"""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dmabuf_common import files

from .tally import Tally, say

BLOCK = 16 << 10
SIZE = 64 << 20
LARGE = 1 << 30
LIMIT_S = 300


@dataclass
class Run:
    """What one run of fio gave."""

    status: int
    said: str
    reports: list[dict[str, Any]]

    @property
    def engine(self) -> str:
        """What the engine said first; else the end of what fio said."""
        said = [line for line in self.said.splitlines() if line.startswith("libdmabuf:")]
        return said[0] if said else self.said[-300:].strip()

    def words(self, name: str) -> dict[str, Any]:
        """For the JSON."""
        return {"name": name, "status": self.status, "said": self.engine, "reports": self.reports}


@dataclass
class Bench:
    """What all runs share."""

    fio: str
    engine: Path
    exporter: str
    device: str
    folder: Path
    libraries: str = ""  # a folder for LD_LIBRARY_PATH
    ran: list[dict[str, Any]] = field(default_factory=list)  # each run, for the JSON

    def command(self, words: list[str], report: Path) -> list[str]:
        command = [self.fio, "--name=t", f"--ioengine=external:{self.engine}", f"--dmabuf_exporter={self.exporter}",
                   "--dmabuf_datapath=bounce", f"--dmabuf_report={report}", *words]
        if self.device:
            command.append("--dmabuf_device=" + self.device.replace(":", "\\:"))
        return command

    @property
    def environment(self) -> dict[str, str]:
        """Of fio."""
        known = os.environ.get("LD_LIBRARY_PATH", "")
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, (self.libraries, known)))}

    def run(self, name: str, *words: str) -> Run:
        """fio, and what it and the engine said."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            report = Path(scratch) / "report"
            try:
                done = subprocess.run(self.command(list(words), report), text=True, capture_output=True,
                                      timeout=LIMIT_S, cwd=scratch, check=False, env=self.environment)
                status, said = done.returncode, done.stdout + done.stderr
            except subprocess.TimeoutExpired:
                status, said = -1, f"fio did not end within {LIMIT_S} s"
            reports = list(files.read_lines(report))
        run = Run(status, said, reports)
        self.ran.append(run.words(name))
        return run

    def version(self) -> str:
        """What fio calls itself."""
        done = subprocess.run([self.fio, "--version"], text=True, capture_output=True, check=False, timeout=LIMIT_S,
                              env=self.environment)
        return (done.stdout or done.stderr).strip()

    def host(self) -> Run:
        """fio and the engine without any exporter."""
        return self._reads("host", "--dmabuf_datapath=host")

    def first(self) -> Run:
        """A few reads, to see whether there is memory at all."""
        return self._reads("first")

    def _reads(self, name: str, *words: str) -> Run:
        path = self.folder / name
        path.write_bytes(bytes(1 << 20))
        run = self.run(name, f"--filename={path}", "--size=1m", "--rw=read", "--bs=4k", *words)
        path.unlink()
        return run


def named(offset: int, generation: int) -> bytes:
    """A block that says in each of its 8 bytes where it belongs, as fio's %o does for generation 0."""
    return (offset ^ generation).to_bytes(8, "little") * (BLOCK // 8)


def area(path: Path, rw: str, size: int = SIZE) -> list[str]:
    return [f"--filename={path}", f"--size={size}", f"--bs={BLOCK}", f"--rw={rw}", "--iodepth=16", "--randseed=7",
            "--verify=pattern", "--verify_pattern=%o"]


def proven(tally: Tally, name: str, run: Run, jobs: int = 1) -> bool:
    """What must hold of every run, in either direction."""
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
    run = bench.run("write", *area(path, "randwrite"), "--do_verify=0")
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
    run = bench.run("read", *words)
    if proven(tally, "read", run):
        tally.same(run.reports[0]["issued"]["read_bytes"], SIZE, "read: bytes")
        tally.same(run.reports[0]["issued"]["writes"], 0, "read: writes")
    with path.open("r+b") as file:
        file.seek(SIZE // 2 + 4711)
        file.write(b"\x5a")
    run = bench.run("read of a wrong byte", *words)
    tally.check(run.status != 0 and "verify" in run.said, "read: one byte that is wrong in the file is found", run.said)
    path.unlink()


def jobs(tally: Tally, bench: Bench) -> None:
    """Three jobs at once, as processes and as threads; a dma-buf for each I/O in flight."""
    for thread in (0, 1):
        name = "threads" if thread else "processes"
        run = bench.run(name, f"--directory={bench.folder}", "--filename_format=jobs.$jobnum", "--size=16m",
                        "--rw=randrw", f"--bs={BLOCK}", "--iodepth=8", "--verify=crc32c", "--numjobs=3",
                        f"--thread={thread}")
        proven(tally, name, run, 3)
    run = bench.run("slots", f"--directory={bench.folder}", "--filename_format=jobs.0", "--size=16m", "--rw=randrw",
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
    run = bench.run("too much", f"--filename={path}", "--size=1g", "--rw=read", "--bs=1g", f"--iodepth={too_much}")
    tally.check(run.status != 0, f"{too_much} GiB are refused", run.said)
    other = replace(bench, device="99")
    run = other.run("GPU 99", f"--filename={path}", "--size=1m", "--rw=read", "--bs=4k")
    tally.check(run.status != 0, "a GPU that is not there is refused", run.said)
    path.unlink()


def choices(tally: Tally, bench: Bench, gpu: dict[str, Any], ways: list[dict[str, Any]]) -> None:
    """What the engine makes for each choice of memory and mapping is what the driver's own calls gave, and says
    so; and it finds the GPU by each of its names."""
    path = bench.folder / "choices"
    path.write_bytes(b"".join(named(offset, 0) for offset in range(0, 4 << 20, BLOCK)))
    words = [*area(path, "randwrite", 4 << 20), "--verify_only"]
    gave = {f"{way['kind']}+{way['mapping']}": bool(way["exported"]) for way in ways}
    plain = bench.device.partition("+")[0]
    for chosen, wanted in (("", ("alloc+pcie", "alloc+default")), ("+pcie", ("alloc+pcie",)),
                           ("+default", ("alloc+default",)), ("+vmm", ("vmm+pcie", "vmm+default")),
                           ("+vmm+pcie", ("vmm+pcie",)), ("+vmm+default", ("vmm+default",))):
        name = f"dmabuf_device={plain}{chosen}"
        run = replace(bench, device=plain + chosen).run(name, *words)
        made = next((way for way in wanted if gave.get(way)), None)
        if made is None:
            tally.check(run.status != 0, f"{name}: is refused, as by the driver", run.said)
        elif proven(tally, name, run):
            tally.same(run.reports[0]["exported"], made, f"{name}: is made as the driver makes it")
    for key in ("pci", "uuid", "instance"):
        if key in gpu:
            run = replace(bench, device=gpu[key]).run(f"dmabuf_device={gpu[key]}", *words)
            if proven(tally, f"by its {key}", run):
                tally.same(run.reports[0]["device"], gpu["pci"], f"by its {key}: the device")
    path.unlink()


def used_mib(gpu: str) -> int | None:
    """The memory of this GPU that is in use, by its driver; None where that does not say."""
    try:
        done = subprocess.run(["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                              text=True, capture_output=True, timeout=60, check=True)
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def memory(tally: Tally, bench: Bench, gpu: str) -> None:
    """The buffer is memory of the GPU at this PCI address, and is given back, also by a job that is killed."""
    before = used_mib(gpu)
    if before is None:
        tally.skip("whether the driver counts the buffer as its memory and gets it back",
                   f"nvidia-smi does not say how much memory of {gpu} is in use")
        return
    path = bench.folder / "large"
    path.write_bytes(bytes(SIZE))
    for kill in (False, True):
        name = "killed" if kill else "ended"
        words = [f"--filename={path}", "--size=64m", "--rw=read", "--bs=16m", "--iodepth=64", "--time_based",
                 "--runtime=60" if kill else "--runtime=8"]
        process = subprocess.Popen(bench.command([*words, "--thread=1"], bench.folder / "report"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=bench.environment)
        most = before
        try:
            end = time.monotonic() + 30
            while most - before < LARGE >> 20 and time.monotonic() < end and process.poll() is None:
                most = max(most, used_mib(gpu) or 0)
            tally.check(most - before >= LARGE >> 20, f"{name}: 1 GiB of the GPU's memory is in use meanwhile",
                        f"{before} MiB before, {most} MiB at most")
        finally:
            if kill:
                process.kill()
            process.wait()
        end = time.monotonic() + 30
        after = used_mib(gpu)
        while (after is None or after > before + 64) and time.monotonic() < end:
            time.sleep(0.5)
            after = used_mib(gpu)
        now = "not known" if after is None else f"{after} MiB"
        tally.check(after is not None and after <= before + 64, f"{name}: the memory is given back",
                    f"{before} MiB before, now {now}")
        say(f"{name}: {before} MiB in use before, {most} MiB meanwhile, now {now}")
    path.unlink()
