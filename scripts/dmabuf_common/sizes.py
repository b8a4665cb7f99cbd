# SPDX-License-Identifier: GPL-2.0-only
"""Sizes as fio writes them."""

import re

_SIZE = re.compile(r"(\d+)\s*(|k|m|g|t)(?:i?b)?")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse(text: str) -> int | None:
    """The bytes of "512", "4k", "1MiB"; None for anything else, and for nothing."""
    match = _SIZE.fullmatch(text.strip().lower())
    return int(match.group(1)) << _SHIFT[match.group(2)] or None if match else None


def size_text(count: float) -> str:
    """The shortest such text for a number of bytes."""
    for unit in ("m", "k"):
        whole = 1 << _SHIFT[unit]
        if count >= whole and count % whole == 0:
            return f"{count / whole:g}{unit}"
    return f"{count:g}"
