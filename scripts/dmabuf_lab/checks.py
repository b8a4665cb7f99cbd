# SPDX-License-Identifier: GPL-2.0-only
"""Finds the checks that failed in a command's output, so that the run can name them at its end.

A test program prints "FAIL  what: message" for each, followed by as much as it has to tell of. Who
sees only the end of that, as in the excerpts that automation shows, has to find the cause there.
"""

from dataclasses import dataclass, field

FAILED = b"FAIL"
# Of each stream of the output.
KEPT_LINES = 10
# Of a line, which can have any length.
LINE_CHARACTERS = 300


@dataclass
class Failed:
    """Looks at a command's output as it comes; `found` holds the first lines that name a failed check."""

    found: list[str] = field(default_factory=list)
    _pending: bytes = b""

    def feed(self, data: bytes) -> None:
        """More of the output. A line may come in parts; of a long one the beginning is kept."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._more(line)
            self.end()
        self._more(rest)

    def end(self) -> None:
        """The line has ended; after the last one there may be no newline."""
        if self._pending.startswith(FAILED) and len(self.found) < KEPT_LINES:
            self.found.append(self._pending.decode("utf-8", "replace").rstrip()[:LINE_CHARACTERS])
        self._pending = b""

    def _more(self, data: bytes) -> None:
        self._pending += data[: 4 * LINE_CHARACTERS - len(self._pending)]
