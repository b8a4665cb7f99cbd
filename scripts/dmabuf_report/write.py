# SPDX-License-Identifier: GPL-2.0-only
"""Writes results in every form that is asked for."""

from collections.abc import Callable, Iterable
from pathlib import Path

from dmabuf_common import files

from . import document, html, junit, ktap, tidy
from .errors import ReportError
from .model import FORMATS, Results

_RENDER: dict[str, tuple[str, Callable[[Results], str]]] = {
    "html": ("html", html.render),
    "junit": ("junit.xml", junit.render),
    "ktap": ("ktap", ktap.render),
    "csv": ("csv", tidy.render),
}

assert FORMATS == ("json", *_RENDER)


def write(
    results: Results, folder: Path, formats: Iterable[str] = FORMATS, stem: str = "results"
) -> list[Path]:
    """Writes `stem`.json, .html, .junit.xml, .ktap, .csv as asked for; the paths written.

    Raises ReportError when the results do not fit the schema: then nothing is written.
    """
    document.to_document(results)
    try:
        files.own_folder(folder)
        written = []
        for name in formats:
            if name == "json":
                path = folder / f"{stem}.json"
                document.save(results, path)
            else:
                suffix, render = _RENDER[name]
                path = folder / f"{stem}.{suffix}"
                files.replace(path, render(results))
            written.append(path)
        return written
    except OSError as error:
        remedy = "" if "choose" in str(error.strerror) else "; choose another folder"
        raise ReportError(
            f"the report cannot be written to {folder}: {error.strerror}{remedy}"
        ) from error
