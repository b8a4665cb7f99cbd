# SPDX-License-Identifier: GPL-2.0-only
"""Packages that are kept for the next set-up: whole ones only, and no more than something is made of."""

import os
import subprocess
from pathlib import Path

import pytest
from dmabuf_lab import cli, kept


@pytest.fixture(name="cache", autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    return kept.folder()


def archives(folder: Path, *names: str) -> Path:
    """What an apt fetched: these packages, and a half of another one."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "partial/half_1_all.deb").write_text("half")
    for name in names:
        (folder / name).write_text(f"of {name}")
    return folder


def lent(folder: Path) -> list[str]:
    folder.mkdir()
    kept.lend(folder)
    return sorted(path.name for path in folder.iterdir())


def there(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*.deb"))


def test_what_was_fetched_is_lent_to_the_next_and_takes_no_room_twice(tmp_path: Path, cache: Path) -> None:
    source = archives(tmp_path / "a", "libc6_1_amd64.deb", "tzdata_2_all.deb")
    kept.keep("root", source)
    assert lent(tmp_path / "b") == ["libc6_1_amd64.deb", "tzdata_2_all.deb"]
    assert (tmp_path / "b/libc6_1_amd64.deb").samefile(source / "libc6_1_amd64.deb")
    # apt throws its own away.
    (source / "libc6_1_amd64.deb").unlink()
    assert (tmp_path / "b/libc6_1_amd64.deb").read_text() == "of libc6_1_amd64.deb"


def test_a_package_that_was_spoilt_on_the_disk_is_not_lent(tmp_path: Path, cache: Path) -> None:
    kept.keep("root", archives(tmp_path / "a", "libc6_1_amd64.deb", "zlib_1_amd64.deb"))
    (cache / "libc6_1_amd64.deb").write_text("Of libc6_1_amd64.deb")
    (cache / "stranger_1_all.deb").write_text("nobody listed it")
    assert lent(tmp_path / "b") == ["zlib_1_amd64.deb"] == there(cache)


def test_what_a_complete_one_does_not_need_goes_away(tmp_path: Path, cache: Path) -> None:
    """The older version, and what the recipe no longer names; but for what another needs."""
    kept.keep("root", archives(tmp_path / "a", "libc6_1_amd64.deb", "vim_1_amd64.deb", "tzdata_2_all.deb"))
    kept.settle("root", {"libc6_1_amd64.deb", "vim_1_amd64.deb", "tzdata_2_all.deb"})
    # The second one was lent what the first had.
    tools = archives(tmp_path / "b", "gcc_1_amd64.deb")
    kept.lend(tools)
    kept.keep("arm64-tools", tools)
    kept.settle("arm64-tools", {"gcc_1_amd64.deb", "tzdata_2_all.deb"})
    assert there(cache) == ["gcc_1_amd64.deb", "libc6_1_amd64.deb", "tzdata_2_all.deb", "vim_1_amd64.deb"]
    again = archives(tmp_path / "c", "libc6_2_amd64.deb")
    kept.lend(again)
    kept.keep("root", again)
    kept.settle("root", {"libc6_2_amd64.deb"})
    assert there(cache) == ["gcc_1_amd64.deb", "libc6_2_amd64.deb", "tzdata_2_all.deb"]
    kept.remove(False, {"root"})
    assert there(cache) == ["libc6_2_amd64.deb"]
    kept.remove(True, {"root"})
    assert there(cache) == []


def test_what_one_that_broke_off_had_fetched_stays_while_another_becomes_complete(tmp_path: Path, cache: Path) -> None:
    kept.keep("root", archives(tmp_path / "a", "libc6_1_amd64.deb"))
    kept.keep("stock-kernel-7.2", archives(tmp_path / "b", "linux-image_1_amd64.deb"))
    kept.settle("stock-kernel-7.2", {"linux-image_1_amd64.deb"})
    assert there(cache) == ["libc6_1_amd64.deb", "linux-image_1_amd64.deb"]


def package(folder: Path, name: str) -> Path:
    """A real one."""
    (folder / "tree/DEBIAN").mkdir(parents=True, exist_ok=True)
    (folder / "tree/DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1:2-3\nArchitecture: all\nMaintainer: nobody\nDescription: none\n")
    (folder / "tree/data").write_bytes(os.urandom(10000))
    made = folder / f"{name}_1%3a2-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(folder / "tree"), str(made)], check=True, stdout=subprocess.DEVNULL)
    return made


def test_of_a_set_up_that_was_killed_whole_packages_are_kept(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "a"
    whole, torn = package(source, "whole"), package(source, "torn")
    data = torn.read_bytes()
    torn.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    kept.rescue("root", source)
    assert there(cache) == [whole.name]
    kept.rescue("root", tmp_path / "it-did-not-come-so-far")
    assert there(cache) == [whole.name]


def test_installed_packages_are_named_as_apt_names_their_files(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    assert kept.installed(tmp_path) == set()
    status.write_text(
        "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.3.dfsg+really-1\n"
        "Description: compression\n Version: of it\n\nPackage: tzdata\nArchitecture: all\nVersion: 2026a~1\n")
    assert kept.installed(tmp_path) == {"zlib1g_1%3a1.3.dfsg+really-1_amd64.deb", "tzdata_2026a~1_all.deb"}


def test_clean_removes_what_no_recipe_makes_any_more(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmabuf_lab.build.checkout", lambda: tmp_path)
    names = ["root", "arm64-tools", "arm64-guest", "secure-boot", "stock-kernel-6.1", "stock-kernel-7.3-arm64-16k"]
    for name in (*names, "stock-kernel-5.0"):
        kept.keep(name, archives(tmp_path / name, f"of-{name}_1_all.deb"))
    assert cli.main(["clean"]) == 0
    assert there(cache) == sorted(f"of-{name}_1_all.deb" for name in names)
    assert cli.main(["clean", "--all"]) == 0
    assert there(cache) == []
