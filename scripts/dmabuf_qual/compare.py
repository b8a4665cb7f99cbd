# SPDX-License-Identifier: GPL-2.0-only
"""Two runs side by side: verdicts that changed, figures whose ratio is not 1 by a bootstrap interval."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import judge, requirements, results, rules
from .errors import QualError
from .store import Record

FLOOR = 0.02
LEAST_REPEATS = 5
# Of all the figures that are compared, together.
LEVEL = 0.95


@dataclass(frozen=True)
class Change:
    """One difference. worse: None where that is not to be said."""

    name: str
    text: str
    worse: bool | None


def _samples(records: dict[str, Record]) -> dict[tuple[str, ...], list[float]]:
    samples: dict[tuple[str, ...], list[float]] = {}
    for record in records.values():
        if record["kind"] != "cell" or not rules.has_figures(record):
            continue
        cell = record["id"].split("/")[-2]
        for figure, value in record["figures"].items():
            key = (record["exporter"], record["path"], cell, figure)
            samples.setdefault(key, []).append(float(value))
    return samples


def _statistics() -> ModuleType:
    """What dmabuf-nightly decides with, too; QualError where its Debian packages are not."""
    try:
        from dmabuf_common import stats
    except ImportError as error:
        raise QualError(
            f"comparing figures needs {error.name}: apt-get install python3-numpy python3-scipy"
        ) from error
    return stats


@dataclass(frozen=True)
class Figures:
    """Figures that changed, how many were compared, and how many of those would seem to have
    changed by chance if nothing had: at most this many on average."""

    changed: list[Change]
    compared: int
    by_chance: float


def figures(old: dict[str, Record], new: dict[str, Record]) -> Figures:
    """Compares what was measured five times or more in both runs.

    Changed: the bootstrap interval of the ratio of medians excludes 1, at 95 % for all figures
    together, and the ratio is off 1 by more than the floor.
    """
    stats = _statistics()
    before, after = _samples(old), _samples(new)
    common = {}
    for key in sorted(before.keys() & after.keys()):
        a, b = before[key], after[key]
        if min(len(a), len(b)) >= LEAST_REPEATS and min(*a, *b) > 0:
            common[key] = (a, b)
    changed, by_chance = [], 0.0
    for key, (a, b) in common.items():
        miss = (1 - LEVEL) / len(common)
        low, high = stats.ratio_interval(a, b, 1 - miss)
        # No interval of so few values can be wrong more seldom than that all of one run lie on
        # one side of all of the other.
        by_chance += max(miss, stats.least_p(len(a), len(b)))
        ratio = median(b) / median(a)
        if (low > 1 or high < 1) and abs(ratio - 1) > FLOOR:
            lower_is_better = key[-1].endswith(("_us", "_gib", "_ms"))
            text = (f"{median(a):.4g} → {median(b):.4g} (x {ratio:.3f}, interval {low:.3f} … "
                    f"{high:.3f})")
            changed.append(Change(" ".join(key).strip(), text, (ratio > 1) == lower_is_better))
    return Figures(changed, len(common), by_chance)


def _datapaths(old: Record, new: Record) -> list[Change]:
    """Datapaths that work in one of two runs, of the exporters that were tried in both."""
    before, after = rules.works(old), rules.works(new)
    changes = []
    for exporter in before.keys() & after.keys():
        for path in set(before[exporter]) ^ set(after[exporter]):
            gone = path in before[exporter]
            there = new if gone else old
            why = there["paths"][exporter].get(path, {}).get("text", "")
            text = f"worked and does not work any more: {why}" if gone else "works, and did not before"
            changes.append(Change(f"{exporter} {path}", text, gone))
    return sorted(changes, key=lambda change: change.name)


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
    if run_a["requirements"] != run_b["requirements"]:
        a, b = (requirements.flat(run["requirements"]) for run in (run_a, run_b))
        differ = [f"{name}: {a[name]} / {b[name]}" for name in b if a[name] != b[name]]
        notes.append(f"both are judged by the thresholds of the second ({'; '.join(differ)})")
    changes = []
    verdicts_a = {v.id: v for v in judge.judge(records_a, run_a, run_b["requirements"])}
    for after in judge.judge(records_b, run_b, run_b["requirements"]):
        before = verdicts_a.pop(after.id, None)
        if before is None:
            notes.append(f"{after.id} was judged in the second run alone: {after.status}")
        elif before.status != after.status:
            worse = {PASS: 0, SKIP: 1, INCONCLUSIVE: 2, FAIL: 3}
            changes.append(Change(after.id, f"{before.status} → {after.status}: {after.text}",
                                  worse[after.status] > worse[before.status]))
        elif after.status == FAIL:
            new_names = sorted(set(after.names) - set(before.names))
            if new_names:
                changes.append(Change(after.id, f"fails with {', '.join(new_names)}, too: {after.text}", True))
    notes += [f"{name} was judged in the first run alone: {before.status}" for name, before in verdicts_a.items()]
    changes += _datapaths(run_a, run_b)
    found = figures(records_a, records_b)
    if not found.compared:
        notes.append(f"no figure was measured {LEAST_REPEATS} times in both: figures were not compared")
    else:
        notes.append(f"{found.compared} figures compared, {len(found.changed)} changed; if nothing had, "
                     f"{found.by_chance:.1f} would seem to on average at most")
    return changes + found.changed, notes
