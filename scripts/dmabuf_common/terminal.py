# SPDX-License-Identifier: GPL-2.0-only
"""Messages and progress on stderr, so that stdout stays the results'."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Back to the start of the line, and what is on it away.
_WIPE = "\r\x1b[K"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def visible(text: str, lines: bool = False) -> str:
    """A text with what a terminal would obey, or not show, written out as Python writes it: names are given by
    others. `lines`: newlines and tabs stay."""
    return "".join(one if one.isprintable() or (lines and one in "\n\t") else
                   one.encode("unicode_escape").decode() for one in text)


class Voice:
    """Says on stderr what a program has to say, with its name."""

    def __init__(self, program: str) -> None:
        self.program = program

    def say(self, text: str) -> None:
        """One line."""
        print(f"{self.program}: {visible(text, True)}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announces a step before it starts and says how many seconds it took when it succeeded."""
        start = time.monotonic()
        self.say(f"{text} …")
        yield
        self.say(f"{text}: done in {time.monotonic() - start:.0f} s")


class Progress:
    """Which item of how many, in a line that is overwritten while it runs; without a terminal there
    is no such line. `total` may grow. `even`: the items take about equally long, so that the time
    that is left can be told."""

    def __init__(self, total: int, even: bool = False) -> None:
        self.total, self.even = total, even
        self._ended = 0
        self._name = ""
        self._live = sys.stderr.isatty()
        self._first = self._begin = time.monotonic()

    def _write(self, text: str, end: str = "") -> None:
        print(text, end=end, file=sys.stderr, flush=True)

    def _count(self) -> str:
        return f"[{self._ended + 1}/{self.total}]"

    def start(self, name: str) -> None:
        """An item begins."""
        self._name = name
        self._begin = time.monotonic()
        if not self._ended:
            self._first = self._begin
        self._show("")

    def tick(self) -> None:
        """It still runs."""
        self._show(f": {duration(time.monotonic() - self._begin)}")

    def _show(self, spent: str) -> None:
        if not self._live:
            return
        text = f"{self._count()} {self._name}{spent}"
        if self.even and self._ended:
            each = (self._begin - self._first) / self._ended
            text += f", about {duration(each * (self.total - self._ended))} left"
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        self._write(_WIPE + text[: columns - 1])

    def end(self, word: str = "") -> None:
        """It ended; how, in a line that stays, if a word says it."""
        self.clear()
        if word:
            spent = time.monotonic() - self._begin
            self._write(f"{self._count()} {self._name}: {word} ({spent:.1f} s)", "\n")
        self._ended += 1

    def clear(self) -> None:
        """Leaves the terminal as it was."""
        if self._live:
            self._write(_WIPE)
