# SPDX-License-Identifier: GPL-2.0-only
"""What earlier nights decided, and what of it still counts tonight. `selftest` goes through the same
functions as a night that is judged from the store."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .states import GOOD, SLOWER

# The first night that is clearly good is green; so many in a row, and the loss is forgotten. Until then
# a night that is slow again is red at once, and what was acknowledged stays known.
GOOD_NIGHTS = 3
# So many nights at most are compared with tonight where nobody pinned any, and so many at least.
REFERENCE = 10
LEAST_REFERENCE = 6
# The last nights that were slow say how slow it was. Fewer say it less well, and more of them would hide
# that it became another loss.
SLOW_NIGHTS = 5
# What was found rests on so many nights just before, too.
BEFORE = 2


@dataclass(frozen=True)
class Hold:
    """What was confirmed to be slower, and was not mended since. since: the first night that was
    confirmed. nights: what it is compared with; none where this is a pinned baseline or a side. fast:
    how many nights in a row were good."""

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

    @property
    def usual(self) -> bool:
        """Whether the night may be part of what later ones are compared with: it was not found slower,
        and what was held then was mended in it."""
        return self.state not in SLOWER and (self.hold is None or self.state in GOOD)


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
    then was accepted with it. apart: those in which something was held and that were not good, or that were
    slower than another baseline."""

    flagged: frozenset[int]
    eras: tuple[int, ...]
    settled: int
    apart: frozenset[int] = frozenset()


def counts(night: int, decided: Decided, pin: Pin | None) -> bool:
    """Whether a decision says something about tonight: it must have been made against the same
    baseline, by a night after those of the baseline."""
    if pin is None:
        return decided.baseline is None
    return decided.baseline == pin.id and night > max(pin.nights)


def view(
    nights: Sequence[int], decided: Mapping[int, Decided], pins: Sequence[Pin], pin: Pin | None
) -> View:
    """nights: in ascending order. pins: all of the series; pin: the one in force."""
    bounds = sorted({min(one.nights) for one in pins})
    flagged, apart = set(), set()
    for index, night in enumerate(nights):
        found = decided.get(night)
        if found is None:
            continue
        # What was slower than an earlier baseline is not usual among the nights of its time.
        if not (counts(night, found, pin) or (pin is not None and night < min(pin.nights))):
            # Nor is it after the nights of this one, unless it is one of them. It agrees with nothing.
            if not found.usual and (pin is None or night not in pin.nights):
                apart.add(index)
            continue
        if found.state in SLOWER:
            flagged.add(index)
        if found.hold and found.state not in GOOD:
            apart.add(index)
    return View(
        frozenset(flagged),
        tuple(bisect_right(bounds, night) for night in nights),
        bisect_right(nights, max(pin.nights)) if pin else 0,
        frozenset(apart),
    )


def last_good(nights: Sequence[int], decided: Mapping[int, Decided]) -> tuple[int, ...]:
    """What a night is compared with where nothing is pinned or held: the last good ones of these, or
    nothing where they are few. Nights that were found slower never become what is usual."""
    good = [night for night in nights if night not in decided or decided[night].usual]
    return tuple(good[-REFERENCE:]) if len(good) >= LEAST_REFERENCE else ()


def held(decided: Mapping[int, Decided], pin: Pin | None) -> Hold | None:
    """What is held when a night begins."""
    if not decided:
        return None
    last = max(decided)
    return decided[last].hold if counts(last, decided[last], pin) else None


def slow_nights(
    nights: Sequence[int], decided: Mapping[int, Decided], hold: Hold, pin: Pin | None
) -> list[int]:
    """Which of these nights say how slow it was: the last ones that were slow since it was found, and
    those just before, which agreed."""
    first = max(0, bisect_left(nights, hold.since) - BEFORE)
    return [
        night for night in nights[first:]
        if night in decided and decided[night].state in SLOWER and counts(night, decided[night], pin)
    ][-SLOW_NIGHTS:]


def next_hold(
    hold: Hold | None, night: int, confirmed: bool, good: bool, reference: Sequence[int], suspect: bool = False
) -> Hold | None:
    """What is held after a night. confirmed: it was found slower than the nights of `reference`. good:
    it was not slower than what is held. suspect: it may be, so that good nights before it are none in a row
    with later ones; a night that says nothing is left out of the row."""
    if hold is None:
        return Hold(night, tuple(reference)) if confirmed else None
    if confirmed or suspect:
        return replace(hold, fast=0)
    if not good:
        return hold
    return replace(hold, fast=hold.fast + 1) if hold.fast + 1 < GOOD_NIGHTS else None
