# SPDX-License-Identifier: GPL-2.0-only
"""Plots as SVG text to be put into the page: nothing in them refers to anything outside."""

import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import matplotlib
import matplotlib.dates
from markupsafe import escape
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dmabuf_common.sizes import size_text

from .bins import LEAST_BEYOND
from .looks import Looks
from .model import History, Latency, Measurement, Results

BAD, GOOD, GREY = "#c0392b", "#1e8449", "#6b7280"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
# How dark a bar is for each filling of a marker.
SHADES = {"full": 1.0, "none": 0.0, "left": 0.6, "right": 0.3, "top": 0.8, "bottom": 0.15}
ROW = 0.18  # inches of a line of a legend


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
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(name)}" ', 1)


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


def _plain_ticks(axes: Any, values: list[float], text: Callable[[float], str], axis: str = "y") -> None:
    """Round ticks on a logarithmic axis: as many steps of a decade as it takes for three to be seen, and the
    decades alone where there are many."""
    low, high = min(values) * 0.7, max(values) * 1.4
    ticks: list[float] = []
    for steps in ((1.0,), (1.0, 2.0, 5.0), tuple(range(1, 10)), tuple(n / 2 for n in range(2, 20))):
        ticks = [step * 10.0**e for e in range(-3, 16) for step in steps if low <= step * 10.0**e <= high]
        if len(ticks) >= 3:
            break
    place, limits = (axes.set_yticks, axes.set_ylim) if axis == "y" else (axes.set_xticks, axes.set_xlim)
    place(ticks, [text(tick) for tick in ticks])
    limits(min(low, ticks[0]) if ticks else low, high)


def variant(m: Measurement) -> str:
    """What tells a measurement from another of its case, datapath and depth."""
    return " ".join(word for word in (m.exporter, m.side, m.host and f"on {m.host}") if word)


Series = tuple[str, int | None, str]


def series_of(m: Measurement) -> Series:
    """The series that a measurement is a point of."""
    return m.datapath, m.depth, variant(m)


def looks_of(results: Results) -> Looks:
    """The looks of all that is drawn in a report."""
    series = [series_of(m) for m in results.measurements]
    words = [word for word in ("side", "host") if any(getattr(m, word) for m in results.measurements)]
    return Looks([*series, *((h.datapath, h.depth, "") for h in results.histories)], ", ".join(["memory", *words]))


def _legend(figure: Figure, looks: Looks, shown: list[Series], depths: bool = True) -> None:
    """A column for the colours, one for line styles and markers, one for fillings."""
    columns: list[tuple[str, list[tuple[str, Line2D]]]] = []
    paths = sorted({path for path, _, _ in shown})
    columns.append(("datapath", [
        (_short(path, 24), Line2D([], [], color=looks.colour[path], linewidth=3)) for path in paths
    ]))
    known = sorted({depth for _, depth, _ in shown if depth is not None})
    if known and depths:
        lines = []
        for depth in known:
            marker, dashes = looks.style[depth]
            lines.append((str(depth), Line2D([], [], color=GREY, marker=marker, markersize=5, linestyle=dashes)))
        columns.append(("queue depth", lines))
    variants = sorted({variant for _, _, variant in shown} - {""})
    if variants:
        lines = []
        # Two that would be the same are not shortened.
        short = {name: _short(name, 40) for name in variants}
        names = short if len(set(short.values())) == len(short) else {name: name for name in variants}
        for name in variants:
            filling, size = looks.of_variant(name)
            lines.append((names[name], Line2D([], [], color=GREY, marker="o", markersize=5.5 * size,
                                                   fillstyle=filling, linestyle="")))
        columns.append((looks.heading, lines))
    rows = max(len(lines) for _, lines in columns)
    nothing = Line2D([], [], linestyle="")
    handles: list[Line2D] = []
    labels: list[str] = []
    heads: list[int] = []
    for title, lines in columns:
        heads.append(len(labels))
        handles += [nothing, *(line for _, line in lines), *[nothing] * (rows - len(lines))]
        labels += [title, *(name for name, _ in lines), *[""] * (rows - len(lines))]
    size = 8.0
    # Long names make the legend smaller, and are not cut.
    while (made := _columns(figure, handles, labels, heads, size)) and size > 4:
        wide = made.get_window_extent().width / (figure.get_figwidth() * figure.get_dpi())
        if wide <= 0.98:
            break
        made.remove()
        size *= min(0.97, 0.97 / wide)
    _leave_room(figure, _legend_height(shown))


