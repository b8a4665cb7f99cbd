# SPDX-License-Identifier: GPL-2.0-only
"""Tidy CSV: one row per sample, percentile, comparison and point of a history."""

import csv
import io

from .model import Results

COLUMNS = (
    "kind", "case", "host", "side", "datapath", "exporter", "block_bytes", "depth",
    "metric", "unit", "time", "sample", "value", "low", "high", "status",
)  # fmt: skip


def render(results: Results) -> str:
    """The whole document as CSV. kind: sample, median, percentile, comparison or history."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for m in results.measurements:
        common: dict[str, object] = {
            "case": m.case, "host": m.host, "side": m.side, "datapath": m.datapath,
            "exporter": m.exporter, "block_bytes": m.block_bytes, "depth": m.depth,
            "status": m.status,
        }  # fmt: skip
        for metric in m.metrics:
            base: dict[str, object] = {**common, "metric": metric.name, "unit": metric.unit}
            for number, sample in enumerate(metric.samples, 1):
                writer.writerow({**base, "kind": "sample", "sample": number, "value": sample})
            writer.writerow(
                {**base, "kind": "median", "value": metric.value,
                 "low": metric.low, "high": metric.high}
            )  # fmt: skip
        for latency in m.latencies:
            for p in latency.percentiles:
                name = f"{latency.direction}_clat_p{p.percentile:g}"
                writer.writerow(
                    {**common, "kind": "percentile", "metric": name, "unit": "ns", "value": p.ns}
                )
    for c in results.comparisons:
        writer.writerow(
            {"kind": "comparison", "case": c.case, "host": c.host, "metric": c.metric,
             "unit": "ratio", "value": c.ratio, "low": c.low, "high": c.high, "status": c.state}
        )  # fmt: skip
    for h in results.histories:
        for point in h.points:
            writer.writerow(
                {"kind": "history", "case": h.case, "host": h.host, "side": h.side,
                 "metric": h.metric, "unit": h.unit, "time": point.time, "value": point.value}
            )  # fmt: skip
    return out.getvalue()
