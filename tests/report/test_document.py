# SPDX-License-Identifier: GPL-2.0-only
"""The document: what goes in comes out, and what does not fit the schema is refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dmabuf_report import document, model
from dmabuf_report.errors import ReportError
from dmabuf_report.write import FORMATS, write

from sample import results


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(document.schema())


def test_a_document_comes_back_as_it_went(tmp_path: Path) -> None:
    document.save(results(), tmp_path / "r.json")
    assert document.load(tmp_path / "r.json") == results()


def test_the_schema_knows_every_field_of_the_model() -> None:
    """A field that only one of the two has would be lost without a word."""
    defs = document.schema()["$defs"]
    for kind in vars(model).values():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            name = "".join("_" + c.lower() if c.isupper() else c for c in kind.__name__)[1:]
            schema = document.schema() if kind is model.Results else defs[name]
            assert {f.name for f in dataclasses.fields(kind)} == set(schema["properties"]), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2 cannot be read"),
        ({"format": "x"}, "no results document"),
        ({"verdict": {"status": "good", "text": "x"}}, r"\$\.verdict\.status"),
        ({"started": "yesterday"}, r"\$\.started"),
        ({"comparability_key": "short"}, r"\$\.comparability_key"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**document.to_document(results()), **change}))
    with pytest.raises(ReportError, match=said):
        document.load(path)


def test_nothing_is_written_when_a_result_is_no_number(tmp_path: Path) -> None:
    wrong = results()
    wrong.measurements[0].metrics[0].value = float("nan")
    with pytest.raises(ReportError, match="not a finite number"):
        write(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_form_is_written(tmp_path: Path) -> None:
    paths = write(results(), tmp_path / "out")
    assert len(paths) == len(FORMATS) == 5
    assert all(path.stat().st_size > 0 for path in paths)