def _columns(
    figure: Figure, handles: list[Line2D], labels: list[str], heads: list[int], size: float
) -> Any:
    """A legend whose entries of these numbers are the heads of its columns."""
    made = figure.legend(handles, labels, loc="lower left", ncols=len(heads), frameon=False,
                         fontsize=size, handlelength=3.5, labelspacing=0.35)
    for number in heads:
        made.get_texts()[number].set_fontweight("bold")
    return made


def _leave_room(figure: Figure, inches: float) -> None:
    """Keeps the axes above a legend at the foot of the figure."""
    share = inches / figure.get_figheight()
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, share, 1, 1 - share))


def _legend_height(shown: list[Series]) -> float:
    """Inches that the legend of these series takes."""
    return ROW * (1.6 + max(len({one[n] for one in shown}) for n in range(3)))


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


def latency_curves(looks: Looks, name: str, measurements: list[Measurement], way: str) -> str | None:
    """Latency of one direction over percentile, one line per series; None when nothing to draw."""
    curves = []
    for m in measurements:
        for latency in m.latencies:
            ns, beyond = _curve(latency)
            if latency.direction == way and len(ns) >= 2:
                curves.append((series_of(m), ns, beyond))
    if not curves:
        return None
    shown = [series for series, _, _ in curves]
    figure, axes = _figure(5.8, 2.8 + _legend_height(shown))
    deepest = min(min(beyond) for _, _, beyond in curves)
    for number, (series, ns, beyond) in enumerate(curves):
        # Some markers on the way, not all at the same places.
        axes.plot([1 / b for b in beyond], ns, drawstyle="steps-post",
                  markevery=(0.03 + 0.02 * (number % 5), 0.15), **looks.of(*series).words())
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [p for p in (50.0, 90.0, 99.0, 99.9, 99.99, 99.999) if (100 - p) / 100 >= deepest * 0.7]
    axes.set_xlim(left=1)
    axes.set_xticks([1, *(100 / (100 - p) for p in ticks)], ["0", *(f"{p:g}" for p in ticks)])
    axes.minorticks_off()
    _plain_ticks(axes, [ns for c in curves for ns in c[1]], time_text)
    axes.set_xlabel("percentile")
    axes.set_ylabel("completion latency")
    _legend(figure, looks, shown)
    return _svg(figure, f"latency {name} {way}")


@dataclass(frozen=True)
class _Dot:
    """A figure of a measurement, with how far it spreads."""

    measurement: Measurement
    value: float
    spread: tuple[float, float]
    unit: str


def _dots(measurements: list[Measurement], metric: str) -> list[_Dot]:
    """The figures of a metric; what is not above zero has no place on a logarithmic axis."""
    made = []
    for m in measurements:
        for found in m.metrics:
            if found.name == metric and found.value > 0:
                low = found.value if found.low is None else found.low
                high = found.value if found.high is None else found.high
                # Not below a thousandth: a logarithmic axis has no zero.
                spread = (found.value - max(low, found.value / 1000), high - found.value)
                made.append(_Dot(m, found.value, (max(spread[0], 0), max(spread[1], 0)), found.unit))
    return made


def sweep(looks: Looks, load: str, measurements: list[Measurement], metric: str) -> str | None:
    """A metric over block size, one line per series; None where no series has two."""
    lines: dict[Series, list[_Dot]] = defaultdict(list)
    dots = [dot for dot in _dots(measurements, metric) if dot.measurement.block_bytes]
    for dot in dots:
        lines[series_of(dot.measurement)].append(dot)
    sizes = sorted({dot.measurement.block_bytes or 0 for dot in dots})
    # Where each series has but one size, the plot by case says it all.
    if max((len({dot.measurement.block_bytes for dot in those}) for those in lines.values()), default=0) < 2:
        return None
    figure, axes = _figure(5.8, 2.8 + _legend_height(list(lines)))
    for series, points in sorted(lines.items(), key=lambda item: str(item[0])):
        points.sort(key=lambda dot: dot.measurement.block_bytes or 0)
        x = [dot.measurement.block_bytes or 0 for dot in points]
        words = looks.of(*series).words()
        if len(set(x)) < len(x):  # two cases of one size: no line leads from one to the other
            words["linestyle"] = ""
        axes.errorbar(x, [dot.value for dot in points], yerr=list(zip(*(dot.spread for dot in points), strict=True)),
                      capsize=3, elinewidth=1, **words)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks(sizes, [size_text(size) for size in sizes])
    if len(sizes) > 8:
        axes.tick_params(axis="x", labelrotation=45)
    _plain_ticks(axes, [dot.value for dot in dots], count_text)
    axes.set_xlabel("block size")
    axes.set_ylabel(_axis(metric, dots[0].unit))
    _legend(figure, looks, list(lines))
    return _svg(figure, f"sweep {metric} {load}")


