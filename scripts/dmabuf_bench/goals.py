# SPDX-License-Identifier: GPL-2.0-only
"""The goals: ratios of two figures of one boot, and the most they may be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dmabuf_common import stats

from .cases import Case, IoCase, MapCase
from .samples import NOISY, Sample

KIB, MIB = 1 << 10, 1 << 20
# Batches of a polled ring have two levels, 4 % apart, and the interval has both.
POLLED_NOISE = 0.03
# Boots in which goals are measured.
BOOTS = ("off", "strict")


@dataclass(frozen=True)
class Goal:
    """cost / against must be at most `most` in every boot of `boots`, for every pair.

    one_command: each I/O of `cost` must have been one NVMe command, by the module's counts. parts:
    `cost` is made of so many, and one of them is compared. beyond: not 0 where Linux's own part alone is
    more than `most` allows, as docs/performance.md shows: then it is `beyond` that decides. noise:
    relative MAD of the repeats of a case above which nothing holds.
    """

    name: str
    pairs: tuple[tuple[Case, Case], ...]
    most: float
    boots: tuple[str, ...] = BOOTS
    one_command: bool = False
    parts: int = 1
    beyond: float = 0
    noise: float = NOISY


def _io(path: str, bs: int) -> IoCase:
    return IoCase(path, bs=bs)


def _pair(path: str, against: str, bs: int) -> tuple[Case, Case]:
    return _io(path, bs), _io(against, bs)


ONE = _io("premapped", 4096)


REGISTERED_SIZES = (512, 4 * KIB, 64 * KIB, 512 * KIB, MIB)

GOALS = (
    Goal("premapped ÷ ordinary, 4 KiB, no IOMMU", (_pair("premapped", "host", 4 * KIB),), 0.75,
         ("off",)),
    Goal("premapped ÷ ordinary, 4 KiB, strict IOMMU", (_pair("premapped", "host", 4 * KIB),), 0.50,
         ("strict",)),
    Goal("premapped ÷ ordinary, 64 KiB scattered, strict",
         (_pair("premapped", "host", 64 * KIB),), 0.25, ("strict",)),
    Goal("premapped ÷ ordinary, 512 KiB scattered, strict",
         (_pair("premapped", "host", 512 * KIB),), 0.10, ("strict",)),
    Goal("premapped 1 MiB scattered ÷ premapped 4 KiB, one command each",
         ((_io("premapped", MIB), _io("premapped", 4 * KIB)),), 1.10, one_command=True),
    Goal("registered ÷ ordinary, any size",
         tuple(_pair("registered", "host", bs) for bs in REGISTERED_SIZES), 1.05),
    Goal("premapped ÷ passthrough with fixedbufs, 4 KiB",
         (_pair("premapped", "passthrough", 4 * KIB),), 0.90),
    Goal("premapped ÷ bounce, 1 MiB", (_pair("premapped", "bounce", MIB),), 0.10),
    Goal("premapped, file of ext4 ÷ raw namespace",
         tuple((IoCase("premapped", bs=bs, file="one"), _io("premapped", bs)) for bs in (4 * KIB, 512 * KIB)),
         1.03),
    Goal("premapped, file of ext4 in 1000 pieces ÷ raw namespace, 4 KiB",
         ((IoCase("premapped", file="many"), _io("premapped", 4 * KIB)),), 1.10),
    Goal("premapped ÷ ordinary, file of ext4, 4 KiB, strict IOMMU",
         ((IoCase("premapped", file="one"), IoCase("host", file="one")),), 0.45, ("strict",)),
    Goal("second MAP of the same dma-buf ÷ first, 256 MiB scattered",
         ((MapCase("again", "scattered", 256 * MIB), MapCase("first", "scattered", 256 * MIB)),),
         0.02),
    Goal("premapped ÷ ordinary, 4 KiB, scheduler none, no IOMMU",
         (_pair("premapped", "host", 4 * KIB),), 0.44, ("off",)),
    Goal("premapped ÷ ordinary, 4 KiB, scheduler none, strict IOMMU",
         (_pair("premapped", "host", 4 * KIB),), 0.27, ("strict",)),
    Goal("premapped ÷ passthrough with fixedbufs, 4 KiB, strict IOMMU",
         (_pair("premapped", "passthrough", 4 * KIB),), 0.33, ("strict",)),
    Goal("eight ranges of 4 KiB in one command, each ÷ a command",
         ((replace(ONE, ranges=8), ONE),), 0.70, ("strict",)),
    Goal("32 ranges of 4 KiB in one command, each ÷ a command",
         ((replace(ONE, ranges=32), ONE),), 0.60, ("strict",)),
    Goal("premapped ÷ ordinary, 4 KiB, a call for each",
         ((replace(ONE, each=True), replace(_io("host", 4 * KIB), each=True)),), 0.40, ("strict",)),
    Goal("8 MiB in 16 commands, each ÷ a command of 512 KiB",
         ((IoCase("premapped", bs=8 * MIB, depth=2, command=512 * KIB),
           IoCase("premapped", bs=512 * KIB, command=512 * KIB)),), 0.75, ("strict",), parts=16),
    Goal("premapped polled ÷ by interrupt, 4 KiB",
         ((replace(ONE, polled=True), ONE),), 0.95, ("strict",), beyond=1.12, noise=POLLED_NOISE),
    Goal("premapped ÷ ordinary, 4 KiB, both polled",
         ((replace(ONE, polled=True), replace(_io("host", 4 * KIB), polled=True)),), 0.30, ("strict",),
         noise=POLLED_NOISE),
    Goal("premapped, a buffer whose fences have signalled ÷ one without fences, 4 KiB",
         ((replace(ONE, memory="signalled"), replace(ONE, memory="unfenced")),), 1.03, ("strict",), beyond=1.13),
    # Of the system heap: how long an exporter takes for a scattered one is not ours to change.
    Goal("MAP of 64 x 1 MiB, each in one piece, in one call ÷ 64 calls",
         ((MapCase("batch", "heap", MIB, 64), MapCase("each", "heap", MIB, 64)),), 0.80),
)


@dataclass(frozen=True)
class Verdict:
    """One goal's worst pair: its ratio with a 95 % interval, where that was, and whether it holds.

    why: what is wrong besides the ratio, "" for nothing.
    """

    goal: Goal
    ratio: float
    interval: tuple[float, float]
    where: str
    why: str = ""

    @property
    def holds(self) -> bool:
        """The whole interval must; and a figure that is noise holds nothing."""
        return not self.why and self.interval[1] <= self.goal.most

    @property
    def decides(self) -> bool:
        """Is the exit status to be 0, as far as this goes?"""
        return self.holds or (not self.why and self.interval[1] <= self.goal.beyond)

    @property
    def word(self) -> str:
        """What a table says of it."""
        if self.holds:
            return "holds"
        if self.decides:
            return "beyond this module"
        return self.why or "MISSED"


def needed(iommu: str, goals: Sequence[Goal] = GOALS) -> list[Case]:
    """The cases to measure in a boot, each once."""
    wanted = (
        case for goal in goals if iommu in goal.boots for pair in goal.pairs for case in pair
    )
    return list(dict.fromkeys(wanted))


def _wrong(goal: Goal, cost: Sample, against: Sample) -> str:
    for sample in (cost, against):
        if sample.noisy(goal.noise):
            return f"{sample.case.label()}: repeats differ by more than {goal.noise:.0%}"
    if goal.one_command:
        for sample in (cost, against):
            commands = sample.other.get("commands", [])
            if not commands or any(count != 1 for count in commands):
                return f"{sample.case.label()}: not one command for each I/O"
    return ""


def _interval(goal: Goal, cost: Sample, against: Sample) -> tuple[float, float]:
    return stats.ratio_interval(against.values, [value / goal.parts for value in cost.values])


def judge(goal: Goal, boots: Mapping[str, Iterable[Sample]]) -> Verdict:
    """The worst among the goal's boots and pairs, by the end of its interval; KeyError when one was not measured."""
    found = {iommu: {sample.case: sample for sample in boots[iommu]} for iommu in goal.boots}
    verdicts = []
    for iommu in goal.boots:
        for cost_case, against_case in goal.pairs:
            cost, against = found[iommu][cost_case], found[iommu][against_case]
            verdicts.append(
                Verdict(
                    goal,
                    cost.median() / goal.parts / against.median(),
                    _interval(goal, cost, against),
                    f"{iommu}: {cost.median() / goal.parts:.0f} / {against.median():.0f}",
                    _wrong(goal, cost, against),
                )
            )
    return max(verdicts, key=lambda verdict: (bool(verdict.why), verdict.interval[1]))
