# SPDX-License-Identifier: GPL-2.0-only
"""What tests/bare keeps in the cache goes away with `clean --all`, but not under a test that uses it."""

import shutil
from pathlib import Path

import pytest
from dmabuf_lab import bare, cli, kept


@pytest.fixture(name="cache", autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With what each part of the lab leaves there."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("dmabuf_lab.build.checkout", lambda: tmp_path)
    kept.folder()
    for name in ("bare/trixie-1/usr", "bare/archives.trixie", "bare/copy.trixie.1/root", "fio/fio-3.30", "linux-source/1",
                 "root-1/usr", "stock-kernel-1", "debug-kernel-1", "debug-kernel-2.build", "kernel-tree-1", "arm64-1",
                 "secure-boot-1"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_text("something")
    (tmp_path / "cache/bare/trixie.lock").touch()
    return tmp_path / "cache"


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir() or path.stat().st_size or path.suffix != ".lock")


def test_clean_of_everything_leaves_empty_lock_files_alone(cache: Path) -> None:
    assert cli.main(["clean", "--all"]) == 0
    assert left(cache) == []


def test_clean_of_what_is_old_leaves_bare_roots(cache: Path) -> None:
    assert cli.main(["clean"]) == 0
    assert (cache / "bare/trixie-1/usr/file").exists()


def test_roots_that_a_test_uses_stay_and_that_is_said(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bare.in_use() as folder:
        assert cli.main(["clean", "--all"]) == 0
        assert f"kept {folder}: it is in use" in capsys.readouterr().err
        assert (folder / "trixie-1/usr/file").exists()
    assert cli.main(["clean", "--all"]) == 0
    assert left(cache) == []


def test_a_root_that_is_partly_removed_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        bare.remove()
    with bare.in_use() as folder:
        assert list(folder.iterdir()) == []
    assert bare.remove() == [] and left(cache)[0] != "bare"
    assert not list(cache.glob("bare.tmp.*"))
