# SPDX-License-Identifier: GPL-2.0-only
"""Figures as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from .goals import Verdict
from .samples import Sample


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns; the first row is the head. All but the first column are set to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def of_samples(samples: Sequence[Sample]) -> str:
    """One line for each case: median, interval, and how much the repeats differ."""
    rows = [("case", "instructions", "95 % interval", "")]
    for sample in samples:
        low, high = sample.interval()
        note = "noisy" if sample.noisy() else ""
        rows.append(
            (sample.case.label(), f"{sample.median():.0f}", f"{low:.0f} … {high:.0f}", note)
        )
    return grid(rows)


def of_fio(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each case: medians of what fio reported."""
    rows = [("case", "IOPS", "95 % interval", "mean µs", "p99 µs", "CPU µs per I/O")]
    for record in records:
        median, (low, high) = record["median"], record["interval"]
        rows.append(
            (
                record["label"],
                f"{median['iops']:.0f}",
                f"{low:.0f} … {high:.0f}",
                f"{median['mean_ns'] / 1000:.0f}",
                f"{median['p99_ns'] / 1000:.0f}",
                f"{median['cpu_us']:.1f}",
            )
        )
    return grid(rows)


def of_verdicts(verdicts: Sequence[Verdict]) -> str:
    """One line for each goal: goal, figure, interval, the two figures, and the word that counts."""
    rows = [("case", "goal", "figure", "95 % interval", "instructions", "")]
    for verdict in verdicts:
        low, high = verdict.interval
        rows.append(
            (
                verdict.goal.name,
                f"<= {verdict.goal.most:.2f}",
                f"{verdict.ratio:.3f}",
                f"{low:.3f} … {high:.3f}",
                verdict.where,
                verdict.word,
            )
        )
    return grid(rows)
