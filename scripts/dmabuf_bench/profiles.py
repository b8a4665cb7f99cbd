# SPDX-License-Identifier: GPL-2.0-only
"""Where the instructions of a case are: each that the kernel executed is counted, by a plug-in of QEMU."""

import bisect
import collections
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common import stats

from . import lab, results, samples, table
from .cases import IoCase
from .errors import BenchError

PLUGIN = Path("build/lab/tests/vm/libcount.so")


class Symbols:
    """Functions of the kernel and its modules by address, of the lines of /proc/kallsyms."""

    def __init__(self, lines: Iterable[str]) -> None:
        rows = []
        for line in lines:
            address, kind, name, *module = line.split()
            if kind in "tTwW":
                rows.append((int(address, 16), " ".join([name, *module])))
        rows.sort()
        if not rows or not rows[-1][0]:
            raise BenchError("the guest's kernel does not say where its functions are")
        self.addresses = [row[0] for row in rows]
        self.names = [row[1] for row in rows]

    def name(self, address: int) -> str:
        """The function at an address."""
        place = bisect.bisect_right(self.addresses, address)
        return self.names[place - 1] if place else "before all functions"


@dataclass(frozen=True)
class Counts:
    """What the plug-in counted in so many batches and gaps: address, in all batches, in all gaps."""

    batches: int
    gaps: int
    rows: list[tuple[int, int, int]]


def parse(text: str) -> Counts:
    """The plug-in's file."""
    try:
        (first, batches), (second, gaps), *rest = (line.split() for line in text.splitlines())
        if (first, second) != ("batches", "gaps"):
            raise ValueError(first)
        rows = [(int(address, 16), int(batch), int(gap)) for address, batch, gap in rest]
        found = Counts(int(batches), int(gaps), rows)
    except ValueError as error:
        raise BenchError(f"the plug-in counted nothing that can be read: {error}") from error
    if not (found.batches and found.gaps and found.rows):
        raise BenchError("the plug-in counted no batch, or no gap")
    return found


def by_function(counts: Counts, symbols: Symbols, depth: int) -> dict[str, float]:
    """Instructions per I/O of each function: of a batch, less those of a gap without I/O."""
    found: dict[str, float] = collections.defaultdict(float)
    for address, batch, gap in counts.rows:
        found[symbols.name(address)] += (batch / counts.batches - gap / counts.gaps) / depth
    return dict(found)


def measure(line: str, iommu: str, rounds: int, out: Path | None = None) -> tuple[float, dict[str, float]]:
    """The figure of a case, user space included, and instructions per I/O of each function.

    out: a folder for what was counted, by address.
    """
    try:
        case = results.case_of(line)
    except (ValueError, KeyError) as error:
        raise BenchError(f"{line!r} is no case: {error}") from error
    if not isinstance(case, IoCase) or case.free:
        raise BenchError(f"{line!r}: only I/O that is held is counted by function")
    with tempfile.TemporaryDirectory(prefix="dmabuf-bench-") as folder:
        share = Path(folder)
        (share / "plan").write_text(lab.plan([line]))
        command = f"{shlex.join([lab.PROGRAM, '/share/plan', str(rounds)])} && cat /proc/kallsyms > /share/symbols"
        words = [*lab.options([case], iommu), "--plugin", f"{lab.LAB.parents[1] / PLUGIN},out={share / 'counts'}"]
        output = lab.run(words, share, [command], 1200)
        figure = stats.median(samples.parse(output, [case], rounds)[0].values)
        counts = parse((share / "counts").read_text())
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for name in ("counts", "symbols"):
                shutil.copy(share / name, out / name)
        symbols = Symbols((share / "symbols").read_text().splitlines())
    return figure, by_function(counts, symbols, case.depth)


def module_of(name: str) -> str:
    """The module that a function is in, or the kernel itself."""
    return name.partition("[")[2].rstrip("]") or "kernel"


def text(figure: float, functions: dict[str, float], most: int) -> str:
    """The functions that cost most, then the sums of the modules, in instructions per I/O."""
    whole = sum(functions.values())
    # The two are counted in different ways: by the plug-in, and by the guest's clock, which has user space, too: some
    # 100 of 2,000.
    if not figure * 0.85 < whole < figure * 1.05:
        raise BenchError(f"the plug-in counted {whole:.0f} of {figure:.0f} instructions per I/O in the kernel")
    parts: dict[str, float] = collections.defaultdict(float)
    for name, cost in functions.items():
        parts[module_of(name)] += cost

    def rows(costs: dict[str, float], count: int) -> list[tuple[str, str, str]]:
        ordered = sorted(costs.items(), key=lambda item: -item[1])[:count]
        return [(name, f"{cost:.1f}", f"{cost / whole:.1%}") for name, cost in ordered]

    head = ("function", "instructions", "share")
    return "\n".join([
        table.grid([head, *rows(functions, most)]), "",
        table.grid([("module", *head[1:]), *rows(parts, 8)]), "",
        f"the kernel in all: {whole:.0f} of {figure:.0f} instructions per I/O",
    ])
