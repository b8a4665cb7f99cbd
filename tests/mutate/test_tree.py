# SPDX-License-Identifier: GPL-2.0-only
"""The copy follows the checkout, keeps times where products depend on them, and is put right again."""

import os
import subprocess
from pathlib import Path

import pytest

from dmabuf_mutate.apply import Stale
from dmabuf_mutate.model import Edit, Mutant
from dmabuf_mutate.tree import Tree, digest


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/build/\n")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/a.c").write_text("int x = 1;\n")
    (tmp_path / "kernel/b.c").write_text("int y;\n")
    (tmp_path / "build/lab").mkdir(parents=True)
    (tmp_path / "build/lab/a.o").write_text("object")
    for name in ("kernel/a.c", "kernel/b.c", "build/lab/a.o"):
        os.utime(tmp_path / name, (1000, 1000))
    return tmp_path


def mutant(find: str) -> Mutant:
    return Mutant("a", (Edit("kernel/a.c", find, "2"),), "It breaks.", ("quick",), "vm")


def test_the_first_copy_keeps_the_times_of_sources_and_products(checkout: Path) -> None:
    tree = Tree(checkout)
    assert tree.update() == 3
    for name in ("kernel/a.c", "build/lab/a.o"):
        assert (tree.path / name).stat().st_mtime == 1000
    assert tree.update() == 0


def test_a_file_that_changes_gets_a_new_time(checkout: Path) -> None:
    tree = Tree(checkout)
    tree.update()
    (checkout / "kernel/a.c").write_text("int x = 3;\n")
    os.utime(checkout / "kernel/a.c", (500, 500))
    assert tree.update() == 1
    assert (tree.path / "kernel/a.c").read_text() == "int x = 3;\n"
    assert (tree.path / "kernel/a.c").stat().st_mtime > 1000
    assert (tree.path / "kernel/b.c").stat().st_mtime == 1000


def test_a_file_that_is_gone_goes(checkout: Path) -> None:
    tree = Tree(checkout)
    tree.update()
    (checkout / "kernel/b.c").unlink()
    assert tree.update() == 1
    assert not (tree.path / "kernel/b.c").exists()
    assert (tree.path / "build/lab/a.o").exists()


def test_the_copy_is_put_right_with_a_new_time_and_the_checkout_never_changes(checkout: Path) -> None:
    tree = Tree(checkout)
    tree.update()
    with tree.broken(mutant("1")):
        assert (tree.path / "kernel/a.c").read_text() == "int x = 2;\n"
    assert (tree.path / "kernel/a.c").read_text() == "int x = 1;\n"
    assert (tree.path / "kernel/a.c").stat().st_mtime > 1000
    assert (checkout / "kernel/a.c").stat().st_mtime == 1000


def test_what_an_interrupted_run_left_broken_is_put_right(checkout: Path) -> None:
    tree = Tree(checkout)
    tree.update()
    (tree.path / "kernel/a.c").write_text("int x = 2;\n")
    assert tree.update() == 1
    assert (tree.path / "kernel/a.c").read_text() == "int x = 1;\n"


def test_a_stale_mutant_changes_nothing(checkout: Path) -> None:
    tree = Tree(checkout)
    tree.update()
    with pytest.raises(Stale), tree.broken(mutant("7")):
        pass
    assert (tree.path / "kernel/a.c").stat().st_mtime == 1000


def test_the_digest_is_one_of_names_and_contents(checkout: Path) -> None:
    before = digest(checkout, ["kernel"])
    os.utime(checkout / "kernel/a.c", (2000, 2000))
    assert digest(checkout, ["kernel"]) == before
    (checkout / "kernel/b.c").rename(checkout / "kernel/c.c")
    assert digest(checkout, ["kernel"]) != before
