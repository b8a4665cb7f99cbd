# SPDX-License-Identifier: GPL-2.0-only
"""What is drawn: a colour for a datapath everywhere, a style for a depth, a legend that names both."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dmabuf_report import bins, looks, plots
from dmabuf_report.model import Commands, History, Measurement, Metric, Point, Results, Tool, Verdict
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

SHAPE = {1000 * i: 50_000 // i for i in range(1, 40)}


def measured(path: str, depth: int | None = 32, size: int = 4096, exporter: str = "udmabuf", load: str = "read",
             value: float = 100.0, **more: Any) -> Measurement:
    return Measurement(f"{load}-{size} {path}", f"{load}-{size}", path, exporter, block_bytes=size, depth=depth,
                       parameters={"rw": load}, metrics=[Metric("read_iops", "IOPS", "higher", value)],
                       latencies=[bins.latency("read", SHAPE)], **more)


def results(*measurements: Measurement, histories: tuple[History, ...] = ()) -> Results:
    return Results(Tool("t", "1"), "t", "2026-11-22T01:00:00Z", "2026-11-22T02:00:00Z", Verdict("pass", "x"),
                   measurements=list(measurements), histories=list(histories))


@pytest.fixture(name="figures")
def _figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Figure]]:
    """The figures of a report by the name that they are drawn under."""
    found: dict[str, Figure] = {}
    draw: Callable[[Figure, str], str] = plots._svg  # pylint: disable=protected-access

    def keep(figure: Figure, name: str) -> str:
        found[name] = figure
        return draw(figure, name)

    monkeypatch.setattr(plots, "_svg", keep)
    yield found


def drawn(figure: Figure) -> set[tuple[str, str]]:
    """Colour and marker of what has a marker."""
    return {(to_hex(line.get_color()), str(line.get_marker())) for axes in figure.axes for line in axes.get_lines()
            if str(line.get_marker()) in looks.MARKERS}


def legend(figure: Figure) -> list[str]:
    boxes = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return [text.get_text() for box in boxes if box for text in box.get_texts() if text.get_text()]


def test_a_datapath_has_one_colour_in_every_plot(figures: dict[str, Figure]) -> None:
    points = [Point(f"2026-11-0{day}T01:00:00Z", 100.0) for day in range(1, 4)]
    nights = History("read-4096", "read_iops", "IOPS", "higher", points, datapath="premapped", depth=32)
    made = [measured(path, size=size) for path in ("bounce", "premapped", "new") for size in (4096, 65536)]
    plots.all_of(results(*made, histories=(nights,)))
    assert len(figures) == 5  # by case, over block size, latency of two cases, history
    unknown = looks.colours(["new"])["new"]
    for name, figure in figures.items():
        wanted = {looks.COLOURS["premapped"]}
        if not name.startswith("history"):
            wanted |= {looks.COLOURS["bounce"], unknown}
        assert {colour for colour, _ in drawn(figure)} == wanted, name
    assert len({"#" + colour[1:] for colour in (*looks.COLOURS.values(), unknown)}) == len(looks.COLOURS) + 1


def test_depth_is_a_style_and_the_legend_names_both(figures: dict[str, Figure]) -> None:
    plots.all_of(results(*[measured("premapped", depth, size) for depth in (1, 32) for size in (4096, 65536)]))
    markers = looks.styles([1, 32])
    for name in ("cases read_iops", "sweep read_iops read"):
        assert drawn(figures[name]) == {(looks.COLOURS["premapped"], markers[depth][0]) for depth in (1, 32)}, name
        assert legend(figures[name]) == ["datapath", "premapped", "queue depth", "1", "32", "memory", "udmabuf"], name


def test_a_legend_names_the_side_where_there_are_two(figures: dict[str, Figure]) -> None:
    plots.all_of(results(measured("premapped", side="old"), measured("premapped", side="new")))
    assert legend(figures["cases read_iops"])[-3:] == ["memory, side", "udmabuf new", "udmabuf old"]


def test_a_legend_is_as_wide_as_the_page_at_most(figures: dict[str, Figure]) -> None:
    host = "rack12-storage-node-03.lab.example.com"
    plots.all_of(results(*[measured(f"a-new-datapath-{n}", 48, exporter="drm:/dev/dri/card1", side=side, host=host)
                           for n in range(3) for side in ("old", "new")]))
    figure = figures["cases read_iops"]
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.get_figwidth() * figure.get_dpi()
    # Shortened names still differ.
    assert len([text for text in legend(figure) if "…" in text]) == len(set(legend(figure)) - {
        "datapath", "queue depth", "48", "memory, side, host", *[f"a-new-datapath-{n}" for n in range(3)]}) == 2


def test_the_seventh_kind_of_memory_is_told_from_the_first_without_a_line(figures: dict[str, Figure]) -> None:
    plots.all_of(results(*[measured("host", exporter=f"e{n}") for n in range(7)]))
    points = [line for line in figures["cases read_iops"].axes[0].get_lines() if str(line.get_marker()) == "o"]
    seen = [(line.get_fillstyle(), line.get_markersize()) for line in points]
    assert len(set(seen)) == len(seen) == 7


def test_no_line_leads_from_a_random_to_a_sequential_load(figures: dict[str, Figure]) -> None:
    plots.all_of(results(measured("host", size=4096, load="randread"), measured("host", size=65536, load="read"),
                         measured("host", size=1 << 20, load="read")))
    assert [name for name in figures if name.startswith("sweep")] == ["sweep read_iops read"]


def test_directions_have_plots_of_their_own(figures: dict[str, Figure]) -> None:
    both = measured("host")
    both.latencies.append(bins.latency("write", SHAPE))
    plots.all_of(results(both))
    for way in ("read", "write"):
        assert len(figures[f"latency read-4096 {way}"].axes[0].get_lines()) == 1


def heights(figure: Figure) -> dict[str, float]:
    """The bars by the size below them."""
    axes = figure.axes[0]
    ticks = {round(at): text.get_text() for at, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    return {ticks[round(bar.get_x() + bar.get_width() / 2)]: bar.get_height()
            for bar in axes.patches if bar.get_height()}  # type: ignore[attr-defined]


def test_commands_are_counted_by_their_size(figures: dict[str, Figure]) -> None:
    plots.all_of(results(
        measured("premapped", size=4096, commands=Commands(1000, 1000, 4096 * 1000)),
        measured("premapped", size=4096, load="randread", commands=Commands(500, 500, 4096 * 500)),
        measured("premapped", size=1 << 20, commands=Commands(800, 100, 100 << 20)),
        measured("bounce"),
    ))
    figure = figures["command sizes"]
    assert heights(figure) == {"4k": 1500, "128k": 800}
    assert {bar.get_hatch() for bar in figure.axes[0].patches} >= {"////"}
    # Of the long ones only the mean is known, and the plot says so.
    assert {"the size of each", "the mean of a measurement"} <= set(legend(figure))


@pytest.mark.parametrize(
    ("commands", "said"),
    [(Commands(10, 10, 40960), "the size of each"), (Commands(11, 10, 40960), "the mean of a measurement"),
     (Commands(10, 10, 40448), "the mean of a measurement"), (Commands(10, 5, 40960), "the mean of a measurement")],
)
def test_a_size_is_known_only_where_each_request_took_one_command(
    figures: dict[str, Figure], commands: Commands, said: str
) -> None:
    plots.all_of(results(measured("premapped", commands=commands)))
    assert [text for text in legend(figures["command sizes"]) if text.startswith("the ")] == [said]


def test_without_counts_there_is_no_plot_of_commands(figures: dict[str, Figure]) -> None:
    plots.all_of(results(measured("premapped"), measured("bvec", commands=Commands(0, 0, 0))))
    assert "command sizes" not in figures


@pytest.mark.parametrize("value", [1.0, 3.7, 120.0, 5.1e3, 6.9e3, 2.2e6])
def test_an_axis_has_three_ticks_at_least(figures: dict[str, Figure], value: float) -> None:
    plots.all_of(results(measured("host", value=value), measured("bounce", value=value * 1.01)))
    axes = figures["cases read_iops"].axes[0]
    low, high = axes.get_xlim()
    assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) >= 3


def test_what_is_zero_does_not_end_the_report(figures: dict[str, Figure]) -> None:
    plots.all_of(results(measured("host", value=0), measured("bounce"), measured("bvec", value=3)))
    assert len(drawn(figures["cases read_iops"])) == 2
