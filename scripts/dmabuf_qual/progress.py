# SPDX-License-Identifier: GPL-2.0-only
"""Messages and progress on stderr; stdout is for results."""

import sys
import time


def say(text: str) -> None:
    """One line."""
    print(f"dmabuf-qual: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """Which case of how many; on a terminal the line is overwritten while the case runs."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.live = sys.stderr.isatty()
        self.begin = time.monotonic()

    def start(self, name: str) -> None:
        """A case begins."""
        self.done += 1
        self.begin = time.monotonic()
        if self.live:
            print(f"\r\033[K[{self.done}/{self.total}] {name}", end="", file=sys.stderr, flush=True)

    def tick(self, name: str) -> None:
        """It still runs."""
        if self.live:
            spent = duration(time.monotonic() - self.begin)
            text = f"\r\033[K[{self.done}/{self.total}] {name}: {spent}"
            print(text, end="", file=sys.stderr, flush=True)

    def end(self, name: str, word: str) -> None:
        """It ended."""
        lead = "\r\033[K" if self.live else ""
        spent = time.monotonic() - self.begin
        text = f"{lead}[{self.done}/{self.total}] {name}: {word} ({spent:.1f} s)"
        print(text, file=sys.stderr, flush=True)
