# SPDX-License-Identifier: GPL-2.0-only
"""What preflight says: one line for each thing that was looked at."""

from dataclasses import dataclass

GREEN, YELLOW, RED = "ok", "warn", "stop"


@dataclass(frozen=True)
class Check:
    """One line of the table. name: what was looked at, or the failure's name."""

    name: str
    level: str
    text: str
    remedy: str = ""
