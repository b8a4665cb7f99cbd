# SPDX-License-Identifier: GPL-2.0-only
"""Messages on stderr, and a line of progress there when it is a terminal."""

import sys
import time


def say(text: str) -> None:
    """One line on stderr, with the program's name."""
    print(f"dmabuf-nightly: {text}", file=sys.stderr, flush=True)


class Progress:
    """Counts runs; on a terminal one line that is overwritten, otherwise nothing."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.shown = sys.stderr.isatty()

    def show(self, what: str) -> None:
        """Says what runs now and, from the second run on, how long the rest will take."""
        if not self.shown:
            return
        left = ""
        if self.done:
            seconds = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            left = f", about {seconds / 60:.0f} min left"
        text = f"run {self.done + 1} of {self.total}{left}: {what}"
        print(f"\r\x1b[K{text[:110]}", end="", file=sys.stderr, flush=True)

    def step(self) -> None:
        """One run is done."""
        self.done += 1

    def clear(self) -> None:
        """Leaves the terminal as it was."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
