# SPDX-License-Identifier: GPL-2.0-only
"""The history as CSV, one file per series and one row per night, for tools such as Apache Otava."""

import csv
from pathlib import Path

from dmabuf_common import stats

from .plan import metric_kind
from .store import Run, Series, Store

ATTRIBUTES = ("night", "label", "runs")


def _safe(series: Series) -> str:
    return "-".join(part for part in (series.test, series.side, series.host) if part)


def tables(store: Store, plan: str) -> dict[Series, list[dict[str, str]]]:
    """Rows by series: time, attributes and the median of each metric over the valid runs of the
    latest machine. Runs of other machines have another key and would look like a change."""
    groups: dict[Series, dict[int, list[Run]]] = {}
    nights = {night.id: night for night in store.nights(plan)}
    for number in nights:
        for run in store.runs(number, 0):
            if run.valid:
                groups.setdefault(run.series, {}).setdefault(number, []).append(run)
    made: dict[Series, list[dict[str, str]]] = {}
    for series, by_night in groups.items():
        latest = by_night[max(by_night)][-1].key
        rows = []
        for number, runs in sorted(by_night.items()):
            mine = [run for run in runs if store.comparable(run.key, latest)]
            if not mine:
                continue
            row = {
                "time": nights[number].started.replace("Z", "+00:00"),
                "night": str(number),
                "label": nights[number].label,
                "runs": str(len(mine)),
            }
            for name in sorted({name for run in mine for name in run.metrics}):
                values = [run.metrics[name] for run in mine if name in run.metrics]
                row[name] = f"{stats.median(values):.10g}"
            rows.append(row)
        made[series] = rows
    return made


def write(store: Store, plan: str, folder: Path) -> list[Path]:
    """Writes SERIES.csv for each series, and otava.yaml, which names them all. A metric that one of
    the nights has no value for is left out: the reader would take the gap for a number."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    tests = ["tests:"]
    for series, rows in sorted(tables(store, plan).items(), key=lambda item: _safe(item[0])):
        path = folder / f"{_safe(series)}.csv"
        metrics = sorted(set.intersection(*(set(row) for row in rows)) - {"time", *ATTRIBUTES})
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["time", *ATTRIBUTES, *metrics], extrasaction="ignore",
                                    lineterminator="\n")  # fmt: skip
            writer.writeheader()
            writer.writerows(rows)
        written.append(path)
        tests += [
            f'  "{_safe(series)}":',
            "    type: csv",
            f'    file: "{path.resolve()}"',
            "    time_column: time",
            "    attributes: [night, label]",
            "    metrics:",
        ]
        for metric in metrics:
            direction = 1 if metric_kind(metric)[1] == "higher" else -1
            tests += [f'      "{metric}":', f"        column: {metric}", f"        direction: {direction}"]
    if written:
        path = folder / "otava.yaml"
        path.write_text("\n".join(tests) + "\n")
        written.append(path)
    return written
