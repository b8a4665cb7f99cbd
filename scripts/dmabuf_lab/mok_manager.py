# SPDX-License-Identifier: GPL-2.0-only
"""Somebody at MokManager's screen, by which a machine with Secure Boot is told of a key of its user's.

shim starts MokManager at the first boot after `mokutil --import`. The firmware shows it on the serial console, too.
"""

import re

from .errors import LabError

DOWN, ENTER = b"\x1b[B", b"\r"
WRONG_PASSWORD = "Password doesn't match"
# What a terminal is told that is no text.
_CONTROL = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]|[\x00-\x08\x0e-\x1f]")


class Operator:
    """Goes through the screen with a password: is shown what the console shows, and returns what to type."""

    def __init__(self, password: str) -> None:
        # What appears, and what is typed then. The first entry of each menu is chosen when it appears.
        self._left = [
            ("Press any key to perform MOK management", ENTER),
            ("Enroll MOK", DOWN + ENTER),
            ("View key 0", DOWN + ENTER),
            ("Enroll the key(s)?", DOWN + ENTER),
            ("Password:", password.encode() + ENTER),
            ("Reboot", ENTER),
        ]
        self._shown = b""

    def screen(self) -> str:
        """What the console showed since the last answer, as text."""
        return _CONTROL.sub("", self._shown.decode("utf-8", "replace"))

    def see(self, data: bytes) -> bytes:
        """What to type on what the console shows now; LabError where the password is a wrong one."""
        self._shown += data
        text = self.screen()
        if WRONG_PASSWORD in text:
            raise LabError("MokManager refuses the password: it is not the one that mokutil --import was given")
        if not self._left or self._left[0][0] not in text:
            return b""
        # What is shown before the next screen is over.
        self._shown = b""
        return self._left.pop(0)[1]

    def missing(self) -> str | None:
        """What did not appear, of all that has to; None when all did."""
        return self._left[0][0] if self._left else None
