# SPDX-License-Identifier: GPL-2.0-only
"""An errno has a name, also one that the kernel should have kept to itself."""

import errno
import re
from pathlib import Path

import pytest

from dmabuf_common import errnos


@pytest.mark.parametrize("code,name,words", [
    (errno.ENOMEM, "ENOMEM", "Cannot allocate memory"),
    (524, "ENOTSUPP", "Not supported, the kernel's own errno 524"),
    (4000, "errno 4000", "Unknown error 4000"),
])
def test_names_and_words(code: int, name: str, words: str) -> None:
    assert (errnos.name(code), errnos.words(code)) == (name, words)


# A row of the tables in C++ and C: a number or the engine's name of it, the name, the words.
ROW = re.compile(r'\{\s*(\w+), "(E[A-Z]+)",\s+"([^"]+)"\s*\}')
ENGINE = Path(__file__).parents[2] / "engine"


@pytest.mark.parametrize("table", ["base/error.cpp", "module/words.c"])
def test_the_engine_has_the_same_table(table: str) -> None:
    numbers = dict(re.findall(r"constexpr int (\w+) = (\d+);", (ENGINE / "base/error.hpp").read_text()))
    rows = ROW.findall((ENGINE / table).read_text())
    assert {int(numbers.get(code, code)): (name, words) for code, name, words in rows} == errnos.KERNEL_OWN
