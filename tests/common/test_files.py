# SPDX-License-Identifier: GPL-2.0-only
"""What is written is whole, and a lock is held by one."""

import os
import threading
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
