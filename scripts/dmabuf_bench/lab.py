# SPDX-License-Identifier: GPL-2.0-only
"""Boots of the lab in which something is measured: one for each IOMMU mode."""

import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import samples
from .cases import MDTS, SCHEDULER, Case, IoCase
from .errors import BenchError

LAB = Path(__file__).resolve().parents[1] / "dmabuf-lab"
PROGRAM = "/src/build/lab/tests/vm/measure"
FIO_PROGRAM = "/src/scripts/dmabuf_bench/guest/fio_runs.py"
MEMORY_MIB = 3072
GIGANTIC_MIB = 1024


@dataclass(frozen=True)
class Boot:
    """What one boot measured, and the command that did it."""

    iommu: str
    command: str
    found: list[samples.Sample]
    scheduler: str = SCHEDULER


def options(cases: Sequence[Case], iommu: str) -> list[str]:
    """The lab's options: one vCPU that counts instructions, and what the cases need."""
    memory = MEMORY_MIB
    # Kernel threads that wake up now and then would be part of the figures.
    append = ["damon_stat.enabled=N"]
    if any(isinstance(case, IoCase) and case.polled for case in cases):
        append.append("nvme.poll_queues=1")
    if any(isinstance(case, IoCase) and case.memory == "contiguous" for case in cases):
        append += ["hugepagesz=1G", "hugepages=1"]
        memory += GIGANTIC_MIB
    words = ["--icount", "--iommu", iommu, "--mdts", str(MDTS), "--memory", str(memory)]
    return [*words, "--append", " ".join(append)]


def plan(lines: Iterable[str], scheduler: str = SCHEDULER) -> str:
    """What the guest's program reads: the drive's scheduler, then a line for each case."""
    return "".join(f"{line}\n" for line in (f"drive scheduler={scheduler}", *lines))


def run(words: Sequence[str], share: Path, command: Sequence[str], timeout: int) -> str:
    """Output of a command in a fresh guest; BenchError when it failed or the guest complained."""
    if not LAB.exists():
        raise BenchError("the lab is part of a checkout: run scripts/dmabuf-bench there, or measure this machine "
                         "(run --figures fio --here DEVICE)")
    argv = [str(LAB), "run", "--timeout", str(timeout), *words, "--share", str(share), "--"]
    done = subprocess.run([*argv, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise BenchError(f"the lab ended with status {done.returncode}; its messages say why")
    return done.stdout


def instructions(
    cases: Sequence[Case],
    iommu: str,
    repeats: int,
    scheduler: str = SCHEDULER,
    timeout: int = 1500,
) -> Boot:
    """Measures all cases, interleaved, in one boot, with that scheduler of the drive's."""
    with tempfile.TemporaryDirectory(prefix="dmabuf-bench-") as folder:
        share = Path(folder)
        (share / "plan").write_text(plan((case.line() for case in cases), scheduler))
        words = options(cases, iommu)
        output = run(words, share, [PROGRAM, "/share/plan", str(repeats)], timeout)
    shown = ["dmabuf-lab", "run", *words, "--share", "DIR", "--", PROGRAM, "/share/plan"]
    found = samples.parse(output, cases, repeats)
    return Boot(iommu, shlex.join([*shown, str(repeats)]), found, scheduler)
