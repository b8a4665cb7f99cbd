# SPDX-License-Identifier: GPL-2.0-only
"""Results to and from JSON, checked against the schema in both directions."""

import dataclasses
import json
import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jsonschema

from dmabuf_common import files

from .errors import ReportError
from .model import FORMAT, VERSION, Results

T = TypeVar("T")

SCHEMA = "results.schema.json"


def schema_path() -> Path:
    """The schema: in the checkout, or beside the installed package."""
    here = Path(__file__).resolve()
    for folder in (here.parents[2] / "docs/schema", here.parent):
        if (folder / SCHEMA).is_file():
            return folder / SCHEMA
    raise ReportError(f"{SCHEMA} is not in docs/schema of the checkout; check the checkout out whole")


@cache
def schema() -> dict[str, Any]:
    """The schema itself."""
    loaded: dict[str, Any] = json.loads(schema_path().read_text())
    return loaded


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(item) for name, item in pairs if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ReportError("a result is not a finite number; leave out what was not measured")
    return value


def check(document: Any) -> None:
    """Raises ReportError, with the place and the cause, unless the document fits the schema."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ReportError(f'this is no results document: its "format" must be "{FORMAT}"')
    if document.get("version") != VERSION:
        raise ReportError(
            f"results version {document.get('version')} cannot be read, only {VERSION}; "
            "use the program's release that wrote it"
        )
    validator = jsonschema.Draft202012Validator(schema())
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if error is not None:
        raise ReportError(f"the results do not fit {SCHEMA} at {error.json_path}: {error.message}")


def to_document(results: Results) -> dict[str, Any]:
    """The document as JSON would have it; raises ReportError when it does not fit the schema."""
    document: dict[str, Any] = _plain(results)
    check(document)
    return document


def _build(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        wanted = [a for a in arguments if a is not type(None)]
        return None if value is None else _build(wanted[0], value)
    if origin is list:
        return [_build(arguments[0], item) for item in value]
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{k: _build(hints[k], v) for k, v in value.items() if k in hints})
    return float(value) if kind is float else value


def from_document(document: Any) -> Results:
    """Results from a document; raises ReportError when it does not fit the schema."""
    check(document)
    results: Results = _build(Results, document)
    return results


def load(path: Path) -> Results:
    """Results from a file; raises ReportError for one that cannot be read."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON: {error}") from error
    return from_document(document)


def save(results: Results, path: Path) -> None:
    """Writes the document."""
    files.write_json(path, to_document(results))
