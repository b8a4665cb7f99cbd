# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on the measurements and their comparison: performance.*"""

from collections.abc import Iterable
from math import isnan
from statistics import median
from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from . import cases
from .judge_steady import tests
from .judge_tails import judge_tails
from .rules import Judged, has_figures, not_done, too_little, verdict
from .requirements import Requirements
from .store import Record

# Findings of measurements that other requirements fail with.
OTHERS = ("BOUNCED", "VRAM_MIGRATED")


def _paths(every: list[Record], state: dict[str, Any]) -> Judged:
    sums: list[Record] = [{**r, "findings": [o for o in r["findings"] if o["name"] not in OTHERS]}
            for r in every if r["requirement"] == "performance.paths"]
    return verdict("performance.paths", sums, every,
                   lambda ran: f"the sums of {len(ran)} measurements agree", state)


def medians(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[str, float]]:
    """By exporter, path and cell: the median of each figure over the repeats."""
    samples: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for record in records:
        if record["kind"] != "cell" or not has_figures(record):
            continue
        cell = record["id"].split("/")[-2]
        key = (record["exporter"], record["path"], cell)
        for figure, value in record["figures"].items():
            samples.setdefault(key, {}).setdefault(figure, []).append(value)
    return {key: {f: median(v) for f, v in figures.items()} for key, figures in samples.items()}


def _ratio(records: list[Record], state: dict[str, Any], needs: Requirements) -> Judged:
    name = "performance.ratio"
    if state.get("emulated"):
        return Judged(name, SKIP, "not applicable: the drive is emulated, its figures say nothing "
                      "about hardware")
    measured = [r for r in records if r["kind"] == "cell" and r["path"] != "bounce"]
    lost = [r["id"] for r in measured if not has_figures(r)]
    lost += not_done("performance.paths", records, state, needs)[0]
    by_case = medians(records)
    limits, evidence, bad = needs["performance"], [], []
    for (exporter, path, cell), figures in sorted(by_case.items()):
        control = by_case.get(("", "host", cell))
        if path in cases.CONTROLS or control is None:
            continue
        for figure, value in figures.items():
            if figure.endswith("_iops") and control.get(figure):
                ratio = value / control[figure]
                evidence.append((f"{exporter} {path} {cell} {figure}", f"{ratio:.3f}", "of host"))
                if isnan(ratio) or ratio < limits["least_iops_ratio"]:
                    bad.append(f"{exporter} {path} {cell}: {figure} is {ratio:.2f} of host memory's")
        if control.get("cpu_s_per_gib") and "cpu_s_per_gib" in figures:
            ratio = figures["cpu_s_per_gib"] / control["cpu_s_per_gib"]
            evidence.append((f"{exporter} {path} {cell} CPU", f"{ratio:.3f}", "of host"))
            if isnan(ratio) or ratio > limits["most_cpu_ratio"]:
                bad.append(f"{exporter} {path} {cell}: CPU time is {ratio:.2f} of host memory's")
    few = too_little(state, measured)
    if few and not lost:
        seen = f"; {bad[0]}" if bad else ""
        return Judged(name, SKIP if state.get("quick") else INCONCLUSIVE, f"not judged by {few}{seen}",
                      "run it without --quick, --repeats and --cell-seconds", evidence)
    if bad and not few:
        return Judged(name, FAIL, f"SLOWER: {bad[0]}", "see the comparison of datapaths", evidence,
                      0, ["SLOWER"])
    if not evidence or lost:
        what = f"{len(lost)} measurements are missing or not valid: {lost[0]}" if lost else "nothing was measured"
        return Judged(name, INCONCLUSIVE, what, "run it to the end (--resume)", evidence)
    return Judged(name, PASS, f"{len(evidence)} ratios within limits", "", evidence)


def performance(every: list[Record], state: dict[str, Any], needs: Requirements) -> list[Judged]:
    """performance.*"""
    return [
        _paths(every, state),
        *tests(every, state),
        _ratio(every, state, needs),
        judge_tails(every, state, needs),
    ]
