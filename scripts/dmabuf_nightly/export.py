# SPDX-License-Identifier: GPL-2.0-only
"""The history as CSV, one file per series and one row per night, for tools such as Apache Otava."""

import csv
import io
import json
from pathlib import Path

from dmabuf_common import clock, files, stats, verdict
from dmabuf_report.tidy import cell

from . import acknowledge
from .plan import metric_kind
from .store import Run, Series, Store

ATTRIBUTES = ("night", "label", "runs")


def _safe(series: Series) -> str:
    return "-".join(part for part in (series.test, series.side, series.host) if part)


def tables(store: Store, plan: str) -> dict[Series, list[dict[str, str]]]:
    """Rows by series: time, attributes and the median of each metric over the valid runs of the
    latest machine and job. Runs of others would look like a change."""
    groups: dict[Series, dict[int, list[Run]]] = {}
    nights = {night.id: night for night in store.nights(plan)}
    for number in nights:
        for run in store.runs(number, 0):
            if run.valid:
                groups.setdefault(run.series, {}).setdefault(number, []).append(run)
    made: dict[Series, list[dict[str, str]]] = {}
    for series, by_night in groups.items():
        latest = by_night[max(by_night)][-1]
        rows = []
        for number, runs in sorted(by_night.items()):
            mine = [run for run in runs if store.alike(latest, run)]
            if not mine:
                continue
            row = {
                "time": nights[number].started.replace("Z", "+00:00"),
                "night": str(number),
                "label": cell(nights[number].label),
                "runs": str(len(mine)),
            }
            for name in sorted({name for run in mine for name in run.metrics}):
                values = [run.metrics[name] for run in mine if name in run.metrics]
                row[name] = f"{stats.median(values):.10g}"
            rows.append(row)
        made[series] = rows
    return made


def label_text(text: str) -> str:
    """The value of a label in OpenMetrics."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{label_text(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value:.10g}"


def open_metrics(store: Store, plan: str) -> str:
    """The last judged night of a plan in the OpenMetrics text format, which Prometheus's node exporter
    takes from a file, too. "" when none was judged."""
    nights = [night for night in store.nights(plan) if night.status in verdict.STATUSES]
    if not nights:
        return ""
    night = nights[-1]
    by_series: dict[Series, list[Run]] = {}
    for run in store.runs(night.id, 0):
        if run.valid:
            by_series.setdefault(run.series, []).append(run)

    def labels(series: Series, metric: str) -> dict[str, str]:
        return {"plan": plan, "case": series.test, "side": series.side, "host": series.host,
                "metric": metric}

    families: dict[str, tuple[str, list[tuple[dict[str, str], float]]]] = {
        "value": ("The median of the night's valid runs.", []),
        "ratio": ("The value as a share of what it is compared with.", []),
        "slower": ("1 where a slow-down is confirmed and not acknowledged.", []),
        "status": ("1 for what the night came to.", []),
        "night": ("The number of the night.", [({"plan": plan}, night.id)]),
        "start_timestamp_seconds": ("When the night began.",
                                    [({"plan": plan}, clock.seconds(night.started))]),
    }
    for series, runs in by_series.items():
        for metric in sorted({name for run in runs for name in run.metrics}):
            values = [run.metrics[metric] for run in runs if metric in run.metrics]
            unit = {"unit": metric_kind(metric)[0]}
            families["value"][1].append(({**labels(series, metric), **unit}, stats.median(values)))
    for row in store.decisions(night.id):
        about = labels(Series(row["test"], row["side"], row["host"]), row["metric"])
        about["against"] = row["against"]
        if row["document"].get("ratio"):
            families["ratio"][1].append((about, row["document"]["ratio"]))
        slower = row["state"] == acknowledge.CONFIRMED and not row["document"].get("acknowledged")
        families["slower"][1].append((about, float(slower)))
    for status in verdict.STATUSES:
        families["status"][1].append(({"plan": plan, "status": status}, float(night.status == status)))
    lines = []
    for name, (text, samples) in families.items():
        full = f"dmabuf_nightly_{name}"
        lines += [f"# TYPE {full} gauge", f"# HELP {full} {text}"]
        lines += [_sample(full, about, value) for about, value in samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


def write(store: Store, plan: str, folder: Path) -> list[Path]:
    """Writes SERIES.csv for each series, and otava.yaml, which names them all. A metric that one of
    the nights has no value for is left out: the reader would take the gap for a number."""
    files.own_folder(folder)
    written = []
    tests = ["tests:"]
    for series, rows in sorted(tables(store, plan).items(), key=lambda item: _safe(item[0])):
        path = folder / f"{_safe(series)}.csv"
        metrics = sorted(set.intersection(*(set(row) for row in rows)) - {"time", *ATTRIBUTES})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["time", *ATTRIBUTES, *metrics], extrasaction="ignore",
                                lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.replace(path, text.getvalue())
        written.append(path)
        tests += [
            f'  "{_safe(series)}":',
            "    type: csv",
            # A string of JSON is one of YAML.
            f"    file: {json.dumps(str(path.resolve()), ensure_ascii=False)}",
            "    time_column: time",
            "    attributes: [night, label]",
            "    metrics:",
        ]
        for metric in metrics:
            direction = 1 if metric_kind(metric)[1] == "higher" else -1
            tests += [f'      "{metric}":', f"        column: {metric}", f"        direction: {direction}"]
    if written:
        path = folder / "otava.yaml"
        files.replace(path, "\n".join(tests) + "\n")
        written.append(path)
    return written
