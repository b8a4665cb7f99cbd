# SPDX-License-Identifier: GPL-2.0-only
"""Arguments that are none are refused in words; sizes are read and written as fio does."""

import argparse
from collections.abc import Callable

import pytest
from dmabuf_common import arguments, sizes


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.positive, "7", 7),
        (arguments.seconds, "0.5", 0.5),
        (arguments.above_zero, "1.5", 1.5),
        (arguments.share, "1", 1.0),
        (arguments.some(("a", "b")), "b,a,b", ["b", "a"]),
        (arguments.listed(arguments.positive), "1,2", [1, 2]),
    ],
)
def test_what_is_meant_is_taken(kind: Callable[[str], object], text: str, value: object) -> None:
    assert kind(text) == value


def refuse(text: str) -> int:
    raise ValueError(f"{text} is refused")


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (arguments.positive, "0", "0 is not a positive number"),
        (arguments.positive, "x", "x is not a positive number"),
        (arguments.positive, "1.5", "1.5 is not a positive number"),
        (arguments.seconds, "0", "0 is not a positive number of seconds"),
        (arguments.above_zero, "0", "0 is not a positive number"),
        (arguments.above_zero, "inf", "inf is not a positive number"),
        (arguments.seconds, "inf", "inf is not a positive number of seconds"),
        (arguments.seconds, "nan", "nan is not a positive number of seconds"),
        (arguments.share, "0", "0 is not in 0 … 1"),
        (arguments.share, "1.01", "1.01 is not in 0 … 1"),
        (arguments.some(("a", "b")), "a,c", "'c' is none of a, b"),
        (arguments.listed(arguments.positive), "1,0", "0 is not a positive number"),
        (arguments.listed(refuse), "z", "z is refused"),
    ],
)
def test_what_is_not_meant_is_refused_in_words(
    kind: Callable[[str], object], text: str, says: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as found:
        kind(text)
    assert str(found.value) == says


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("4k", 4096), ("1M", 1 << 20), ("4 KiB", 4096), ("4kb", 4096), ("2g", 2 << 30),
     ("", None), ("0", None), ("4k-8k", None), ("4k,8k", None), ("-1", None), ("1x", None), ("k", None)],
)
def test_a_size_is_read_as_fio_reads_it(text: str, size: int | None) -> None:
    assert sizes.parse(text) == size


@pytest.mark.parametrize(
    ("size", "text"), [(512, "512"), (4096, "4k"), (1 << 20, "1m"), (1536, "1536"), (1 << 30, "1024m")]
)
def test_a_size_is_written_as_short_as_can_be(size: int, text: str) -> None:
    assert sizes.size_text(size) == text
    assert sizes.parse(text) == size
