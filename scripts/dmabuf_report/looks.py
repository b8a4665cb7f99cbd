# SPDX-License-Identifier: GPL-2.0-only
"""How a series is drawn, the same in every plot of every report: a colour for its datapath, line
style and marker for its queue depth, the marker's filling for whatever else tells it from others.
"""

import colorsys
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Told apart with each kind of colour blindness, and by their lightness alone in a print without
# colour: a test computes both.
COLOURS = {
    "host": "#000000",
    "passthrough": "#440055",
    "upstream": "#880000",
    "premapped": "#5522ee",
    "syscall": "#776677",
    "bounce": "#ee4400",
    "registered": "#6699ee",
    "bvec": "#ccaa88",
}

DashStyle = tuple[int, tuple[float, ...]]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p", "h", "<", ">")
DASHES: tuple[DashStyle, ...] = (
    (0, ()), (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (10, 3)), (0, (1, 2.5)),
    (0, (6, 2, 1, 2, 1, 2)), (0, (4, 1)), (0, (10, 2, 2, 2)), (0, (3, 4)), (0, (8, 2, 4, 2)), (0, (2, 4, 6, 4)),
)
# The depths that loads have, the usual ones with the plainest styles; the last is that of a depth that
# is not known.
DEPTHS: dict[int | None, int] = {
    depth: n for n, depth in enumerate((32, 1, 16, 8, 64, 4, 128, 2, 256, 512, 1024, None))
}
FILLINGS = ("full", "none", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: str
    marker: str
    dashes: DashStyle
    filling: str
    size: float

    def words(self) -> dict[str, Any]:
        """As matplotlib's plot() takes it."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dashes,
                "fillstyle": self.filling, "markersize": 5.0 * self.size, "linewidth": 1.5 * self.size}


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _spare(taken: Iterable[str]) -> str:
    """The colour, of those that are dark enough for a white page, that is farthest from all taken."""
    known = [_rgb(colour) for colour in taken]

    def apart(rgb: tuple[int, int, int]) -> int:
        return min(sum((a - b) ** 2 for a, b in zip(rgb, other, strict=True)) for other in known)

    steps = range(0, 256, 17)
    dark = (rgb for rgb in itertools.product(steps, steps, steps)
            if colorsys.rgb_to_yiq(*(part / 255 for part in rgb))[0] < 0.55)
    return "#{:02x}{:02x}{:02x}".format(*max(dark, key=apart))


def colours(datapaths: Iterable[str]) -> dict[str, str]:
    """The colour of each datapath. One that is not known gets a colour that no other has."""
    found = dict(COLOURS)
    for path in sorted(set(datapaths) - set(COLOURS)):
        found[path] = _spare(found.values())
    return found


def styles(depths: Iterable[int | None]) -> dict[int | None, tuple[str, DashStyle]]:
    """Marker and line style of each depth. One that is unusual gets a pair that no other has."""
    found = {depth: (MARKERS[n], DASHES[n]) for depth, n in DEPTHS.items()}

    def others() -> Iterator[tuple[str, DashStyle]]:
        for shift in range(1, len(DASHES)):
            for number, marker in enumerate(MARKERS):
                yield marker, DASHES[(number + shift) % len(DASHES)]

    spare = others()
    for depth in sorted({depth for depth in depths if depth is not None} - set(DEPTHS), key=int):
        found[depth] = next(spare)
    return found


class Looks:
    """The looks of all series of a report, by datapath, depth and variant: what else is different, and
    is called `heading` in a legend."""

    def __init__(self, series: Iterable[tuple[str, int | None, str]], heading: str = "memory") -> None:
        self.heading = heading
        every = list(series)
        self.colour = colours(path for path, _, _ in every)
        self.style = styles(depth for _, depth, _ in every)
        # What has no variant is drawn as the first of those that have.
        self.variants = sorted({variant for _, _, variant in every} - {""}) or [""]

    def of_variant(self, variant: str) -> tuple[str, float]:
        """Filling of the markers, and how much larger than usual they are."""
        number = self.variants.index(variant) if variant else 0
        return FILLINGS[number % len(FILLINGS)], 1.5 ** (number // len(FILLINGS))

    def of(self, datapath: str, depth: int | None, variant: str) -> Look:
        """The look of a series."""
        return Look(self.colour[datapath], *self.style[depth], *self.of_variant(variant))
