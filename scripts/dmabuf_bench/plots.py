# SPDX-License-Identifier: GPL-2.0-only
"""Plots: cost over block size, a line for each datapath, a panel for each IOMMU mode."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmabuf_common.sizes import size_text

from .cases import IoCase
from .samples import Sample

# Distinguishable with the usual colour blindness (Okabe and Ito).
COLOURS = {
    "host": "#000000",
    "passthrough": "#e69f00",
    "registered": "#56b4e9",
    "bvec": "#cc79a7",
    "premapped": "#0072b2",
    "bounce": "#d55e00",
}


def lines(samples: Sequence[Sample]) -> dict[str, list[tuple[int, float]]]:
    """(block size, median) by datapath and what else tells cases apart, sorted by size."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for sample in samples:
        case = sample.case
        if isinstance(case, IoCase):
            name = case.label().replace(f"{size_text(case.bs)}, ", "")
            found[name].append((case.bs, sample.median()))
    return {name: sorted(points) for name, points in found.items()}


def draw(boots: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Writes the plot; its format follows from the name's end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(boots) + 2, 4.5), layout="constrained")
    axes: Any = figure.subplots(1, len(boots), squeeze=False, sharey=True)[0]
    for panel, (iommu, samples) in zip(axes, boots.items(), strict=True):
        sizes: set[int] = set()
        for name, points in lines(samples).items():
            colour = COLOURS.get(name.partition(",")[0], "#6b7280")
            panel.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
            sizes |= {size for size, _ in points}
        panel.set(xscale="log", yscale="log", title=f"IOMMU {iommu}", xlabel="block size")
        panel.set_xticks(sorted(sizes), [size_text(size) for size in sorted(sizes)])
        panel.minorticks_off()
        panel.grid(True, color="#e5e7eb")
    axes[0].set_ylabel("guest instructions per I/O")
    axes[-1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle("Emulated machine: compares datapaths, says nothing about hardware")
    figure.savefig(path)