def _axis(metric: str, unit: str) -> str:
    return f"{metric} ({unit})" if unit and unit != metric else metric


def by_case(looks: Looks, measurements: list[Measurement], metric: str) -> str | None:
    """A metric case by case, a point for each series; None where no case has two to be compared."""
    cases: dict[str, list[_Dot]] = defaultdict(list)
    for dot in _dots(measurements, metric):
        cases[dot.measurement.case].append(dot)
    if max((len(dots) for dots in cases.values()), default=0) < 2:
        return None
    shown = [series_of(dot.measurement) for dots in cases.values() for dot in dots]
    room = [0.14 * len(dots) + 0.16 for dots in cases.values()]
    figure, axes = _figure(5.8, 0.8 + sum(room) + _legend_height(shown))
    ticks, y = [], 0.0
    for number, dots in enumerate(cases.values()):
        ticks.append(y + room[number] / 2)
        if number % 2:
            axes.axhspan(y, y + room[number], color="#f3f4f6", zorder=0)
        dots.sort(key=lambda dot: -dot.value)
        for place, dot in enumerate(dots):
            look = looks.of(*series_of(dot.measurement)).words()
            axes.errorbar([dot.value], [y + 0.15 + 0.14 * place], xerr=[[part] for part in dot.spread],
                          capsize=2, elinewidth=1, **{**look, "linestyle": ""})
        y += room[number]
    axes.set_ylim(y, 0)
    axes.set_yticks(ticks, [_short(case) for case in cases])
    axes.grid(False, axis="y")
    axes.set_xscale("log")
    axes.minorticks_off()
    every = [dot for dots in cases.values() for dot in dots]
    _plain_ticks(axes, [dot.value for dot in every], count_text, "x")
    axes.set_xlabel(_axis(metric, every[0].unit))
    _legend(figure, looks, shown)
    return _svg(figure, f"cases {metric}")


def _short(name: str, most: int = 28) -> str:
    """A name that leaves room for the plot: its begin and its end."""
    return name if len(name) <= most else f"{name[:most // 2]}…{name[most // 2 + 1 - most:]}"


