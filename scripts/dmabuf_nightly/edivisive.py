# SPDX-License-Identifier: GPL-2.0-only
"""Change points of a series by E-divisive means (Matteson and James, 2014).

A split is scored by how much further values on its two sides are from each other than among
themselves. The best split of all segments is kept if few random orders of the same segments
score as high, and then its two halves are searched in turn. No distribution is assumed.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEAST_SEGMENT = 3
PERMUTATIONS = 199
ALPHA = 0.01


@dataclass(frozen=True)
class Change:
    """index: the first value after the change. p: the share of random orders that score as high."""

    index: int
    p: float


@cache
def _weights(n: int, least: int) -> tuple[Array, Array, Array, Array]:
    """What the sums of a segment of n values are multiplied by, for every (tau, kappa): across,
    within the left and within the right; and 0, or -inf where a side is too short."""
    m = np.arange(n + 1, dtype=float)[:, None]
    k = np.arange(n + 1)[None, :] - m
    valid = (m >= least) & (k >= least)
    m, k = np.where(valid, m, 2.0), np.where(valid, k, 2.0)
    scale = m * k / (m + k)
    # Sums over ordered pairs: n(n - 1) of them are the 2 * C(n, 2) of the definition.
    return (
        scale * 2 / (m * k),
        scale / (m * (m - 1)),
        scale / (k * (k - 1)),
        np.where(valid, 0.0, -np.inf),
    )


def _scores(values: Array, least: int) -> Array:
    """Score of every (tau, kappa): left is [0, tau), right is [tau, kappa). -inf where too short."""
    n = len(values)
    area = np.zeros((n + 1, n + 1))
    area[1:, 1:] = np.abs(values[:, None] - values[None, :]).cumsum(0).cumsum(1)
    within = area.diagonal()
    left = within[:, None]
    weigh_across, weigh_left, weigh_right, short = _weights(n, least)
    right = within[None, :] - 2 * area + left
    scores: Array = weigh_across * (area - left) - weigh_left * left - weigh_right * right + short
    return scores


def _best(values: Array, least: int) -> tuple[float, int]:
    """The best score of a segment and the split that has it."""
    if len(values) < 2 * least:
        return -np.inf, 0
    scores = _scores(values, least)
    top = int(scores.argmax())
    return float(scores.flat[top]), top // scores.shape[1]


def changes(
    series: Sequence[float],
    alpha: float = ALPHA,
    permutations: int = PERMUTATIONS,
    least: int = LEAST_SEGMENT,
) -> list[Change]:
    """The change points in ascending order. The same series always gives the same answer."""
    values = np.asarray(series, float)
    rng = np.random.default_rng(zlib.crc32(values.tobytes()))
    bounds = [0, len(values)]
    found: dict[int, float] = {}
    while True:
        segments = [values[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        best = [_best(segment, least) for segment in segments]
        winner = max(range(len(segments)), key=lambda i: best[i][0])
        score, tau = best[winner]
        if not np.isfinite(score) or score <= 0:
            break
        # Enough random orders that score as high end the test early: it can no longer pass.
        enough = int(alpha * (permutations + 1))
        higher = 0
        for _ in range(permutations):
            top = max(_best(rng.permutation(segment), least)[0] for segment in segments)
            higher += top >= score
            if higher >= enough:
                break
        p = (higher + 1) / (permutations + 1)
        if p > alpha or higher >= enough:
            break
        index = bounds[winner] + tau
        found[index] = p
        bounds = sorted([*bounds, index])
    return [Change(index, found[index]) for index in sorted(found)]
