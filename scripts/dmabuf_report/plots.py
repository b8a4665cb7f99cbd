# SPDX-License-Identifier: GPL-2.0-only
"""Plots as SVG text to be put into the page: nothing in them refers to anything outside."""

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

import matplotlib
import matplotlib.dates
from matplotlib.figure import Figure

from dmabuf_common.sizes import size_text

from .bins import LEAST_BEYOND
from .model import History, Latency, Measurement, Results

# Distinguishable with the usual colour blindness (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
MARKERS = "osD^vP*X"
BAD, GOOD, GREY = "#c0392b", "#1e8449", "#6b7280"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


# A $ in a name is a $, and begins no formula: texts take this as it is when they are made.
matplotlib.rcParams["text.parse_math"] = False


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, which="major", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The figure's SVG element. Its ids are made from `name`, so that two on a page never meet."""
    salt = hashlib.sha256(name.encode()).hexdigest()
    out = io.StringIO()
    settings = {"svg.fonttype": "path", "svg.hashsalt": salt}
    with matplotlib.rc_context(settings):
        figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Ids that do not come from the hash: groups and glyphs, which are the same names in every plot.
    prefix = f"f{salt[:8]}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:href|href)="#', rf'\1="#{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}")
    return text.replace("<svg ", '<svg role="img" ', 1)


def time_text(ns: float, _: object = None) -> str:
    """A latency as people say it: 85 µs, 1.2 ms."""
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")):
        if ns < limit:
            return f"{ns / divisor:.3g} {unit}"
    return f"{ns / 1e9:.3g} s"


def count_text(count: float, _: object = None) -> str:
    """A count on an axis: 250, 1.5k, 20M, 3G."""
    for divisor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= divisor:
            return f"{count / divisor:g}{unit}"
    return f"{count:g}"


def _plain_ticks(axes: Any, values: list[float], text: Callable[[float], str]) -> None:
    """Ticks at 1, 2 and 5 of each decade, or the decades alone, on a logarithmic y axis."""
    low, high = min(values) * 0.7, max(values) * 1.4
    ticks = [m * 10.0**e for e in range(-3, 16) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    axes.set_yticks(ticks, [text(tick) for tick in ticks])


def lane(m: Measurement) -> str:
    """How a measurement is called in a legend."""
    words = [m.datapath, m.exporter and f"({m.exporter})", m.side, m.host and f"on {m.host}"]
    return " ".join(word for word in words if word)


def _curve(latency: Latency) -> tuple[list[float], list[float]]:
    """Survival (share of samples beyond) over ns, as far as enough samples lie beyond."""
    x, y, seen = [], [], 0.0
    for ns, number in latency.bins:
        seen += number
        beyond = latency.samples - seen
        if beyond < LEAST_BEYOND:
            break
        x.append(ns)
        y.append(beyond / latency.samples)
    return x, y


def latency_curves(case: str, measurements: list[Measurement]) -> str | None:
    """Latency over percentile, one line per datapath and direction; None when nothing to draw."""
    curves = []
    for m in measurements:
        for latency in m.latencies:
            ns, beyond = _curve(latency)
            if len(ns) >= 2:
                label = lane(m) + (f", {latency.direction}" if len(m.latencies) > 1 else "")
                curves.append((label, ns, beyond))
    if not curves:
        return None
    figure, axes = _figure(5.8, 3.4)
    deepest = min(min(beyond) for _, _, beyond in curves)
    for number, (label, ns, beyond) in enumerate(curves):
        axes.plot([1 / b for b in beyond], ns, label=label, linewidth=1.8, drawstyle="steps-post",
                  color=COLOURS[number % len(COLOURS)],
                  linestyle="-" if number < len(COLOURS) else "--")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = [p for p in (50.0, 90.0, 99.0, 99.9, 99.99, 99.999) if (100 - p) / 100 >= deepest * 0.7]
    axes.set_xlim(left=1)
    axes.set_xticks([1, *(100 / (100 - p) for p in shown)], ["0", *(f"{p:g}" for p in shown)])
    axes.minorticks_off()
    _plain_ticks(axes, [ns for c in curves for ns in c[1]], time_text)
    axes.set_xlabel("percentile")
    axes.set_ylabel("completion latency")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, f"latency {case}")


