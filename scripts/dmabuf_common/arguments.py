# SPDX-License-Identifier: GPL-2.0-only
"""What argparse's `type=` takes: each says what is wrong in words."""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _number(text: str, kind: Callable[[str], T], what: str, good: Callable[[T], bool]) -> T:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return value


def positive(text: str) -> int:
    """A whole number above 0."""
    return _number(text, int, "a positive number", lambda value: value > 0)


def seconds(text: str) -> float:
    """A time above 0 that ends."""
    return _number(
        text, float, "a positive number of seconds", lambda value: 0 < value < math.inf
    )


def above_zero(text: str) -> float:
    """A number above 0 that is finite."""
    return _number(text, float, "a positive number", lambda value: 0 < value < math.inf)


def share(text: str) -> float:
    """A share above 0, of 1 at most."""
    return _number(text, float, "in 0 … 1", lambda value: 0 < value <= 1)


def some(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Words with commas between them, each of which must be one of these; each counts once."""

    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


def listed(one: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Values with commas between them, each as `one` takes it."""

    def parse(text: str) -> list[T]:
        try:
            return [one(word) for word in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse
