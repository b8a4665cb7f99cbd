# SPDX-License-Identifier: GPL-2.0-only
"""Messages and progress: on stderr alone, and the line that is overwritten on a terminal alone."""

import io
import os
import time
from types import SimpleNamespace

import pytest
from dmabuf_common import clock, terminal
from dmabuf_common.terminal import Progress, Voice


class Terminal(io.StringIO):
    """Stands for a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    # pytest itself replaces sys.stderr between a fixture and its test.
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((60, 24)))
    return made


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, one after the other; the last one stays."""
    made = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: made.pop(0) if len(made) > 1 else made[0])
    return made


def shown(screen: Terminal) -> list[str]:
    """The texts that were written over each other."""
    return screen.getvalue().split("\r\x1b[K")[1:]


def test_a_message_has_the_programs_name_and_is_not_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Voice("dmabuf-x").say("a")
    assert tuple(capsys.readouterr()) == ("", "dmabuf-x: a\n")


def test_a_step_says_how_long_it_took_unless_it_failed(
    capsys: pytest.CaptureFixture[str], moments: list[float]
) -> None:
    moments[:] = [10, 17]
    with Voice("dmabuf-x").step("a"):
        pass
    with pytest.raises(ValueError), Voice("dmabuf-x").step("b"):
        raise ValueError
    assert capsys.readouterr().err == "dmabuf-x: a …\ndmabuf-x: a: done in 7 s\ndmabuf-x: b …\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (12240, "3.4 h")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text


def test_without_a_terminal_only_what_ended_is_said(
    capsys: pytest.CaptureFixture[str], moments: list[float]
) -> None:
    moments[:] = [0]
    progress = Progress(2)
    progress.start("a")
    progress.tick()
    progress.end("right")
    progress.start("b")
    progress.end()
    progress.clear()
    assert capsys.readouterr().err == "[1/2] a: right (0.0 s)\n"


def test_on_a_terminal_the_line_is_overwritten(screen: Terminal, moments: list[float]) -> None:
    progress = Progress(2)
    progress.start("a")
    moments[:] = [5]
    progress.tick()
    progress.end("right")
    progress.total += 1
    progress.start("b")
    progress.clear()
    assert shown(screen) == ["[1/2] a", "[1/2] a: 5 s", "[1/2] a: right (5.0 s)\n", "[2/3] b", ""]


def test_what_is_left_is_told_when_items_take_equally_long(
    screen: Terminal, moments: list[float]
) -> None:
    moments[:] = [0]
    progress = Progress(4, even=True)
    for begin in (0, 60, 120):
        moments[:] = [begin]
        progress.start("a")
        progress.end()
    assert [text for text in shown(screen) if text] == [
        "[1/4] a", "[2/4] a, about 3 min left", "[3/4] a, about 2 min left"
    ]


def test_a_line_is_no_longer_than_the_terminal_is_wide(screen: Terminal) -> None:
    Progress(1).start("x" * 200)
    assert len(shown(screen)[0]) == 59


def test_times_are_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert clock.iso(0) == "1970-01-01T00:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()
    before, now, after = clock.iso(time.time()), clock.now(), clock.iso(time.time())
    assert before <= now <= after


def test_what_a_terminal_would_obey_is_written_out(screen: Terminal) -> None:
    Voice("tool").say("fio said:\n\tdisk \x1b[8mfull\r\x9b2J\u202e – é")
    assert screen.getvalue() == "tool: fio said:\n\tdisk \\x1b[8mfull\\r\\x9b2J\\u202e – é\n"
