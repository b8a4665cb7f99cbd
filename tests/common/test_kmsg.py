# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log is read from where it is asked for, and what was lost is said to be."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dmabuf_common import kmsg
from dmabuf_common.kmsg import OVERRAN, KernelLog

Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Puts records into what stands for /dev/kmsg; a number alone is one that was overwritten."""
    records: list[bytes | None] = []

    def put(*said: tuple[int, str] | None) -> None:
        for one in said:
            records.append(None if one is None else f"6,{one[0]},123,-;{one[1]}\n".encode())

    def read(_fd: int, _count: int) -> bytes:
        if not records:
            raise BlockingIOError(errno.EAGAIN, "")
        record = records.pop(0)
        if record is None:
            raise BrokenPipeError(errno.EPIPE, "")
        return record

    (tmp_path / "kmsg").write_bytes(b"")
    monkeypatch.setattr(kmsg, "PATH", str(tmp_path / "kmsg"))
    monkeypatch.setattr(os, "read", read)
    return put


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kmsg")


def test_messages_are_given_once_without_what_belongs_to_them(say: Say, path: str) -> None:
    with KernelLog(path) as log:
        say((4, "a; b, c\n SUBSYSTEM=pci\n DEVICE=+pci:x"), (5, ""))
        assert log.messages() == ["a; b, c", ""]
        assert (log.messages(), log.newest) == ([], 5)
        say((6, "d"))
        assert log.messages() == ["d"]


def test_what_is_older_than_the_record_is_left_out(say: Say, path: str) -> None:
    say((4, "old"), (5, "also"), (6, "new"), (7, "newer"))
    assert kmsg.after(5, path) == ["new", "newer"]
    say((4, "old"), (5, "last"))
    assert kmsg.after(5, path) == []
    say((4, "a"), (9, "b"))
    assert kmsg.newest(path) == 9


def test_messages_that_were_overwritten_are_said_to_be_lost(say: Say, path: str) -> None:
    with KernelLog(path) as log:
        say((4, "a"), None, (9, "b"))
        assert log.messages() == ["a", OVERRAN, "b"]
    say((6, "next"), (7, "b"))
    assert kmsg.after(5, path) == ["next", "b"]
    say((8, "not the next"))
    assert kmsg.after(5, path) == [OVERRAN, "not the next"]
    # What was there before is nobody's loss.
    say((8, "the oldest that is left"))
    assert kmsg.after(-1, path) == ["the oldest that is left"]
    say((3, "a"), None, (5, "b"), (6, "c"))
    assert kmsg.after(5, path) == ["c"]


def test_a_log_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert (kmsg.after(-1, nothing), kmsg.newest(nothing)) == (None, -1)
    with KernelLog(nothing) as log:
        assert not log.readable and log.messages() == []
