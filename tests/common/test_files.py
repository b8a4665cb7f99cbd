# SPDX-License-Identifier: GPL-2.0-only
"""What is written is whole, and a lock is held by one."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from dmabuf_common import files


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"n": 1, "ä": [1.5]})
    assert path.read_text() == '{\n "n": 1,\n "\\u00e4": [\n  1.5\n ]\n}\n'

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        files.replace(path, "new")
    assert path.read_text().startswith("{")
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_number_that_json_does_not_have_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(ValueError):
        files.write_json(path, float("nan"))
    assert path.read_text() == "1\n"


def test_a_line_that_was_cut_short_is_left_out_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert list(files.read_lines(path)) == []
    for torn in (b"", b'{"a": ', b'{"b": 2}'):
        files.append_line(path, {"a": 1})
        with open(path, "ab") as file:
            file.write(torn)
    assert list(files.read_lines(path)) == [{"a": 1}] * 3
    files.append_line(path, [2])
    assert path.read_text() == '{"a": 1}\n' * 3 + "[2]\n"


def test_a_file_of_one_torn_line_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a')
    files.append_line(path, 1)
    assert path.read_text() == "1\n"


def test_a_line_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\nx\n2\n")
    assert list(files.read_lines(path)) == [1, 2]


def test_one_holds_a_lock_and_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "folder/lock"
    with files.try_lock(path) as first, files.try_lock(path) as second:
        assert (first, second) == (True, False)
    with files.try_lock(path) as again:
        assert again


def test_a_shared_lock_keeps_the_exclusive_one_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.lock(path, pytest.fail, shared=True), files.lock(path, pytest.fail, shared=True):
        with files.try_lock(path) as free:
            assert not free


def test_who_waits_says_so_and_gets_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waits = threading.Event()
    got: list[str] = []

    def other() -> None:
        with files.lock(path, waits.set):
            got.append("lock")

    with files.lock(path, pytest.fail):
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(60) and not got
    thread.join(60)
    assert got == ["lock"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole\n")
    acts: list[tuple[str, Callable[[Path], object]]] = [
        ("lines", lambda path: files.append_line(path, 1)),
        ("lock", lambda path: files.try_lock(path).__enter__()),
        ("wait", lambda path: files.lock(path, pytest.fail).__enter__()),
    ]
    for name, act in acts:
        link = tmp_path / name
        link.symlink_to(victim)
        with pytest.raises(OSError, match="is a symbolic link, which is not followed"):
            act(link)
    assert victim.read_text() == "whole\n"
    with pytest.raises(OSError, match="symbolic link"):
        files.write_text(tmp_path / "lines", "x")
    assert victim.read_text() == "whole\n"
    files.write_text(tmp_path / "fresh", "x")
    files.write_text(tmp_path / "fresh", "y")
    assert (tmp_path / "fresh").read_text() == "y"


def test_what_somebody_laid_in_the_way_of_a_replacement_is_not_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / f".a.json.{os.getpid()}").symlink_to(victim)
    (tmp_path / "a.json").symlink_to(victim)
    files.replace(tmp_path / "a.json", "new")
    assert victim.read_text() == "whole"
    assert (tmp_path / "a.json").read_text() == "new" and not (tmp_path / "a.json").is_symlink()


def test_no_fifo_keeps_a_program_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lines")
    with pytest.raises(OSError):
        files.append_line(tmp_path / "lines", 1)


def test_a_folder_of_ones_own_is_made_and_taken(tmp_path: Path) -> None:
    assert files.own_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert files.own_folder(tmp_path / "a/b").is_dir()
    assert os.listdir(tmp_path / "a/b") == []
    os.chmod(tmp_path / "a", 0o1777)
    files.own_folder(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"st_uid": 12345}, "belongs to user 12345"), ({"st_mode": stat.S_IFDIR | 0o777}, "anybody may write"),
     ({"st_mode": stat.S_IFDIR | 0o775, "st_gid": 12345}, "group 12345 may write")],
)
def test_a_folder_that_is_anothers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int], says: str
) -> None:
    real = os.fstat

    def fake(descriptor: int) -> os.stat_result:
        state = real(descriptor)
        if not stat.S_ISDIR(state.st_mode):
            return state
        values = {name: getattr(state, name) for name in ("st_mode", "st_uid", "st_gid")}
        values.update(change)
        return os.stat_result((values["st_mode"], 1, 1, 1, values["st_uid"], values["st_gid"], 0, 0, 0, 0))

    monkeypatch.setattr(os, "fstat", fake)
    with pytest.raises(OSError, match=says) as caught:
        files.own_folder(tmp_path)
    assert caught.value.filename == str(tmp_path)
