# SPDX-License-Identifier: GPL-2.0-only
"""What the documents say of the module's code is there: each function and each file that they name."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
KERNEL = {path.name: path.read_text() for path in (REPOSITORY / "kernel").glob("*.[ch]")}
# `name()` in file.c, also `one()`, `two()` in file.c
_PLACED = re.compile(r"((?:`\w+\(\)`(?:, | and )?)+) in (\w+\.[ch])\b")
_FUNCTION = re.compile(r"`(dmabuf_rw_\w+|\w+)\(\)`")
DOCUMENTS = ("security.md", "design.md", "upstream.md", "kernel-module.md", "architecture.md")


def defined(name: str, text: str) -> bool:
    """Does a file of the kernel's style define or declare that function or macro?"""
    return bool(re.search(rf"^(?:[a-z#].*[ *])?{name}\(", text, re.MULTILINE))


def linux(name: str) -> bool:
    """Is it no function of the module's?"""
    return not any(defined(name, code) for code in KERNEL.values())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_function_is_in_the_file_that_is_named(document: str) -> None:
    text = (REPOSITORY / "docs" / document).read_text()
    missing = [
        f"{name}() in {file}"
        for names, file in _PLACED.findall(text)
        if file in KERNEL
        for name in _FUNCTION.findall(names)
        if not (defined(name, KERNEL[file]) or (linux(name) and name in KERNEL[file]))
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_function_of_the_module_exists(document: str) -> None:
    text = (REPOSITORY / "docs" / document).read_text()
    names = {name for name in _FUNCTION.findall(text) if name.startswith("dmabuf_rw_")}
    assert not {name for name in names if linux(name)}


def test_the_check_finds_what_is_missing() -> None:
    assert defined("dmabuf_rw_attach_get", KERNEL["attach.c"])
    assert defined("attach_alloc", KERNEL["attach.c"])
    assert not defined("attach_alloc", KERNEL["map.c"])
    assert _PLACED.findall("`one()`, `two()` in a.c; `three()` stays") == [("`one()`, `two()`", "a.c")]
