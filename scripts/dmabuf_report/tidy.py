# SPDX-License-Identifier: GPL-2.0-only
"""Tidy CSV: one row per sample, percentile, comparison and point of a history."""

import csv
import io

from .model import Results

COLUMNS = (
    "kind", "case", "host", "side", "datapath", "exporter", "block_bytes", "depth",
    "metric", "unit", "time", "sample", "value", "low", "high", "status",
)


def cell(text: str) -> str:
    """Text for a cell, which a spreadsheet must not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def render(results: Results) -> str:
    """The whole document as CSV. kind: sample, median, sum, percentile, comparison or history."""
    rows: list[dict[str, object]] = []
    for m in results.measurements:
        common: dict[str, object] = {
            "case": m.case, "host": m.host, "side": m.side, "datapath": m.datapath,
            "exporter": m.exporter, "block_bytes": m.block_bytes, "depth": m.depth,
            "status": m.status,
        }
        for metric in m.metrics:
            base: dict[str, object] = {**common, "metric": metric.name, "unit": metric.unit}
            for number, sample in enumerate(metric.samples, 1):
                rows.append({**base, "kind": "sample", "sample": number, "value": sample})
            rows.append(
                {**base, "kind": "median", "value": metric.value,
                 "low": metric.low, "high": metric.high}
            )
        counts = m.commands.__dict__ if m.commands else {}
        for name, value in {**{f"commands_{name}": count for name, count in counts.items()},
                            "cpu_percent": m.cpu_percent}.items():
            if value is not None:
                unit = {"cpu_percent": "%", "commands_bytes": "B"}.get(name, "")
                rows.append({**common, "kind": "median" if unit == "%" else "sum", "metric": name,
                                 "unit": unit, "value": value})
        for latency in m.latencies:
            for p in latency.percentiles:
                name = f"{latency.direction}_clat_p{p.percentile:g}"
                rows.append(
                    {**common, "kind": "percentile", "metric": name, "unit": "ns", "value": p.ns}
                )
    for c in results.comparisons:
        rows.append(
            {"kind": "comparison", "case": c.case, "host": c.host, "metric": c.metric,
             "unit": "ratio", "value": c.ratio, "low": c.low, "high": c.high, "status": c.state}
        )
    for h in results.histories:
        for point in h.points:
            rows.append(
                {"kind": "history", "case": h.case, "host": h.host, "side": h.side,
                 "datapath": h.datapath, "depth": h.depth,
                 "metric": h.metric, "unit": h.unit, "time": point.time, "value": point.value}
            )
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: cell(value) if isinstance(value, str) else value for name, value in row.items()})
    return out.getvalue()
