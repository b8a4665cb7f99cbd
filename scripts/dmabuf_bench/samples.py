# SPDX-License-Identifier: GPL-2.0-only
"""Figures of one boot, as the guest prints them: a line of JSON for each repeat of each case."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dmabuf_common import stats

from .cases import Case
from .errors import BenchError

# Relative MAD above which repeats of an instruction count are not the same thing measured again.
NOISY = 0.01


@dataclass
class Sample:
    """All repeats of one case in one boot; other: figures that go with it, by name."""

    case: Case
    values: list[float] = field(default_factory=list)
    other: dict[str, list[float]] = field(default_factory=dict)

    def median(self) -> float:
        """The figure."""
        return stats.median(self.values)

    def interval(self) -> tuple[float, float]:
        """Its bootstrap 95 % interval."""
        return stats.median_interval(self.values)

    def noisy(self, most: float = NOISY) -> bool:
        """Do the repeats differ by more than they may?"""
        return stats.relative_mad(self.values) > most


def parse(text: str, cases: Sequence[Case], repeats: int) -> list[Sample]:
    """Samples in the order of `cases`; BenchError unless every case has every repeat, once."""
    samples = [Sample(case) for case in cases]
    seen: set[tuple[int, int]] = set()
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            record = json.loads(line)
            number, repeat = int(record.pop("case")), int(record.pop("repeat"))
            value = float(record.pop("instructions"))
            other = {str(name): float(figure) for name, figure in record.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"the guest printed {line!r}, which is no figure") from error
        if not 0 <= number < len(samples) or (number, repeat) in seen:
            raise BenchError(f"the guest printed figures of case {number} that were not asked for")
        if not math.isfinite(value) or value <= 0:
            raise BenchError(f"{samples[number].case.label()}: {value:g} instructions")
        seen.add((number, repeat))
        samples[number].values.append(value)
        for name, figure in other.items():
            samples[number].other.setdefault(name, []).append(figure)
    for sample in samples:
        if len(sample.values) != repeats:
            raise BenchError(
                f"{sample.case.label()}: {len(sample.values)} of {repeats} repeats were measured"
            )
    return samples


def records(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """The samples for a JSON document."""
    return [
        {
            "case": sample.case.line(),
            "label": sample.case.label(),
            "instructions": sample.values,
            "median": sample.median(),
            "interval": list(sample.interval()),
            "other": sample.other,
        }
        for sample in samples
    ]
