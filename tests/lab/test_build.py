# SPDX-License-Identifier: GPL-2.0-only
"""A build is repeated exactly when something that it depends on changed."""

import os
from pathlib import Path

from dmabuf_lab import build


def tree(base: Path) -> Path:
    (base / "engine/sub").mkdir(parents=True)
    (base / "engine/a.cpp").write_text("a")
    (base / "engine/sub/b.cpp").write_text("b")
    (base / "CMakeLists.txt").write_text("x")
    return base


def mark(base: Path, extra: str = "") -> str:
    return build.fingerprint(base, ["engine", "CMakeLists.txt", "absent"], extra)


def test_nothing_changed(tmp_path: Path) -> None:
    tree(tmp_path)
    assert mark(tmp_path) == mark(tmp_path)


def test_a_changed_new_or_removed_file_or_another_root_changes_it(tmp_path: Path) -> None:
    tree(tmp_path)
    seen = {mark(tmp_path), mark(tmp_path, "another root")}
    (tmp_path / "engine/sub/b.cpp").write_text("bb")
    seen.add(mark(tmp_path))
    os.utime(tmp_path / "engine/a.cpp", ns=(1, 1))
    seen.add(mark(tmp_path))
    (tmp_path / "engine/c.cpp").write_text("")
    seen.add(mark(tmp_path))
    (tmp_path / "CMakeLists.txt").unlink()
    seen.add(mark(tmp_path))
    assert len(seen) == 6


def test_files_outside_the_inputs_do_not_matter(tmp_path: Path) -> None:
    tree(tmp_path)
    before = mark(tmp_path)
    (tmp_path / "README.md").write_text("x")
    assert mark(tmp_path) == before
