# SPDX-License-Identifier: GPL-2.0-only
"""Times as they are stored: ISO 8601 in UTC, to the second."""

from datetime import datetime, timezone


def iso(seconds: float) -> str:
    """A moment that is given in seconds since 1970."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """The seconds since 1970 of such a moment."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


def now() -> str:
    """This moment."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
