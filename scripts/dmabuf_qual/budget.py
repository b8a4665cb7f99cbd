# SPDX-License-Identifier: GPL-2.0-only
"""--most-written: how much a case may write, how much a run has written, and whether that is too much.

Two counts are kept, and the larger one counts: the drive's own (SMART, data units written), and the sum
of what the cases say, or may have written where they do not say. So neither a counter that stands still
nor a case that hung, was stopped or was killed lets more be written. How fast the first writes are is not
known before: a case that writes for a time is looked at in the middle, and ended before it crosses the limit.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dmabuf_common import sizes
from dmabuf_common.nvme import Health

from . import cases, plan
from .cases import Case, Scale
from .drive import Drive
from .errors import QualError
from .plan import amount
from .store import Record

NAME = "MOST_WRITTEN"
# How often a case that writes is looked at, and for how many looks there has to be room at the speed it has.
LOOK_S, ROOM = 1.0, 2
# What a case is made of.
CASE = ("id", "kind", "requirement", "exporter", "path", "test", "params")
# The next case may be so much faster than the fastest so far; and last a little longer than it should.
MARGIN, LONGER_S = 1.25, 1.5


def parse(text: str | None) -> int | None:
    """The bytes of --most-written; QualError for what is no size."""
    found = sizes.parse(text) if text is not None else None
    if text is not None and found is None:
        raise QualError(f"--most-written {text}: give bytes, such as 800g or 2t")
    return found


def most(case: Case, drive: Drive, scale: Scale, bytes_s: float) -> float:
    """The bytes that a case may write, of a drive that takes so many a second."""
    if case.kind == "integrity":
        # A load lays down its region, and writes as much as it reads; no other case writes more than
        # its region a few times over.
        region = 16 * cases.REGION_BYTES
        return region + (2 * scale.load_bytes if case.test in ("load", "invalidate") else 0)
    if case.kind == "precondition":
        size: int = cases.size_bytes(scale.size, drive.bytes) or drive.bytes
        return 2.0 * size
    return float(cases.shares(case)[1] * bytes_s * (scale.cell_seconds + LONGER_S))


def speed(records: Iterable[Record], assumed: float) -> float:
    """Bytes a second that the next case may write at the most."""
    seen = [record["written_bytes"] / record["runtime_s"] for record in records
            if record.get("written_bytes") and record.get("runtime_s")]
    return float(max([assumed, *(MARGIN * one for one in seen)]))


def begins(case: Case, part: int, may_write: float) -> Record:
    """What is stored of a case as it begins."""
    return {**{name: getattr(case, name) for name in CASE}, "part": part, "may_write": may_write}


def used(before: Mapping[str, Any] | None, after: Health | None, records: Iterable[Record], drive: Drive,
         scale: Scale, assumed: float, begun: Iterable[Record] = ()) -> float:
    """The bytes that the run has written so far. `before`: the drive's health as it began. `begun`: all
    cases that began: one of which there is no record may have written all that it could."""
    every = list(records)
    fastest = speed(every, assumed)

    def could(record: Record) -> float:
        return most(Case(**{name: record[name] for name in CASE}), drive, scale, fastest)

    own = sum(record["written_bytes"] if "written_bytes" in record else could(record) for record in every)
    ended = {(record["id"], record.get("part")) for record in every}
    own += sum(max(one["may_write"], could(one)) for one in begun if (one["id"], one["part"]) not in ended)
    counted = after.written_bytes - before["written_bytes"] if before and after else 0
    return float(max(own, counted))


def refusal(made: list[plan.Part], limit: int, health: Health | None) -> str:
    """Why a run with this limit must not begin; empty when it may."""
    least = plan.total(made).written[0]
    if health is None:
        return "--most-written counts by the drive's own SMART log, and that cannot be read: run as root"
    if least > limit:
        return (f"--most-written {amount(limit)}: the run writes at least {amount(least)}, and up to "
                f"{amount(plan.total(made).written[1])}")
    return ""


def over(so_far: float, limit: int) -> str:
    """Likewise, where a case wrote more than was thought possible."""
    return f"{NAME}: {amount(so_far)} are written, of {amount(limit)}: more than was thought possible"


def ended(so_far: float, limit: int, case: str, more: float) -> str:
    """What the verdict begins with where a run was ended."""
    return (f"{NAME}: {amount(so_far)} of {amount(limit)} are written, and {case} may write {amount(more)}: it was "
            "not begun")


class Meter:
    """What a case writes while it is at work, by the counters of the drive and of the block layer, neither
    of which has all: one may stand still, and the other does not see premapped commands."""

    def __init__(self, limit: int, so_far: float, counters: Callable[[], tuple[int, ...]]) -> None:
        self.limit, self.so_far, self.counters = limit, so_far, counters
        self.begun = counters()
        self.looked, self.last = time.monotonic(), 0

    def look(self) -> str:
        """Why the case has to end now; empty where it may go on."""
        if time.monotonic() - self.looked < LOOK_S:
            return ""
        wrote = max(now - then for now, then in zip(self.counters(), self.begun, strict=True))
        next_looks = ROOM * (wrote - self.last)
        self.looked, self.last = time.monotonic(), wrote
        if self.so_far + wrote + next_looks <= self.limit:
            return ""
        return (f"{NAME}: {amount(self.so_far + wrote)} of {amount(self.limit)} are written: a case was ended in the "
                "middle, as the drive writes faster than was thought")
