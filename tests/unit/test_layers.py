# SPDX-License-Identifier: GPL-2.0-only
"""The wings of the engine include only what they may, and the check of it notices what they may not."""

from pathlib import Path

import layers
import pytest

TOP = Path(__file__).resolve().parents[2]
ENGINE = TOP / "engine"


def _engine(base: Path, files: dict[str, str]) -> Path:
    """A small engine that keeps the rules, with other files put over it."""
    good = {
        "base/error.hpp": "#include <string>\n",
        "datapath/ring.hpp": '#include "base/error.hpp"\n#include <liburing.h>\n',
        "exporter/exporter.hpp": '#include "base/error.hpp"\n#include "exporter/exporters.def"\n',
        "exporter/exporters.def": "ROW(udmabuf)\n",
        "module/session.hpp": '#include "base/error.hpp"\n',
        "job/job.hpp": '#include "datapath/ring.hpp"\n#include "exporter/exporter.hpp"\n#include "module/session.hpp"\n',
        "fio/api.hpp": '#include "config-host.h"\n#include "fio.h"\n',
        "fio/engine.cpp": '#include "fio/api.hpp"\n#include "job/job.hpp"\n',
        "integrity/bench.hpp": '#include "module/session.hpp"\n',
        "integrity/main.cpp": '#include "bench.hpp"\n',
    }
    for name, text in {**good, **files}.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return base


def test_the_engine_keeps_its_layers() -> None:
    assert layers.faults(ENGINE) == []


def test_every_wing_is_looked_at() -> None:
    """No file is passed over because it is not where it is looked for."""
    seen = layers.includes(ENGINE)
    wings = {file.partition("/")[0] for file in seen}
    assert wings == set(layers.MAY_INCLUDE)
    sources = [path for path in ENGINE.rglob("*") if path.suffix in (".cpp", ".hpp")]
    assert len(sources) > 50
    assert {str(path.relative_to(ENGINE)) for path in sources} <= set(seen)
    assert "job/job.hpp" in seen["fio/engine.cpp"]
    assert "integrity/bench.hpp" in seen["integrity/main.cpp"]


def test_the_rules_have_no_circle() -> None:
    assert layers.circles({wing: set(others) for wing, others in layers.MAY_INCLUDE.items()}) == []


def test_nothing_is_allowed_that_nobody_uses() -> None:
    used: dict[str, set[str]] = {wing: set() for wing in layers.MAY_INCLUDE}
    for file, names in layers.includes(ENGINE).items():
        wing = file.partition("/")[0]
        used[wing] |= {name.partition("/")[0] for name in names} - {wing}
    assert used == {wing: set(others) for wing, others in layers.MAY_INCLUDE.items()}


def test_the_documentation_has_the_same_rules() -> None:
    assert layers.documented((TOP / "docs/design.md").read_text()) == dict(layers.MAY_INCLUDE)


def test_a_good_engine_has_no_fault(tmp_path: Path) -> None:
    assert layers.faults(_engine(tmp_path, {})) == []
    assert layers.faults(_engine(tmp_path, {"fio/old_cmdprio.c": '#include "fio.h"\n'})) == []


@pytest.mark.parametrize("file,text,says", [
    ("job/job.cpp", '#include "fio.h"\n', "job/job.cpp includes fio.h, which is not the engine's"),
    ("job/job.cpp", "#include <fio.h>\n", "job/job.cpp includes fio.h, which is not the engine's"),
    ("fio/engine.cpp", '#include "fio.h"\n', "fio/engine.cpp includes fio.h, which is not the engine's"),
    ("fio/cmdprio.c", '#include "fio.h"\n', "fio/cmdprio.c includes fio.h, which is not the engine's"),
    ("job/job.cpp", '  #  include "fio/api.hpp"\n', "job/job.cpp includes fio/api.hpp, and job/ may not know fio/"),
    ("exporter/cuda.cpp", '#include "job/job.hpp"\n', "exporter/ may not know job/"),
    ("exporter/cuda.cpp", '#include "datapath/ring.hpp"\n', "exporter/ may not know datapath/"),
    ("datapath/lane.hpp", '#include "job/job.hpp"\n', "datapath/ may not know job/"),
    ("datapath/lane.hpp", '#include "fio/api.hpp"\n', "datapath/ may not know fio/"),
    ("module/reasons.cpp", '#include "datapath/ring.hpp"\n', "module/ may not know datapath/"),
    ("base/sizes.hpp", '#include "module/session.hpp"\n', "base/ may not know module/"),
    ("base/sizes.hpp", "#include <module/session.hpp>\n", "base/ may not know module/"),
    ("integrity/load.cpp", '#include "job/job.hpp"\n', "integrity/ may not know job/"),
    ("exporter/exporters.def", '#include "job/job.hpp"\n', "exporter/ may not know job/"),
    ("exporter/cuda.cpp", '#include "exporter.hpp"\n', "includes exporter.hpp, which is not the engine's"),
    ("error.cpp", "", "error.cpp is in no wing"),
    ("shed/error.cpp", "", "shed/error.cpp is in no wing"),
    ("base/error.hpp", '#include "job/job.hpp"\n', "circle of wings: base > job > datapath > base"),
    ("base/fd.hpp", '#include "base/fd.hpp"\n', "circle of files: base/fd.hpp > base/fd.hpp"),
])
def test_what_is_against_the_rules_is_found(tmp_path: Path, file: str, text: str, says: str) -> None:
    found = layers.faults(_engine(tmp_path, {file: text}))
    assert any(says in fault for fault in found), found


def test_headers_that_include_each_other_are_found(tmp_path: Path) -> None:
    engine = _engine(tmp_path, {"job/a.hpp": '#include "job/b.hpp"\n', "job/b.hpp": '#include "job/a.hpp"\n'})
    assert layers.faults(engine) == ["circle of files: job/a.hpp > job/b.hpp > job/a.hpp"]


def test_a_table_that_says_something_else_is_read_as_it_is() -> None:
    page = "## The engine's wings\n\n| wing | for | includes |\n|---|---|---|\n| `fio/` | x | `base/`, `job/` |\n" \
        "| `base/` | y | nothing |\n\n## Next\n| `no/` | z | `base/` |\n"
    assert layers.documented(page) == {"fio": frozenset({"base", "job"}), "base": frozenset()}
