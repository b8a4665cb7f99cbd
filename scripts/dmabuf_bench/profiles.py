# SPDX-License-Identifier: GPL-2.0-only
"""Where the CPU is while a case is measured, by samples that the guest takes."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import lab, results, table
from .errors import BenchError

PROGRAM = "/src/scripts/dmabuf_bench/guest/profile.py"
# Where the kernel has nothing to do, or has not the CPU: the measuring program spins when idle.
ELSEWHERE = (
    "user space", "pv_native_safe_halt", "default_idle_call", "default_idle", "native_safe_halt",
)


def parse(text: str) -> dict[str, Any]:
    """What the guest printed: samples, and how many of them each function got."""
    for line in text.splitlines():
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise BenchError("the guest printed no samples")


def measure(line: str, iommu: str, rounds: int) -> dict[str, Any]:
    """Samples of one case, measured so many times."""
    try:
        case = results.case_of(line)
    except (ValueError, KeyError) as error:
        raise BenchError(f"{line!r} is no case: {error}") from error
    with tempfile.TemporaryDirectory(prefix="dmabuf-bench-") as folder:
        share = Path(folder)
        (share / "plan").write_text(lab.plan([line]))
        command = ["/usr/bin/python3", "-B", PROGRAM, lab.PROGRAM, "/share/plan", str(rounds)]
        return parse(lab.run(lab.options([case], iommu), share, command, 600))


def text(found: Mapping[str, Any], most: int) -> str:
    """The kernel's functions with the most samples, with their share of what the kernel did."""
    counts: dict[str, int] = found["functions"]
    busy = {name: count for name, count in counts.items() if name not in ELSEWHERE}
    whole = found["samples"] - sum(counts.get(name, 0) for name in ELSEWHERE)
    if whole <= 0:
        raise BenchError("the kernel did nothing in any sample")
    rows = [("function", "samples", "share")]
    ordered = sorted(busy.items(), key=lambda item: -item[1])[:most]
    rows += [(name, str(count), f"{count / whole:.1%}") for name, count in ordered]
    return table.grid(rows)
