# SPDX-License-Identifier: GPL-2.0-only
"""The guest's tests, read on the host: what an entry of ctest runs is there, and so is what its file imports."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "tests/vm"
PROGRAMS = sorted(VM.rglob("*.py"))
CMAKE = "\n".join(path.read_text() for path in (VM / "CMakeLists.txt", *sorted(VM.glob("*.cmake"))))
# The files that run them, besides.
OTHERS = [
    *(ROOT / "tests").rglob("vm/test_*.py"),
    *(ROOT / "tests/mutations").glob("*.toml"),
    ROOT / "tests/qual/CMakeLists.txt",
]
KERNEL = r"\d\.\d+(-rt)?(-arm64(-16k)?)?"
NAME = re.compile(rf"[a-z0-9_]+(\.[a-z0-9_]+)*|{KERNEL}")


def defined(text: str) -> set[str]:
    """The names that a file has at its top level."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            found |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return found


def missing(text: str, folder: Path) -> list[str]:
    """What a file imports from a folder of the guest's tests, and is not there."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        first, _, rest = node.module.partition(".")
        if not rest or not (folder / first).is_dir():
            continue
        file = folder / f"{node.module.replace('.', '/')}.py"
        names = {alias.name for alias in node.names}
        found += [str(file)] if not file.exists() else sorted(names - defined(file.read_text()))
    return found


@pytest.mark.parametrize("path", PROGRAMS, ids=[str(path.relative_to(VM)) for path in PROGRAMS])
def test_what_a_file_imports_is_there(path: Path) -> None:
    assert not missing(path.read_text(), VM)


def test_what_is_missing_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "fio").mkdir()
    (tmp_path / "fio/harness.py").write_text("DEV = 1\ndef fio() -> None: ...\n")
    text = "from fio.harness import DEV, fio, gone\nfrom fio.other import a\nfrom os.path import x\n"
    assert missing(text, tmp_path) == ["gone", str(tmp_path / "fio/other.py")]


def test_every_program_is_in_a_folder() -> None:
    assert len(PROGRAMS) > 20
    assert not [path for path in PROGRAMS if path.parent == VM]


def test_what_is_run_is_there() -> None:
    named = set(re.findall(r"\$\{python\}/([\w/]+\.py)", CMAKE))
    for path in OTHERS:
        named |= set(re.findall(r"tests/vm/([\w/]+\.py)", path.read_text()))
    assert len(named) > 20
    assert not {name for name in named if not (VM / name).exists()}
    # And what is there is run, or imported by what is.
    text = "\n".join(path.read_text() for path in PROGRAMS)
    imported = {f"{one}/{two}.py" for one, two in re.findall(r"^from (\w+)\.(\w+) import", text, re.MULTILINE)}
    for folder, names in re.findall(r"^from (\w+) import ([\w, ]+)$", text, re.MULTILINE):
        imported |= {f"{folder}/{name.split()[0]}.py" for name in names.split(",")}
    assert {str(path.relative_to(VM)) for path in PROGRAMS} - imported - named == {"fio/buffer_witness.py"}  # fio runs it


def test_names_of_entries_have_one_form() -> None:
    """Words of small letters, joined by dots; those of a kernel's smoke tests end with its name."""
    found = re.findall(r"^ *add_(?:test\(NAME |\w+_test\()([\w.-]+)[\s)]", CMAKE, re.MULTILINE)
    assert len(found) > 60
    assert not [name for name in found if not NAME.fullmatch(name)]
    assert not NAME.fullmatch("targets-plain") and not NAME.fullmatch("Fio.Jobs")
