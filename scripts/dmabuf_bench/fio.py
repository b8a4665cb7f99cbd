# SPDX-License-Identifier: GPL-2.0-only
"""What fio sees: IOPS and latencies of each datapath. They depend on the machine below the guest."""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dmabuf_common import stats
from dmabuf_common.sizes import size_text

from . import lab
from .cases import LONGEST_COMMAND, MDTS, SCHEDULER
from .errors import BenchError

PROGRAM_HERE = Path(__file__).resolve().parent / "guest" / "fio_runs.py"


@dataclass(frozen=True)
class FioCase:
    """One fio run. path: as in cases.PATHS; memory: plain or huge; bs in bytes."""

    path: str
    memory: str = "plain"
    bs: int = 4096
    depth: int = 32
    jobs: int = 1
    polled: bool = False

    def words(self, seconds: float, drive: str = "/dev/nvme0n1") -> list[str]:
        """fio's options; ENGINE stands for the engine's name where fio runs."""
        device = drive.replace("/nvme", "/ng") if self.path == "passthrough" else drive
        words = ["--name=t", f"--filename={device}", "--rw=randread", "--size=512m", "--readonly"]
        words += [f"--bs={self.bs}", f"--iodepth={self.depth}", f"--numjobs={self.jobs}"]
        words += ["--group_reporting", "--thread", f"--runtime={seconds:g}", "--time_based"]
        if self.path == "host":
            words += ["--ioengine=io_uring", "--fixedbufs=1", "--registerfiles=1", "--direct=1"]
        elif self.path == "passthrough":
            words += ["--ioengine=io_uring_cmd", "--cmd_type=nvme", "--fixedbufs=1"]
        else:
            words += ["--direct=1", "--ioengine=ENGINE", f"--dmabuf_datapath={self.path}"]
            if self.path == "premapped":
                words.append(f"--dmabuf_max_command_kb={LONGEST_COMMAND >> 10}")
            if self.memory == "huge":
                words.append("--dmabuf_hugepages=1")
        if self.polled:
            words.append("--hipri")
        return words

    def label(self) -> str:
        """What a table shows."""
        extra = ", polled" if self.polled else ""
        return f"{self.path}, {size_text(self.bs)}, QD {self.depth}, {self.jobs} jobs{extra}"


def parse(text: str, cases: Sequence[FioCase], repeats: int) -> list[dict[str, Any]]:
    """One record for each case with medians of all figures; BenchError unless all are there."""
    found: list[dict[str, list[float]]] = [{} for _ in cases]
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        number = int(record.pop("case"))
        for name, value in record.items():
            found[number].setdefault(str(name), []).append(float(value))
    records = []
    for case, figures in zip(cases, found, strict=True):
        if len(figures.get("iops", [])) != repeats:
            raise BenchError(f"{case.label()}: not all of {repeats} repeats were measured")
        medians = {name: stats.median(values) for name, values in figures.items()}
        records.append(
            {
                "case": asdict(case),
                "label": case.label(),
                "values": figures,
                "median": medians,
                "interval": list(stats.median_interval(figures["iops"])),
            }
        )
    return records


def measure_here(
    cases: Sequence[FioCase], drive: Path, engine: Path, repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """The records of this machine's own drive; it is only read."""
    if not drive.exists():
        raise BenchError(f"there is no {drive}; name a drive or a file of 512 MiB or more")
    if not engine.is_file():
        raise BenchError(f"there is no engine {engine}; build it, or name it with --engine")
    plan = {"repeats": repeats, "cases": [case.words(seconds, str(drive)) for case in cases]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        done = subprocess.run(
            ["/usr/bin/python3", "-B", str(PROGRAM_HERE), file.name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "ENGINE": f"external:{engine.resolve()}"},
        )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or ["it did not say why"]
        raise BenchError(f"fio measured nothing: {why[0]}")
    return parse(done.stdout, cases, repeats)


def measure(
    cases: Sequence[FioCase],
    iommu: str,
    repeats: int,
    seconds: float,
    smp: int,
    scheduler: str = SCHEDULER,
) -> tuple[str, list[dict[str, Any]]]:
    """The command line and the records of one boot."""
    with tempfile.TemporaryDirectory(prefix="dmabuf-bench-") as folder:
        share = Path(folder)
        plan = {
            "repeats": repeats,
            "scheduler": scheduler,
            "cases": [case.words(seconds) for case in cases],
        }
        (share / "fio.json").write_text(json.dumps(plan))
        words = ["--iommu", iommu, "--mdts", str(MDTS), "--smp", str(smp)]
        if any(case.polled for case in cases):
            words += ["--append", "nvme.poll_queues=1"]
        command = ["/usr/bin/python3", "-B", lab.FIO_PROGRAM, "/share/fio.json"]
        limit = int(120 + len(cases) * (repeats + 1) * (seconds + 5) * 2)
        output = lab.run(words, share, command, limit)
    shown = shlex.join(["dmabuf-lab", "run", *words, "--share", "DIR", "--", *command])
    return shown, parse(output, cases, repeats)
