# SPDX-License-Identifier: GPL-2.0-only
"""What ctest is asked, and what is read from its answer."""

import re
import time
from pathlib import Path

import pytest

from dmabuf_mutate import model
from dmabuf_mutate.local import Local, LocalRun, expression, failed_test
from dmabuf_mutate.tree import Tree

OUTPUT = """\
 98% tests passed, 2 tests failed out of 90

The following tests FAILED:
\t 12 - unit.Ring.Opens (SEGFAULT)
\t 13 - unit.Ring.Closes (Failed)
Errors while running CTest
"""


def test_tests_are_chosen_by_the_beginning_of_their_names() -> None:
    pattern = re.compile(expression(["unit.Ring", "qual.pytest"]))
    assert pattern.search("unit.Ring.Opens") and pattern.search("qual.pytest")
    assert not pattern.search("host.unit.Ring") and not pattern.search("unitXRing")


def test_the_first_failed_test_is_named() -> None:
    assert failed_test(OUTPUT) == ("unit.Ring.Opens", "SEGFAULT")
    assert failed_test("nothing of the kind") == ("ctest", "ctest failed")


@pytest.mark.parametrize("options", ["", "-rs", "-rN"])
def test_a_failed_pytest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    # scripts/check gives every pytest -rs: then its own summary names no failed test.
    monkeypatch.setenv("PYTEST_ADDOPTS", options)
    (tmp_path / "build/mutate/tree").mkdir(parents=True)
    file = tmp_path / "build/mutate/tree/test_it.py"
    local = Local(Tree(tmp_path))
    file.write_text("def test_good() -> None:\n    assert True\n")
    assert local.test(["pytest:test_it.py"], 60) is None
    file.write_text("def test_bad() -> None:\n    assert 1 == 2\n")
    failed = local.test(["pytest:test_it.py"], 60)
    assert failed is not None and failed[0].endswith("test_it.py::test_bad")


def _runs(pid: str) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def test_a_test_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "build/mutate/tree").mkdir(parents=True)
    note = tmp_path / "pid"
    (tmp_path / "build/mutate/tree/test_it.py").write_text(
        "import subprocess, time\n"
        "def test_hangs() -> None:\n"
        f"    open({str(note)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "    time.sleep(600)\n"
    )
    limit_s = 1.0
    while not note.exists() or not note.read_text():
        failed = Local(Tree(tmp_path)).test(["pytest:test_it.py"], limit_s)
        assert failed == ("test_it.py", f"did not end within {limit_s:.0f} s")
        limit_s *= 2
    # The kernel takes a moment to end it.
    end = time.monotonic() + 60
    while _runs(note.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _runs(note.read_text())


MUTANT = """
[[mutant]]
id = "{id}"
file = "{file}"
find = "1"
replace = "2"
breaks = "One is two."
tests = ["{test}"]
level = "unit"
"""


def test_files_of_python_tests_need_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "build/mutate/tree"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text("from code_it import ONE\n\ndef test_one() -> None:\n    assert ONE == 1\n")
    (folder / "code_it.py").write_text("ONE = 1\n")
    built: list[str] = []
    monkeypatch.setattr(Local, "configure", lambda self: built.append("configure"))
    monkeypatch.setattr(Local, "compile", lambda self, level: built.append(level))
    text = MUTANT.format(id="python", file="code_it.py", test="pytest:test_it.py")
    lists = model.parse({"a.toml": text})
    run = LocalRun(Tree(tmp_path), lists, {"unit": "d"})
    run.prepare(lists.mutants)
    result = run.one(lists.mutants[0])
    assert (result.verdict, built) == ("caught", [])
    assert "test_it.py::test_one" in result.by
    # ctest's own tests do, and so does what is compiled.
    for file, test in (("code_it.py", "common.pytest"), ("code.cpp", "pytest:test_it.py")):
        built.clear()
        run.prepare(model.parse({"a.toml": MUTANT.format(id="x", file=file, test=test)}).mutants)
        assert built[0] == "configure"
