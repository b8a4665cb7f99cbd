# SPDX-License-Identifier: GPL-2.0-only
"""The checks: how many hold, and which do not."""

import sys
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts checks, and keeps and prints those that do not hold and what could not be looked at."""

    right: int = 0
    wrong: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def check(self, holds: bool, what: str, why: str = "") -> bool:
        """One check; gives whether it holds."""
        if holds:
            self.right += 1
        else:
            self.wrong.append({"what": what, "why": why})
            say(f"does not hold: {what}" + (f"\n  {why}" if why else ""))
        return holds

    def same(self, got: object, wanted: object, what: str) -> bool:
        """One check: that two things are the same."""
        return self.check(got == wanted, what, f"is {got!r}, not {wanted!r}")

    def skip(self, what: str, why: str) -> None:
        """What cannot be looked at here."""
        self.skipped.append({"what": what, "why": why})
        say(f"not looked at: {what}: {why}")

    @property
    def words(self) -> dict[str, object]:
        """For the JSON."""
        return {"hold": self.right, "wrong": self.wrong, "skipped": self.skipped}


def say(text: str) -> None:
    """For who watches; the answer itself goes to standard output."""
    print(f"gpu-check: {text}", file=sys.stderr, flush=True)
