# SPDX-License-Identifier: GPL-2.0-only
"""Plots: cost over block size, a line for each datapath, a panel for each IOMMU mode. A line looks as in
every report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmabuf_common.sizes import size_text
from dmabuf_report.looks import Looks

from .cases import IoCase
from .samples import Sample

Series = tuple[str, int | None, str]


def series_of(case: IoCase) -> Series:
    """Datapath, depth and what else tells a case from another, as the looks of a report have it."""
    extra = [name for name in ("writes", "polled", "free") if getattr(case, name)]
    return case.path, case.depth, ", ".join([case.memory, *extra])


def lines(samples: Sequence[Sample]) -> dict[Series, list[tuple[int, float]]]:
    """(block size, median) by series, sorted by size."""
    found: dict[Series, list[tuple[int, float]]] = defaultdict(list)
    for sample in samples:
        if isinstance(sample.case, IoCase):
            found[series_of(sample.case)].append((sample.case.bs, sample.median()))
    return {series: sorted(points) for series, points in found.items()}


def draw(boots: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Writes the plot; its format follows from the name's end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(boots) + 2, 4.5), layout="constrained")
    axes: Any = figure.subplots(1, len(boots), squeeze=False, sharey=True)[0]
    looks = Looks(series for samples in boots.values() for series in lines(samples))
    for panel, (iommu, samples) in zip(axes, boots.items(), strict=True):
        sizes: set[int] = set()
        for (datapath, depth, variant), points in lines(samples).items():
            panel.plot(*zip(*points, strict=True), label=f"{datapath}, {variant}, QD {depth}",
                       **looks.of(datapath, depth, variant).words())
            sizes |= {size for size, _ in points}
        panel.set(xscale="log", yscale="log", title=f"IOMMU {iommu}", xlabel="block size")
        panel.set_xticks(sorted(sizes), [size_text(size) for size in sorted(sizes)])
        panel.minorticks_off()
        panel.grid(True, color="#e5e7eb")
    axes[0].set_ylabel("guest instructions per I/O")
    axes[-1].legend(fontsize="small", handlelength=3.5, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle("Emulated machine: compares datapaths, says nothing about hardware")
    figure.savefig(path)
