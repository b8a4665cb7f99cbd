# SPDX-License-Identifier: GPL-2.0-only
"""A page for a night, and one that lists the nights, in a folder that may be shown to anybody as it is."""

from dataclasses import replace
from html import escape
from pathlib import Path

from dmabuf_common import files, verdict
from dmabuf_report import model
from dmabuf_report.write import write

from . import analyse
from .errors import NightlyError
from .store import Night, Store

# What a stranger need not know of the machine: which drive exactly, and what its kernel was told.
PRIVATE = ("drive serial", "drive namespace", "kernel parameters", "boot")
HIDDEN = "not published"
INDEX = "index.html"

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font-family: sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .3em .8em; border-bottom: 1px solid #8886; vertical-align: top; }}
.fail {{ color: #c62828; font-weight: bold; }} .inconclusive {{ color: #b26a00; font-weight: bold; }}
</style></head><body>
<h1>{title}</h1>
<table><thead><tr><th>night</th><th>began</th><th>came to</th><th>label</th><th>in one sentence</th></tr></thead>
<tbody>
{rows}
</tbody></table>
</body></html>
"""


def folder_of(out: Path, night: int) -> Path:
    """Where the page of a night lies."""
    return out / f"night-{night:04d}"


def _public(found: model.Results) -> model.Results:
    """The same without what is nobody's business, and without names of files that are not beside it."""
    facts = [
        replace(fact, value=HIDDEN) if fact.name.endswith(PRIVATE) else fact for fact in found.environment
    ]
    requirements = [
        replace(one, evidence=[replace(evidence, file=None) for evidence in one.evidence])
        for one in found.requirements
    ]
    return replace(found, environment=facts, requirements=requirements)


def _row(out: Path, night: Night) -> str:
    status = night.status or ""
    page = folder_of(out, night.id)
    name = str(night.id)
    if (page / INDEX).is_file():
        name = f'<a href="{page.name}/{INDEX}">{night.id}</a>'
    cells = (escape(night.started), f'<span class="{escape(status)}">{escape(status)}</span>',
             escape(night.label), escape(night.verdict or ""))  # fmt: skip
    return f"<tr><td>{name}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def publish(store: Store, plan: str, night: int | None, out: Path) -> list[Path]:
    """Writes the page of a night of a plan, by default the last one that was judged, and the list of all of
    them that were; the paths written."""
    judged = [one for one in store.nights(plan) if one.status in verdict.STATUSES]
    wanted = [one for one in judged if night is None or one.id == night]
    if not wanted:
        which = "no night" if night is None else f"no night {night}"
        raise NightlyError(
            f"plan {plan} has {which} that was judged; `dmabuf-nightly analyze` judges, "
            "`dmabuf-nightly nights` lists them"
        )
    files.own_folder(out)
    chosen = wanted[-1]
    page = folder_of(out, chosen.id)
    written = write(_public(analyse.look(store, chosen)), page, ["html"], "index")
    rows = "\n".join(_row(out, one) for one in reversed(judged))
    files.replace(out / INDEX, _PAGE.format(title=f"Nights of plan {escape(plan)}", rows=rows))
    return [*written, out / INDEX]
