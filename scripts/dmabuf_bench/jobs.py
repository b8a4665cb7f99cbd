# SPDX-License-Identifier: GPL-2.0-only
"""What an I/O costs when several jobs do the same at once, each on a CPU of its own, against one job alone."""

import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import lab, profiles
from .cases import IoCase
from .errors import BenchError
from .goals import Goal, Verdict
from .progress import say
from .samples import Sample

JOBS = 4
IOMMU = "strict"
CASE = IoCase("premapped")
# It has no cases that a boot of one CPU measures.
GOAL = Goal(f"{JOBS} jobs on {JOBS} CPUs ÷ one job on one, 4 KiB", (), 1.05, (IOMMU,))


def plugin(share: Path) -> list[str]:
    """The lab's option for the plug-in, which counts all CPUs and writes into `share`."""
    return ["--plugin", f"{lab.LAB.parents[1] / profiles.PLUGIN},out={share / 'counts'},cpus=several"]


def files(output: str, repeats: int) -> list[int]:
    """How many jobs each of the plug-in's files is of, by the guest's lines; BenchError if they are not all there."""
    try:
        found = [int(json.loads(line)["jobs"]) for line in output.splitlines() if line.startswith("{")]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"the guest printed something that is no line of jobs: {error}") from error
    # The first pair warms up.
    if found != [1, JOBS] * (repeats + 1):
        raise BenchError(f"the guest ran {found} jobs, and not one and {JOBS} {repeats + 1} times in turn")
    return found


def costs(counted: Sequence[profiles.Counts], symbols: profiles.Symbols, jobs: Sequence[int],
          depth: int) -> tuple[list[float], float]:
    """Instructions per I/O of each file, and how much of what batches have beyond gaps is in them.

    Of modules, which are what an I/O runs through, all that a batch has beyond a gap; of the kernel itself, the
    functions that no gap has. What else runs in a gap is of the timer's ticks, of the scheduler and of whoever
    commands the jobs; how much of it there is depends on how long the drive takes.
    """
    others = {symbols.name(address) for counts in counted for address, _, gap in counts.rows if gap}
    found, kept, whole = [], 0.0, 0.0
    for counts, count in zip(counted, jobs, strict=True):
        of_io = 0.0
        for address, batch, gap in counts.rows:
            name = symbols.name(address)
            cost = batch / counts.batches - gap / counts.gaps
            whole += cost / depth / count
            if profiles.module_of(name) != "kernel" or name not in others:
                of_io += cost
        found.append(of_io / depth / count)
        kept += found[-1]
    return found, kept / whole


def measure(repeats: int) -> tuple[Sample, Sample]:
    """Several jobs, and one, in turn, in one boot."""
    with tempfile.TemporaryDirectory(prefix="dmabuf-bench-") as folder:
        share = Path(folder)
        command = f"{shlex.join([lab.PROGRAM, 'jobs', str(repeats), CASE.line()])} && cat /proc/kallsyms > /share/symbols"
        # One CPU more, from which they are commanded.
        words = [*lab.options([CASE], IOMMU), "--smp", str(JOBS + 1), *plugin(share)]
        jobs = files(lab.run(words, share, [command], 1500), repeats)
        names = [share / (f"counts.{nth}" if nth else "counts") for nth in range(len(jobs))]
        counted = [profiles.parse(name.read_text()) for name in names]
        symbols = profiles.Symbols((share / "symbols").read_text().splitlines())
    found, compared = costs(counted[2:], symbols, jobs[2:], CASE.depth)
    say(f"{compared:.0%} of what batches execute beyond gaps is compared")
    return Sample(CASE, found[1::2]), Sample(CASE, found[::2])


def judge(several: Sample, one: Sample) -> Verdict:
    """The goal's verdict."""
    from dmabuf_common import stats

    noisy = [f"{count} jobs" for count, sample in ((JOBS, several), (1, one)) if sample.noisy()]
    return Verdict(GOAL, several.median() / one.median(), stats.ratio_interval(one.values, several.values),
                   f"{IOMMU}: {several.median():.0f} / {one.median():.0f}",
                   f"{noisy[0]}: repeats differ by more than 1 %" if noisy else "")
