# SPDX-License-Identifier: GPL-2.0-only
"""Two runs side by side: verdicts that changed, figures whose ranges do not overlap."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import judge, results
from .errors import QualError
from .store import Record

FLOOR = 0.02


@dataclass(frozen=True)
class Change:
    """One difference. worse: None where that is not to be said."""

    name: str
    text: str
    worse: bool | None


def _samples(records: dict[str, Record]) -> dict[tuple[str, ...], list[float]]:
    samples: dict[tuple[str, ...], list[float]] = {}
    for record in records.values():
        if record["kind"] != "cell" or record["findings"] or "figures" not in record:
            continue
        cell = record["id"].split("/")[-2]
        for figure, value in record["figures"].items():
            key = (record["exporter"], record["path"], cell, figure)
            samples.setdefault(key, []).append(float(value))
    return samples


def figures(old: dict[str, Record], new: dict[str, Record]) -> tuple[list[Change], int]:
    """Figures that changed, and how many could be compared.

    Changed: the ranges of at least three runs each do not overlap, and the medians differ by more
    than the floor.
    """
    before, after = _samples(old), _samples(new)
    changed, compared = [], 0
    for key in sorted(before.keys() & after.keys()):
        a, b = before[key], after[key]
        if min(len(a), len(b)) < 3:
            continue
        compared += 1
        ratio = median(b) / median(a) if median(a) else 1.0
        if (max(a) < min(b) or max(b) < min(a)) and abs(ratio - 1) > FLOOR:
            lower_is_better = key[-1].endswith(("_us", "_gib", "_ms"))
            text = f"{median(a):.4g} → {median(b):.4g} (x {ratio:.3f})"
            changed.append(Change(" ".join(key).strip(), text, (ratio > 1) == lower_is_better))
    return changed, compared


def compare(old: Path, new: Path, force: bool) -> tuple[list[Change], list[str]]:
    """Changes and notes; QualError when the runs must not be compared."""
    run_a, records_a = results.load(old)
    run_b, records_b = results.load(new)
    notes = []
    if run_a["comparability_key"] != run_b["comparability_key"]:
        a, b = ({n: v for n, v, role in run["environment"] if role == "key"} for run in (run_a, run_b))
        differ = [f"{n}: {a.get(n)} / {b.get(n)}" for n in a if a.get(n) != b.get(n)]
        why = "; ".join(differ) or "exporters or scale"
        if not force:
            raise QualError(f"the runs are not comparable ({why}); --force compares them all the same")
        notes.append(f"compared by force: {why}")
    changes = []
    verdicts_a = {v.id: v for v in judge.judge(records_a, run_a, run_a["requirements"])}
    for after in judge.judge(records_b, run_b, run_b["requirements"]):
        before = verdicts_a[after.id]
        if before.status != after.status:
            worse = {judge.PASS: 0, judge.SKIP: 1, judge.INCONCLUSIVE: 2, judge.FAIL: 3}
            changes.append(Change(after.id, f"{before.status} → {after.status}: {after.text}",
                                  worse[after.status] > worse[before.status]))  # fmt: skip
    moved, compared = figures(records_a, records_b)
    if not compared:
        notes.append("no figure was measured three times in both: figures were not compared")
    else:
        notes.append(f"{compared} figures compared, {len(moved)} changed")
    return changes + moved, notes