def command_sizes(looks: Looks, measurements: list[Measurement]) -> str | None:
    """How many commands of which size the module counted. It knows counts and bytes: where each read and
    write took one command, the size of each is known, and elsewhere the mean of a measurement."""
    bars: dict[Series, dict[int, tuple[int, bool]]] = defaultdict(dict)
    for m in measurements:
        found = m.commands
        if found is None or not found.count or not found.bytes:
            continue
        exact = bool(m.block_bytes) and found.count == found.requests and found.bytes == found.count * (m.block_bytes or 0)
        size = round(math.log2(found.bytes / found.count))
        series: Series = (m.datapath, None, variant(m))
        count, known = bars[series].get(size, (0, True))
        bars[series][size] = (count + found.count, known and exact)
    if not bars:
        return None
    shown = list(bars)
    sizes = sorted({size for those in bars.values() for size in those})
    span = range(sizes[0], sizes[-1] + 1)
    figure, axes = _figure(5.8, 2.8 + _legend_height([*shown, shown[0]]) + ROW)
    width = 0.8 / len(bars)
    for number, (about, those) in enumerate(sorted(bars.items(), key=lambda item: str(item[0]))):
        filling, _ = looks.of_variant(about[2])
        colour = looks.colour[about[0]]
        for size, (count, exact) in those.items():
            # Lines across the bar, in white where the bar is dark.
            face = to_rgba(colour, SHADES[filling])
            axes.bar(size + (number - (len(bars) - 1) / 2) * width, count, width * 0.9, facecolor=face,
                     edgecolor="white" if SHADES[filling] > 0.5 else colour, hatch="" if exact else "////")
            axes.bar(size + (number - (len(bars) - 1) / 2) * width, count, width * 0.9, facecolor="none",
                     edgecolor=colour)
    axes.set_yscale("log")
    axes.minorticks_off()
    counts = [count for those in bars.values() for count, _ in those.values()]
    _plain_ticks(axes, [min(counts) / 2, *counts], count_text)
    axes.set_xticks(list(span), [size_text(1 << size) for size in span])
    axes.grid(False, axis="x")
    axes.set_xlabel("bytes of a command, to the nearest power of two")
    axes.set_ylabel("commands")
    kinds = {exact for those in bars.values() for _, exact in those.values()}
    patches = [(True, Patch(facecolor=GREY, edgecolor=GREY), "the size of each"),
               (False, Patch(facecolor="white", edgecolor=GREY, hatch="////"), "the mean of a measurement")]
    axes.legend([patch for kind, patch, _ in patches if kind in kinds],
                [label for kind, _, label in patches if kind in kinds], frameon=False, fontsize=8,
                loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    _legend(figure, looks, shown, depths=False)
    return _svg(figure, "command sizes")


def history(looks: Looks, h: History) -> str | None:
    """A metric over nights with its baseline and change points; None for less than two nights."""
    if len(h.points) < 2:
        return None
    figure, axes = _figure(5.8, 3.0)
    times = [datetime.fromisoformat(p.time.replace("Z", "+00:00")) for p in h.points]
    days: Any = matplotlib.dates.date2num(times)
    words = {**looks.of(h.datapath, h.depth, "").words(), "linewidth": 1.2}
    said = ", ".join(filter(None, (h.datapath, f"depth {h.depth}" if h.depth else ""))) or "median of a night"
    axes.plot(days, [p.value for p in h.points], label=said, **words)
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
                     label=None if label in named else label)
        named.add(label)
        axes.annotate(f"{delta / change.before:+.1%}" if change.before else f"{delta:+.3g}",
                      (days[change.index], 0.96), xycoords=("data", "axes fraction"), va="top",
                      xytext=(4, 0), textcoords="offset points",
                      fontsize=8, color=BAD if bad else GOOD)
    locator = matplotlib.dates.AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    axes.margins(y=0.2)
    # No common factor in the corner: 1.12M reads better than 1.12 below a 1e6.
    text = time_text if h.unit == "ns" else count_text
    axes.yaxis.set_major_formatter(text)
    axes.set_ylabel(h.metric + (f" ({h.unit})" if h.unit not in ("", "ns") else ""), fontsize=8)
    figure.legend(loc="lower left", frameon=False, fontsize=8, ncols=2, handlelength=3.5)
    _leave_room(figure, 2.5 * ROW)
    return _svg(figure, f"history {h.case} {h.metric} {h.host} {h.side}")


def _loads(measurements: list[Measurement]) -> dict[str, list[Measurement]]:
    """Measurements by the kind of load, as far as it is known: a line never leads from a random to a
    sequential one."""
    found: dict[str, list[Measurement]] = defaultdict(list)
    for m in measurements:
        found[m.parameters.get("rw", "")].append(m)
    return dict(found)


def all_of(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Every plot of the document: section → (title, SVG)."""
    looks, every = looks_of(results), results.measurements
    cases: dict[str, list[Measurement]] = defaultdict(list)
    for m in every:
        cases[m.case].append(m)
    names = dict.fromkeys(f.name for m in every for f in m.metrics)
    wanted = [name for end in ("iops", "bandwidth", "mib_s") for name in names if name.endswith(end)]
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, plots in (
        ("By case", [(name, by_case(looks, every, name)) for name in wanted]),
        ("Over block size", [
            (", ".join(filter(None, (name, load))), sweep(looks, load, ms, name))
            for name in wanted for load, ms in _loads(every).items()
        ]),
        ("Latency", [
            (case if len(ways) == 1 else f"{case}, {way}", latency_curves(looks, case, ms, way))
            for case, ms in cases.items()
            for ways in [list(dict.fromkeys(latency.direction for m in ms for latency in m.latencies))]
            for way in ways
        ]),
        ("Commands", [("Commands by size, as the module counted them", command_sizes(looks, every))]),
        ("History", [
            (" ".join(filter(None, (h.case, h.metric, h.side, h.host))), history(looks, h))
            for h in results.histories
        ]),
    ):
        drawn = [(name, svg) for name, svg in plots if svg is not None]
        if drawn:
            sections[title] = drawn
    return sections
