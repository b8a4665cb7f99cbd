# SPDX-License-Identifier: GPL-2.0-only
"""Series can be told apart, on a screen, by the colour-blind and in a print without colour."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from dmabuf_report import looks

Vector = npt.NDArray[np.float64]

# How linear RGB looks to people with normal sight, protanopia, deuteranopia and tritanopia: Machado,
# Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009).
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}


def linear(colour: str) -> Vector:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: Vector) -> Vector:
    """CIELAB, D65."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])
    xyz = to_xyz @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_datapaths_are_told_apart_by_colour(sight: str) -> None:
    seen = {path: lab(np.clip(SIGHT[sight] @ linear(colour), 0, 1)) for path, colour in looks.COLOURS.items()}
    for a, b in itertools.combinations(seen, 2):
        # A difference of about 2 can just be seen side by side; lines in a plot are not.
        assert np.linalg.norm(seen[a] - seen[b]) > 20, (a, b)


def test_datapaths_are_told_apart_in_a_print_without_colour() -> None:
    lightness = sorted(lab(linear(colour))[0] for colour in looks.COLOURS.values())
    assert min(b - a for a, b in itertools.pairwise(lightness)) > 8
    assert lightness[-1] < 75  # on white paper


def test_a_datapath_has_the_same_colour_in_every_report() -> None:
    one = looks.colours(["premapped", "host"])
    other = looks.colours(["bounce", "premapped", "a new one"])
    assert one["premapped"] == other["premapped"] == looks.COLOURS["premapped"]


def test_a_datapath_that_is_not_known_has_a_colour_that_no_other_has() -> None:
    names = [f"new-{number}" for number in range(12)]
    found = looks.colours([*names, "host"])
    assert set(names) < set(found)
    assert len(set(found.values())) == len(found)
    assert looks.colours(reversed(names)) == looks.colours(names)


def test_depths_have_a_line_style_and_a_marker_of_their_own() -> None:
    depths = [None, *(1 << n for n in range(11)), 3, 48, 100, 5000]
    found = looks.styles(depths)
    assert len({found[depth] for depth in depths}) == len(depths)
    usual = [found[1 << n] for n in range(11)]
    assert len({marker for marker, _ in usual}) == len({dashes for _, dashes in usual}) == 11
    assert looks.styles([7])[32] == found[32]


def test_no_two_series_look_the_same() -> None:
    series = [(path, depth, variant)
              for path in ("premapped", "bounce", "host", "x", "y")
              for depth in (1, 32, 33, None)
              for variant in ("udmabuf", "heap", "drm", "a on b", "c", "d", "e", "f")]
    made = looks.Looks(series)
    assert len({made.of(*one) for one in series}) == len(series)


def test_what_has_no_variant_is_drawn_as_one_that_has() -> None:
    made = looks.Looks([("host", 32, ""), ("premapped", 32, "udmabuf")])
    assert made.of("host", 32, "").filling == "full"
