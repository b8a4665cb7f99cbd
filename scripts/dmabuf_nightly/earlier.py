# SPDX-License-Identifier: GPL-2.0-only
"""What earlier nights decided, and what of it still counts tonight. `selftest` goes through the same
functions as a night that is judged from the store."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# After a hold began, so many nights in a row must be as fast as before, and the hold ends.
FAST_NIGHTS = 3


@dataclass(frozen=True)
class Hold:
    """What was confirmed to be slower than the nights before it, while no baseline was pinned. These
    nights stay what it is compared with. since: the first night that was confirmed. fast: how many
    nights in a row were as fast as these again."""

    since: int
    nights: tuple[int, ...]
    fast: int = 0


@dataclass(frozen=True)
class Decided:
    """What a night decided about one metric. baseline: the number of the pinned one that it was
    compared with; None without one."""

    state: str
    baseline: int | None = None
    hold: Hold | None = None


@dataclass(frozen=True)
class Pin:
    """A baseline of a series, one in force or an earlier one."""

    id: int
    nights: tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Earlier nights as tonight sees them. flagged: the indices of those that were found slower.
    eras: for each night, between which pins it lies; the level may differ from era to era. settled:
    how many nights were there when the baseline's last one had been measured: what changed by
    then was accepted with it."""

    flagged: frozenset[int]
    eras: tuple[int, ...]
    settled: int


def counts(night: int, decided: Decided, pin: Pin | None) -> bool:
    """Whether a decision says something about tonight: it must have been made against the same
    baseline, by a night after those of the baseline."""
    if pin is None:
        return decided.baseline is None
    return decided.baseline == pin.id and night > max(pin.nights)


def view(
    nights: Sequence[int], decided: Mapping[int, Decided], slower: Sequence[str],
    pins: Sequence[Pin], pin: Pin | None,
) -> View:  # fmt: skip
    """nights: in ascending order. slower: the states of a night that was found slower. pins: all of the
    series; pin: the one in force."""
    bounds = sorted({min(one.nights) for one in pins})
    flagged = set()
    for index, night in enumerate(nights):
        found = decided.get(night)
        if found is None or found.state not in slower:
            continue
        # What was slower than an earlier baseline is not usual among the nights of its time.
        if counts(night, found, pin) or (pin is not None and night < min(pin.nights)):
            flagged.add(index)
    return View(
        frozenset(flagged),
        tuple(bisect_right(bounds, night) for night in nights),
        bisect_right(nights, max(pin.nights)) if pin else 0,
    )


def next_hold(
    hold: Hold | None, night: int, confirmed: bool, fast: bool, reference: Sequence[int]
) -> Hold | None:
    """What is held after a night. confirmed: it was found slower than the nights of `reference`. fast:
    it was as fast as those of the hold."""
    if hold is None:
        return Hold(night, tuple(reference)) if confirmed and reference else None
    if confirmed:
        return replace(hold, fast=0)
    if not fast:
        return hold
    return replace(hold, fast=hold.fast + 1) if hold.fast + 1 < FAST_NIGHTS else None
