# SPDX-License-Identifier: GPL-2.0-only
"""The recipe names the root, and a half-made root is never used."""

import json
from pathlib import Path

import pytest
from dmabuf_lab import cache, config, root
from dmabuf_lab.errors import LabError


def test_equal_recipes_have_equal_names_whatever_their_order() -> None:
    assert root.recipe_hash({"a": 1, "b": [1, 2]}) == root.recipe_hash({"b": [1, 2], "a": 1})


@pytest.mark.parametrize("key", sorted(root.recipe()))
def test_any_change_of_the_recipe_changes_the_name(key: str) -> None:
    changed = {**root.recipe(), key: "something else"}
    assert root.recipe_hash(changed) != root.recipe_hash(root.recipe())


def test_the_recipe_does_not_depend_on_the_mirror() -> None:
    assert "http" not in json.dumps(root.recipe())


def test_a_root_without_its_final_mark_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    root.root_path().mkdir()
    assert root.load() is None


def test_a_complete_root_is_used_and_tells_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    mark = root.root_path() / root.INFO
    mark.parent.mkdir(parents=True)
    mark.write_text('{"kernels": {"7.3": "7.3.4+deb13-amd64"}}')
    loaded = root.load()
    assert loaded is not None
    assert loaded.release("7.3") == "7.3.4+deb13-amd64"


def test_unfinished_roots_are_removed_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "root-abc.tmp.1" / "usr").mkdir(parents=True)
    (tmp_path / "root-abc").mkdir()
    root.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["root-abc"]


def test_a_root_in_use_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    mark = root.root_path() / root.INFO
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    loaded = root.load()
    assert loaded is not None
    with root.in_use(loaded):
        assert root.remove(everything=True) == [str(loaded.path)]
        assert loaded.path.is_dir()
    assert root.remove(everything=True) == []
    assert not loaded.path.exists()


def test_a_relative_cache_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", "here")
    with pytest.raises(LabError, match="absolute"):
        cache.folder()


def test_kernel_series_are_distinct() -> None:
    names = [series.name for series in config.KERNELS]
    assert len(names) == len(set(names))