def sweep(measurements: list[Measurement], metric: str) -> str | None:
    """A metric over block size, one line per datapath; None without two block sizes."""
    series: dict[str, list[tuple[int, float, float, float]]] = defaultdict(list)
    unit = ""
    for m in measurements:
        for found in m.metrics:
            if found.name == metric and m.block_bytes:
                low = found.value if found.low is None else found.low
                high = found.value if found.high is None else found.high
                label = lane(m) + (f", depth {m.depth}" if m.depth else "")
                series[label].append((m.block_bytes, found.value, low, high))
                unit = found.unit
    sizes = sorted({point[0] for points in series.values() for point in points})
    if len(sizes) < 2:
        return None
    figure, axes = _figure(5.8, 3.4)
    for number, (label, points) in enumerate(sorted(series.items())):
        points.sort()
        x, value = [p[0] for p in points], [p[1] for p in points]
        spread = [[p[1] - p[2] for p in points], [p[3] - p[1] for p in points]]
        axes.errorbar(x, value, yerr=spread, label=label, linewidth=1.6, markersize=5, capsize=3,
                      marker=MARKERS[number % len(MARKERS)],
                      color=COLOURS[number % len(COLOURS)])  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks(sizes, [size_text(size) for size in sizes])
    _plain_ticks(axes, [p[1] for points in series.values() for p in points], count_text)
    axes.set_xlabel("block size")
    axes.set_ylabel(f"{metric} ({unit})" if unit and unit != metric else metric)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, f"sweep {metric}")


def history(h: History) -> str | None:
    """A metric over nights with its baseline and change points; None for less than two nights."""
    if len(h.points) < 2:
        return None
    figure, axes = _figure(5.8, 2.6)
    times = [datetime.fromisoformat(p.time.replace("Z", "+00:00")) for p in h.points]
    days: Any = matplotlib.dates.date2num(times)
    axes.plot(days, [p.value for p in h.points], marker="o", markersize=4, linewidth=1,
              color=COLOURS[0])  # fmt: skip
    if h.baseline is not None:
        axes.axhline(h.baseline, color=GREY, linestyle="--", linewidth=1, label="pinned baseline")
    worse = {"higher": -1, "lower": 1}.get(h.better, 0)
    named = set()
    for change in h.change_points:
        delta = change.after - change.before
        bad = delta * worse > 0
        label = "change for the worse" if bad else "change for the better"
        axes.axvline((days[change.index - 1] + days[change.index]) / 2,
                     color=BAD if bad else GOOD, linewidth=1.4,
                     label=None if label in named else label)  # fmt: skip
        named.add(label)
        axes.annotate(f"{delta / change.before:+.1%}" if change.before else f"{delta:+.3g}",
                      (days[change.index], 0.96), xycoords=("data", "axes fraction"), va="top",
                      xytext=(4, 0), textcoords="offset points",
                      fontsize=8, color=BAD if bad else GOOD)  # fmt: skip
    locator = matplotlib.dates.AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    axes.margins(y=0.2)
    # No common factor in the corner: 1.12M reads better than 1.12 below a 1e6.
    text = time_text if h.unit == "ns" else count_text
    axes.yaxis.set_major_formatter(text)
    axes.set_ylabel(h.metric + (f" ({h.unit})" if h.unit not in ("", "ns") else ""), fontsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return _svg(figure, f"history {h.case} {h.metric} {h.host} {h.side}")


def all_of(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Every plot of the document: section → (title, SVG)."""
    by_case: dict[str, list[Measurement]] = defaultdict(list)
    for m in results.measurements:
        by_case[m.case].append(m)
    names = dict.fromkeys(f.name for m in results.measurements for f in m.metrics)
    wanted = [name for name in names if name.endswith("iops")] + [
        name for name in names if name.endswith("bandwidth")
    ]
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, plots in (
        ("Over block size", [(name, sweep(results.measurements, name)) for name in wanted]),
        ("Latency", [(case, latency_curves(case, ms)) for case, ms in by_case.items()]),
        (
            "History",
            [
                (" ".join(filter(None, (h.case, h.metric, h.side, h.host))), history(h))
                for h in results.histories
            ],
        ),
    ):
        drawn = [(name, svg) for name, svg in plots if svg is not None]
        if drawn:
            sections[title] = drawn
    return sections
