# SPDX-License-Identifier: GPL-2.0-only
"""The head of the report: the best cell of each datapath, in each direction."""

from typing import Any

import pytest
from dmabuf_report import bins, html, summary
from dmabuf_report.model import Measurement, Metric

from sample import results


def measured(case: str, path: str, read: float = 0, write: float = 0, unit: str = "mib_s",
             **more: Any) -> Measurement:
    metrics = [Metric(f"{way}_{unit}", "", "higher", value) for way, value in (("read", read), ("write", write)) if value]
    return Measurement(f"{case} {path}", case, path, metrics=metrics, **more)


def test_the_best_cell_is_taken_for_each_direction() -> None:
    (row,) = summary.rows([measured("small", "premapped", 10, 900), measured("large", "premapped", 1000, 20)])
    assert {way: best.measurement.case for way, best in row.best.items()} == {"read": "large", "write": "small"}
    assert row.best["read"].bandwidth == 1000 * 2**20


def test_the_fastest_datapath_comes_first_and_bytes_are_bytes() -> None:
    made = summary.rows([
        measured("c", "bounce", 1), measured("c", "premapped", 3 * 2**20, unit="bandwidth"), measured("c", "host", 2),
        measured("c", "writer", write=9),
    ])
    assert [row.datapath for row in made] == ["premapped", "host", "bounce", "writer"]
    assert made[0].best["read"].bandwidth == 3 * 2**20


def test_what_is_not_valid_is_not_the_best() -> None:
    made = summary.rows([measured("good", "p", 1), measured("bad", "p", 2, status="fail"),
                         measured("unclear", "q", 2, status="inconclusive")])
    assert [(row.datapath, row.best["read"].measurement.case) for row in made] == [("p", "good")]


def test_sides_and_hosts_have_rows_of_their_own() -> None:
    made = summary.rows([measured("c", "p", 1, side="old"), measured("c", "p", 2, side="new"),
                         measured("c", "p", 3, side="new", host="b")])
    assert [(row.side, row.host) for row in made] == [("new", "b"), ("new", ""), ("old", "")]


def test_the_95th_percentile_is_that_of_the_direction() -> None:
    latencies = [bins.latency("read", {10: 10_000, 900: 10}), bins.latency("write", {70: 10_000})]
    (row,) = summary.rows([measured("c", "p", 1, 1, latencies=latencies)])
    assert (row.best["read"].p95_ns, row.best["write"].p95_ns) == (10, 70)
    (row,) = summary.rows([measured("c", "p", 1, latencies=[bins.latency("read", {10: 50})])])
    assert row.best["read"].p95_ns is None


@pytest.mark.parametrize(("busy", "bound"), [(94.9, False), (95.0, True), (130.0, True), (None, None)])
def test_whether_the_cpu_was_the_limit(busy: float | None, bound: bool | None) -> None:
    (row,) = summary.rows([measured("c", "p", 1, cpu_percent=busy)])
    assert row.best["read"].cpu_bound is bound


def page(*measurements: Measurement) -> str:
    made = results()
    made.measurements = list(measurements)
    text = html.render(made)
    return text[text.index('<section id="summary">') :].partition("</section>")[0]


def test_the_page_has_it_before_the_findings() -> None:
    made = results()
    made.measurements = [measured("c", "premapped", 2048, cpu_percent=97.4)]
    text = html.render(made)
    assert text.index('id="summary"') < text.index('id="requirements"')
    part = page(*made.measurements)
    assert "2.15 GB/s" in part and "yes, 97&nbsp;% of a CPU" in part
    assert "emulated" not in part


def test_the_page_says_emulated_where_the_drive_is() -> None:
    part = page(measured("c", "premapped", 1, emulated=True, cpu_percent=3.2), measured("c", "host", 1, emulated=False))
    assert part.count("emulated drive") == 1 + 1  # beside the datapath, and below the table
    assert "no, 3&nbsp;% of a CPU" in part


def test_a_direction_that_nothing_did_has_no_columns() -> None:
    assert ">Write<" not in page(measured("c", "premapped", 1), measured("c", "host", 1))
    part = page(measured("c", "premapped", 1), measured("c", "host", write=1))
    assert ">Read<" in part and ">Write<" in part


def test_a_report_without_bandwidth_has_none() -> None:
    made = results()
    made.measurements = []
    assert 'id="summary"' not in html.render(made)
