# SPDX-License-Identifier: GPL-2.0-only
"""An errno has a name, also one that the kernel should have kept to itself."""

import errno

import pytest

from dmabuf_common import errnos


@pytest.mark.parametrize("code,name,words", [
    (errno.ENOMEM, "ENOMEM", "Cannot allocate memory"),
    (524, "ENOTSUPP", "Not supported, the kernel's own ENOTSUPP"),
    (4000, "errno 4000", "Unknown error 4000"),
])
def test_names_and_words(code: int, name: str, words: str) -> None:
    assert (errnos.name(code), errnos.words(code)) == (name, words)
