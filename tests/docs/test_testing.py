# SPDX-License-Identifier: GPL-2.0-only
"""Each test that docs/testing.md names for a report or a finding is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("What people reported", "What reviews found")


def rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """What each row of the two tables is about, and the tests in its last cell."""
    for section in SECTIONS:
        table = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
        lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
        assert len(lines) > 10, section
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            yield cells[0], re.findall(r"`([^`]+)`", cells[-1])


def entries() -> set[str]:
    """The names of ctest's entries, without those that CMake puts together."""
    found = set()
    for path in (ROOT / "tests").rglob("*"):
        if path.name == "CMakeLists.txt" or path.suffix == ".cmake":
            text = path.read_text()
            found |= {f"vm.{name}" for name in re.findall(r"\badd_vm_test\(([\w.]+)", text)}
            found |= set(re.findall(r"\badd_test\(NAME ([\w.]+)", text))
    return found


def functions(file: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)) if file.exists() else set()


def unit_tests() -> set[str]:
    text = "".join(path.read_text() for path in sorted((ROOT / "tests/unit").glob("*.cpp")))
    return {f"unit.{suite}.{name}" for suite, name in re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", text, re.MULTILINE)}


def missing(tests: list[str]) -> list[str]:
    """Those that are no test. One of Python's alone is of the file that was named last."""
    absent, file = [], ROOT
    known, units = entries(), unit_tests()
    for test in tests:
        kind, _, function = test.partition(": ")
        if kind.startswith("host."):
            file = ROOT / f"tests/host/test_{kind.removeprefix('host.')}.py"
            there = file.exists() and (not function or function in functions(file))
        elif test.startswith("test_"):
            there = test in functions(file)
        elif test.startswith("unit."):
            there = test in units
        elif test.startswith("tests/"):
            file = ROOT / kind
            there = file.exists() and (not function or function in functions(file))
        elif test.startswith("vm."):
            there = any(name == test or name.startswith(f"{test}.") for name in known)
        else:
            there = test in known or test == "lint"
        if not there:
            absent.append(test)
    return absent


TABLE = list(rows((ROOT / "docs/testing.md").read_text()))


@pytest.mark.parametrize("about,tests", TABLE, ids=[about[:40] for about, _ in TABLE])
def test_each_row_names_tests_that_are_there(about: str, tests: list[str]) -> None:
    assert about and not missing(tests)


def test_each_row_has_a_test_or_says_that_there_is_none() -> None:
    text = (ROOT / "docs/testing.md").read_text()
    for about, tests in TABLE:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {about} |")]
        assert tests or "no test" in line or "`dmabuf-qual`" in line, about


def test_a_test_that_is_not_there_is_found() -> None:
    assert missing(["host.contract", "vm.fio.contract", "host.contract: test_nothing", "test_nothing", "unit.No.Test", "vm.nothing",
                    "tests/none", "nothing", "tests/docs/test_testing.py: test_none",
                    "tests/docs/test_testing.py: test_a_test_that_is_not_there_is_found", "test_neither"]) == [
        "host.contract: test_nothing", "test_nothing", "unit.No.Test", "vm.nothing", "tests/none", "nothing",
        "tests/docs/test_testing.py: test_none", "test_neither"]
