# SPDX-License-Identifier: GPL-2.0-only
"""The right source package is chosen for a fio version."""

import shutil
import subprocess
from pathlib import Path

import pytest
from dmabuf_common import files
from dmabuf_lab import cache, config, fio_program, fio_source, root
from dmabuf_lab.errors import LabError


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [("3.41-2", "3.41"), ("3.33-3", "3.33"), ("1:3.39-1+b1", "3.39"), ("3.41", "3.41")],
)
def test_upstream_part_of_a_debian_version(debian: str, upstream: str) -> None:
    assert fio_source.upstream(debian) == upstream


def test_only_the_exact_version_is_chosen() -> None:
    assert fio_source.choose(["3.39-1", "3.41-2"], "3.41") == "3.41-2"
    assert fio_source.choose(["3.39-1", "3.41-2"], "3.4") is None
    assert fio_source.choose([], "3.41") is None


def test_versions_are_read_from_showsrc() -> None:
    text = "Package: fio\nVersion: 3.39-1\n\nPackage: fio\nVersion: 3.41-2\nStandards-Version: 4.7.2\n"
    assert fio_source.parse_versions(text) == ["3.39-1", "3.41-2"]


def test_the_hosts_own_suite_is_asked_first_and_none_twice() -> None:
    order = fio_source.suites("bookworm")
    assert order[0] == "bookworm"
    assert len(order) == len(set(order))
    assert set(config.FIO_SOURCE_SUITES) <= set(order)
    assert fio_source.suites("")[0] == config.FIO_SOURCE_SUITES[0]


@pytest.mark.parametrize("text", ["", "latest", "../3.41", "3.41; true"])
def test_what_is_no_version_is_refused_before_anything_is_fetched(text: str) -> None:
    with pytest.raises(LabError, match="not a fio version"):
        fio_source.get(text, None)


class Listed:
    """An archive that lists a fio and does not keep its source."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def use(self, mirror: str, suite: str) -> bool:
        return True

    def show_source(self, package: str) -> str:
        return "Package: fio\nVersion: 3.39-1\n"

    def download_source(self, package: str) -> Path:
        raise LabError(f"cannot download {package}: 404  Not Found")


class Unreachable(Listed):
    """An archive without a network to it."""

    def use(self, mirror: str, suite: str) -> bool:
        return False


def test_without_a_network_it_is_not_the_archive_that_lacks_a_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(fio_source, "PrivateApt", Unreachable)
    with pytest.raises(LabError) as caught:
        fio_source.get("3.39", "http://archive.invalid")
    text = str(caught.value)
    assert "the archive cannot be reached: with a network, run this again" in text
    assert "no Debian suite" not in text and "--branch fio-3.39 " in text


@pytest.mark.parametrize(("version", "why"), [("3.39", "404"), ("3.30", "there are 3.39-1")])
def test_where_else_a_source_is_when_the_archive_has_it_not(
    version: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(fio_source, "PrivateApt", Listed)
    with pytest.raises(LabError) as caught:
        fio_source.get(version, "http://archive.invalid")
    text = str(caught.value)
    assert why in text and f"--branch fio-{version} " in text
    assert text.endswith(f"\n  scripts/dmabuf-lab fio {config.FIO_VERSION}")
    # Two ways, each with a line for cmake; the first names what was cloned.
    commands = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert [words[0] for words in commands] == ["git", "cmake", "cmake", "scripts/dmabuf-lab"]
    assert commands[1][-1] == f"-DFIO_SOURCE_DIRS={commands[0][-1]}"


def test_readme_has_the_way_out_that_the_message_has() -> None:
    readme = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text().split())
    clone, cmake = fio_source.elsewhere("3.39").splitlines()[1:3]
    assert f"`{clone.strip()}`" in readme and f"`{cmake.split()[-1]}`" in readme


def test_the_fio_of_the_tests_is_not_the_labs() -> None:
    """One library is tried in both."""
    assert config.TEST_FIO_VERSION != config.FIO_VERSION


CONFIGURE = "#!/bin/sh\necho \"$@\" >words\n"
MAKEFILE = "fio:\n\t@echo made >>../../log; printf '#!/bin/sh\\necho fio-{said}\\n' >fio; chmod +x fio; {then}\n"


def a_source(cache: Path, said: str = "3.30", then: str = "true") -> None:
    """What stands for the source of fio 3.30 in a cache."""
    tree = cache / "fio/fio-3.30"
    tree.mkdir(parents=True)
    (tree / "fio.h").touch()
    (tree / "configure").write_text(CONFIGURE)
    (tree / "configure").chmod(0o755)
    (tree / "Makefile").write_text(MAKEFILE.format(said=said, then=then))


def test_a_fio_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    a_source(tmp_path)
    program = fio_program.get("3.30", None)
    assert subprocess.check_output([str(program), "--version"], text=True) == "fio-3.30\n"
    assert fio_program.get("3.30", None) == program
    assert (tmp_path / "log").read_text() == "made\n"
    assert not list(tmp_path.glob("fio/*.tmp.*"))


def test_a_source_that_is_fetched_leaves_a_fio_alone_that_is_built_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(fio_source, "PrivateApt", Listed)
    another, killed = tmp_path / "fio/built-3.30-x.tmp.1", tmp_path / "fio/fio-3.29.tmp.1"
    for folder in (another, killed):
        folder.mkdir(parents=True)
    with pytest.raises(LabError):
        fio_source.get("3.39", "http://archive.invalid")
    assert another.is_dir() and not killed.exists()
    a_source(tmp_path)
    fio_program.get("3.30", None)
    assert not another.exists(), "who builds has the lock: that one was killed"


def test_clean_leaves_a_fio_alone_that_is_being_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    a_source(tmp_path)
    for name in ("lock", "build.lock"):
        with files.try_lock(tmp_path / "fio" / name):
            assert root.remove(everything=True) == [str(tmp_path / "fio")]
    assert (tmp_path / "fio/fio-3.30/fio.h").exists()
    assert root.remove(everything=True) == []
    assert not list(tmp_path.glob("fio*"))


def test_a_source_that_is_partly_removed_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_words: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    a_source(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        root.remove(everything=True)
    with pytest.raises(LabError, match="no Debian archive"):
        fio_source.get("3.30", None)
    root.remove(everything=True)
    assert not list(tmp_path.glob("fio*"))


def test_a_build_that_failed_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    a_source(tmp_path, then="echo no such header >&2; false")
    with pytest.raises(LabError, match="building fio failed with status 2:\n(.*\n)*no such header"):
        fio_program.get("3.30", None)
    assert sorted(path.name for path in (tmp_path / "fio").iterdir()) == ["build.lock", "fio-3.30", "lock"]


def test_another_fio_than_was_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    a_source(tmp_path, said="3.31")
    with pytest.raises(LabError, match="says 'fio-3.31', not fio-3.30"):
        fio_program.get("3.30", None)


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_cache_in_the_place_of_a_file_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / name))
    with pytest.raises(LabError, match=f"/{name} cannot be made: .*; set DMABUF_LAB_CACHE"):
        cache.folder()


def test_a_cache_that_cannot_be_made_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied", "/nonexistent")

    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "nonexistent"))
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(LabError, match="by this user: run it as root, or set DMABUF_LAB_CACHE"):
        cache.folder()
