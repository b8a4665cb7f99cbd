# SPDX-License-Identifier: GPL-2.0-only
"""The recipe names the root, and a half-made root is never used."""

import errno
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from dmabuf_common import program
from dmabuf_lab import apt, cache, chroot, cli, config, root
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


class Maker:
    """What makes a root in a set-up: `fault` ends it half-way, once."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.made = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self, target: Path) -> None:
        (target / "usr/local/share").mkdir(parents=True)
        self.made += 1
        self.begun.set()
        assert self.go_on.wait(60)
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        (target / root.INFO).write_text("{}")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a machine on which a set-up can be tried."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(chroot, "need_root", lambda: None)
    monkeypatch.setattr(apt, "install", lambda _packages: None)
    return tmp_path


FAULTS = [
    (KeyboardInterrupt(), program.EXIT_INTERRUPTED, ""),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/root"), 2, "No space left on device: /cache/root"),
    (LabError("mmdebstrap failed"), 2, "mmdebstrap failed"),
]


@pytest.mark.parametrize(("fault", "status", "sentence"), FAULTS)
def test_a_set_up_that_ends_half_way_leaves_nothing_and_can_be_tried_again(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: BaseException,
    status: int, sentence: str
) -> None:
    """Ctrl-C, a full disk, an archive that does not answer."""
    maker = Maker(fault)
    monkeypatch.setattr(root, "_make", maker)
    assert cli.main(["setup"]) == status
    said = capsys.readouterr().err.splitlines()
    assert "needs about 3 GB and some minutes" in said[0]
    assert said[1:] == ([f"dmabuf-lab: {sentence}"] if sentence else [])
    assert [path.name for path in machine.iterdir() if path.is_dir()] == []
    assert cli.main(["setup"]) == 0
    assert maker.made == 2 and root.load() is not None


def test_of_two_set_ups_at_once_one_makes_the_root_and_the_other_waits_for_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Maker()
    maker.go_on.clear()
    monkeypatch.setattr(root, "_make", maker)
    waits = threading.Event()
    told = []

    def say(text: str) -> None:
        told.append(text)
        if text.startswith("waiting for another dmabuf-lab that holds the set-up"):
            waits.set()

    monkeypatch.setattr(cache, "say", say)
    found: list[root.Root] = []
    both = [threading.Thread(target=lambda: found.append(root.setup())) for _ in range(2)]
    both[0].start()
    assert maker.begun.wait(60)
    both[1].start()
    assert waits.wait(60), told
    maker.go_on.set()
    for one in both:
        one.join(60)
    assert [one.path for one in found] == [root.root_path()] * 2
    assert maker.made == 1


def test_what_mmdebstrap_says_of_a_mirror_that_does_not_answer_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is started through; its last lines name the archive."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))

    def run(argv: list[str], **_more: object) -> subprocess.CompletedProcess[str]:
        assert "mmdebstrap" in argv
        return subprocess.CompletedProcess(argv, 100, "", "I: fetching\nE: Failed to fetch a://b/InRelease\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(LabError, match="status 100:\nI: fetching\nE: Failed to fetch a://b/InRelease$"):
        root.debootstrap(tmp_path / "root", apt.Mirrors("a://b", None), [], ["python3"], name="root")


def test_a_relative_cache_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", "here")
    with pytest.raises(LabError, match="absolute"):
        cache.folder()


def test_kernel_series_are_distinct() -> None:
    names = [series.name for series in config.KERNELS]
    assert len(names) == len(set(names))
