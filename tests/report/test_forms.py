# SPDX-License-Identifier: GPL-2.0-only
"""HTML, JUnit XML, KTAP and CSV say what the document says, whatever characters are in it."""

import csv
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from dmabuf_common.verdict import NO_FAULT
from dmabuf_report import document, html, junit, ktap, plots, tidy
from dmabuf_report.errors import ReportError
from dmabuf_report.model import Results, Verdict
from junitparser import JUnitXml

from sample import results


class Page(HTMLParser):
    """Elements, ids and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.references.append(value or "")


def page() -> tuple[str, Page]:
    text = html.render(results())
    parsed = Page()
    parsed.feed(text)
    return text, parsed


def test_the_page_needs_nothing_from_outside() -> None:
    text, parsed = page()
    assert [r for r in parsed.references if not r.startswith(("#", "data:"))] == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)[^)]*", text) == []


def test_the_page_escapes_what_is_in_the_document() -> None:
    text, parsed = page()
    assert "script" not in parsed.tags
    assert "&lt;script&gt;" in text


def test_every_id_is_there_once_and_every_reference_has_its_id() -> None:
    text, parsed = page()
    assert len(parsed.ids) == len(set(parsed.ids))
    wanted = {r[1:] for r in parsed.references if r.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted and wanted <= set(parsed.ids)


def test_the_page_has_a_plot_for_every_question() -> None:
    text, parsed = page()
    # All cases, one sweep, latency of three cases, sizes of commands, one history.
    assert parsed.tags.count("svg") == 7
    for title in ("By case", "Over block size", "Latency", "Commands", "History", "New against old"):
        assert f"<h2>{title}</h2>" in text


def test_junit_counts_what_is_inconclusive_as_an_error() -> None:
    document = JUnitXml.fromstring(junit.render(results()).encode())
    assert (document.tests, document.failures, document.errors, document.skipped) == (4, 1, 1, 1)
    assert [suite.name for suite in document] == ["dmabuf-test", "b"]


def test_ktap_has_one_line_per_requirement_and_the_totals() -> None:
    lines = ktap.render(results()).splitlines()
    assert lines[:2] == ["KTAP version 1", "1..4"]
    assert "not ok 1 a.fail" in lines
    assert "ok 2 a.pass" in lines
    assert "not ok 3 b.unclear # ERROR it throttled" in lines
    assert "ok 4 b.skip # SKIP there is no GPU" in lines
    assert lines[-1] == "# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:1"
    assert all(line.count("#") <= 1 for line in lines)


def test_csv_is_tidy() -> None:
    rows = list(csv.DictReader(io.StringIO(tidy.render(results()))))
    kinds = [row["kind"] for row in rows]
    assert kinds.count("sample") == 6 * 5
    assert kinds.count("median") == 2 * 6  # and the CPU of each
    assert kinds.count("sum") == 3 * 3  # the counts of premapped's commands
    assert kinds.count("history") == 12
    assert kinds.count("comparison") == 1
    assert {row["unit"] for row in rows if row["kind"] == "percentile"} == {"ns"}


def no_fault() -> Results:
    return dataclasses.replace(results(), verdict=Verdict(NO_FAULT, "a quick run"), requirements=[])


def test_a_run_that_is_too_small_to_pass_has_a_word_of_its_own(tmp_path: Path) -> None:
    document.save(no_fault(), tmp_path / "r.json")
    assert document.load(tmp_path / "r.json").verdict.status == NO_FAULT
    text = html.render(no_fault())
    assert "<strong>No fault found</strong>" in text and "verdict no-fault" in text
    assert ".verdict.no-fault strong" in text
    assert "# verdict no-fault: a quick run" in ktap.render(no_fault()).splitlines()


def test_a_requirement_is_never_without_fault_alone() -> None:
    wrong = results()
    wrong.requirements[0].status = NO_FAULT
    with pytest.raises(ReportError, match="status"):
        document.to_document(wrong)


def test_junit_says_the_verdict_of_all() -> None:
    made = results()
    said = JUnitXml.fromstring(junit.render(made).encode())
    for suite in said:
        assert [(p.name, p.value) for p in suite.properties()] == [("verdict", "fail: 1 of 4 failed")]


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    made = results()
    for measurement in made.measurements:
        measurement.exporter = r"$\frac{$"
        measurement.metrics[0].unit = r"$\x$"
    made.histories[0].metric = "a $_$"
    made.histories[0].unit = "$^$"
    drawn = plots.all_of(made)
    assert set(drawn) == {"By case", "Over block size", "Latency", "Commands", "History"}
    assert html.render(made).count("<svg") == 7


def test_no_text_of_the_csv_is_a_formula() -> None:
    made = results()
    made.measurements[0].case = "=1+1"
    made.measurements[0].exporter = "@x"
    made.measurements[0].metrics[0].samples[0] = -5
    made.histories[0].host = "-2"
    rows = list(csv.reader(io.StringIO(tidy.render(made))))
    begin = {text[:2] for row in rows for text in row if text[:1] in ("=", "@", "'")}
    assert begin == {"'=", "'@", "'-"}
    # Numbers are left alone.
    assert any("-5" in row for row in rows)


def test_the_csv_has_what_the_summary_is_made_of() -> None:
    rows = list(csv.DictReader(io.StringIO(tidy.render(results()))))
    found = {(row["kind"], row["metric"], row["unit"]) for row in rows}
    assert {("median", "cpu_percent", "%"), ("sum", "commands_count", ""), ("sum", "commands_bytes", "B")} <= found
    assert {(row["datapath"], row["depth"]) for row in rows if row["kind"] == "history"} == {("premapped", "32")}
