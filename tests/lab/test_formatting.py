# SPDX-License-Identifier: GPL-2.0-only
"""`dmabuf-lab format`: which files it takes, what it changes, and that --check only tells."""

import shutil
import subprocess
from pathlib import Path

import pytest
from dmabuf_lab import build, formatting
from dmabuf_lab.errors import LabError

TREE = {
    "engine/a.cpp": "int  a( ){return 1;}\n",
    "engine/b.c": "int  b;\n",
    "kernel/c.c": "int  c;\n",
    "scripts/d": "#!/usr/bin/python3\nx=1\n",
    "scripts/e": "#!/bin/sh\nx=1\n",
    "tests/f.py": "y = [1]  # fmt: skip\n",
    "tests/g.py": "z = 1\n",
}


@pytest.fixture(name="tree")
def _tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in (".clang-format", ".pep8"):
        shutil.copy(build.checkout() / name, tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    monkeypatch.setattr(build, "checkout", lambda: tmp_path)
    return tmp_path


def test_it_takes_cpp_and_python_by_name_or_first_line(tree: Path) -> None:
    names = [str(path.relative_to(tree)) for path in formatting.files(tree)]
    assert names == ["engine/a.cpp", "scripts/d", "tests/f.py", "tests/g.py"]


def test_check_tells_and_format_changes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    differing = ["engine/a.cpp", "scripts/d", "tests/f.py"]
    assert formatting.run(check=True) == 1
    assert capsys.readouterr().out.split() == differing
    assert {name: (tree / name).read_text() for name in TREE} == TREE
    assert formatting.run(check=False) == 0
    assert capsys.readouterr().out.split() == differing
    assert (tree / "engine/a.cpp").read_text() == "int a() { return 1; }\n"
    assert (tree / "scripts/d").read_text().endswith("\nx = 1\n")
    assert (tree / "tests/f.py").read_text() == "y = [1]\n"
    assert formatting.run(check=True) == 0


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(LabError, match="apt-get install clang-format-19"):
        formatting.run(check=True)
