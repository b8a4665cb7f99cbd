# SPDX-License-Identifier: GPL-2.0-only
"""One page that needs nothing else: no script, no font, no picture from anywhere."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from dmabuf_common.sizes import size_text
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, NO_FAULT, PASS, SKIP

from . import plots, summary
from .model import Results

WORDS = {
    PASS: "Pass",
    FAIL: "Fail",
    INCONCLUSIVE: "Inconclusive",
    SKIP: "Skipped",
    NO_FAULT: "No fault found",
}


def number(value: float | None) -> str:
    """Four significant digits, thousands set apart: 1 234 567, 12.34; a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:.4g}"
    if "e" in text or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f") if abs(value) < 1e15 else text
    return text


def short_time(text: str) -> str:
    """2026-11-22T01:02:03Z as 2026-11-22 01:02 UTC."""
    return f"{text[:10]} {text[11:16]} UTC"


def rate(bytes_s: float) -> str:
    """A bandwidth as people say it: 2.15 GB/s, 850 MB/s."""
    for limit, divisor, unit in ((1e6, 1e3, "kB/s"), (1e9, 1e6, "MB/s")):
        if bytes_s < limit:
            return f"{bytes_s / divisor:.3g} {unit}"
    return f"{bytes_s / 1e9:.3g} GB/s"


def render(results: Results) -> str:
    """The page. Everything from the document is escaped; only our own SVG is taken as it is."""
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["ns"] = lambda ns: "–" if ns is None else plots.time_text(ns)
    environment.filters["rate"] = rate
    environment.filters["short_time"] = short_time
    environment.filters["size"] = lambda size: "–" if size is None else size_text(size)
    sections = {
        title: [(name, Markup(svg)) for name, svg in drawn]
        for title, drawn in plots.all_of(results).items()
    }
    counts = [
        (word, sum(r.status == status for r in results.requirements), status)
        for status, word in WORDS.items()
    ]
    roles = (
        ("key", "Comparability key: what must be equal for runs to be compared"),
        ("subject", "Subject: what may change, and is what is judged"),
        ("state", "State"),
    )
    environments = [
        (title, [fact for fact in results.environment if fact.role == role])
        for role, title in roles
    ]
    best = summary.rows(results.measurements)
    return environment.get_template("page.html.j2").render(
        r=results, words=WORDS, counts=counts, sections=sections, environments=environments,
        best=best, ways=[way for way in summary.WAYS if any(way in row.best for row in best)],
        cpu_limit=summary.CPU_LIMIT,
    )
