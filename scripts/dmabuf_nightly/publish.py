# SPDX-License-Identifier: GPL-2.0-only
"""A page for a night, and one that lists the nights, in a folder that may be shown to anybody as it is."""

import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, TypeVar, cast

from dmabuf_common import files, verdict
from dmabuf_report import model
from dmabuf_report.write import write

from . import analyse, jobfacts, jobfile
from .errors import NightlyError
from .store import Night, Store

# What a stranger need not know of the machine: which drive exactly, and what its kernel was told.
PRIVATE = ("drive serial", "drive namespace", "kernel parameters", "boot")
HIDDEN = "not published"
FILE = "(a file, not published)"
INDEX = "index.html"
# Options of a job whose value is a name, with a / or without.
_OF_FILES = ("filename", "directory", "opendir", "read_iolog", "filename_format")
T = TypeVar("T")

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


def _names(store: Store, plan: str) -> re.Pattern[str]:
    """What names a file: the values of the plan's jobs and parameters that do, and all absolute paths."""
    known: set[str] = set()
    rows = store.db.execute(
        "SELECT DISTINCT job FROM run JOIN night ON night.id = run.night WHERE plan = ? AND job IS NOT NULL", (plan,)
    ).fetchall()
    for row in rows:
        for name, value in store.facts(row["job"]).items():
            if name.split()[-1] in _OF_FILES or "/" in value:
                known |= {value, *jobfile.split(value)}
    for text in {night.plan_text for night in store.nights(plan)}:
        values = tomllib.loads(text).get("parameters", {}).values()
        known |= {str(value) for value in values if "/" in str(value)}
    words = sorted(known - {"", jobfacts.TARGET, jobfacts.ENGINE}, key=len, reverse=True)
    return re.compile("|".join([*(rf"(?<![\w.-]){re.escape(w)}(?![\w.-])" for w in words), r"(?<![\w./])/[^\s,;:]+"]))


def _without(found: T, names: re.Pattern[str]) -> T:
    """The same with no name of a file in any of its texts."""
    made: Any = found
    if isinstance(found, str):
        made = names.sub(FILE, found)
    elif isinstance(found, (list, tuple)):
        made = type(found)(_without(one, names) for one in found)
    elif isinstance(found, dict):
        made = {name: _without(value, names) for name, value in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        changed = {one.name: _without(getattr(found, one.name), names) for one in fields(found) if one.init}
        made = replace(found, **changed)
    return cast(T, made)


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


def _row(out: Path, night: Night, names: re.Pattern[str]) -> str:
    status = night.status or ""
    page = folder_of(out, night.id)
    name = str(night.id)
    if (page / INDEX).is_file():
        name = f'<a href="{page.name}/{INDEX}">{night.id}</a>'
    cells = (escape(night.started), f'<span class="{escape(status)}">{escape(status)}</span>',
             escape(names.sub(FILE, night.label)), escape(names.sub(FILE, night.verdict or "")))
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
    names = _names(store, plan)
    found = analyse.look(store, chosen)
    if found.verdict.status != chosen.status:
        # As after `acknowledge`. The list has what was stored, and both must not say two things.
        found.notes.append(
            f"When it was judged, this night came to {chosen.status}: {chosen.verdict}. What is stored since then "
            f"makes it {found.verdict.status}; `dmabuf-nightly analyze --night {chosen.id}` stores that."
        )
        chosen.verdict = f"{chosen.verdict} By what is stored since: {found.verdict.status}."
    written = write(_without(_public(found), names), page, ["html"], "index")
    rows = "\n".join(_row(out, one, names) for one in reversed(judged))
    files.replace(out / INDEX, _PAGE.format(title=f"Nights of plan {escape(plan)}", rows=rows))
    return [*written, out / INDEX]
