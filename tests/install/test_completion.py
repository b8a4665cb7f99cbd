# SPDX-License-Identifier: GPL-2.0-only
"""The completion for bash that is installed offers what the programs take."""

import subprocess
from pathlib import Path

import pytest


def completed(prefix: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    file = prefix / "share/bash-completion/completions" / words[0]
    code = (f'source "{file}"; COMP_WORDS=({" ".join(repr(word) for word in words)}); '
            f"COMP_CWORD={len(words) - 1}; _libdmabuf {words[0]}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = subprocess.run(["bash", "-c", code], text=True, capture_output=True, check=True, cwd=prefix)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("dmabuf-qual", "pre"), ["preflight"]),
        (("dmabuf-qual", "run", "--er"), ["--erase"]),
        (("dmabuf-nightly", "report", "--form"), ["--format"]),
        (("dmabuf-nightly", "report", "--format", "h"), ["html"]),
        (("gpu-check", "--exporter", "x"), ["xe"]),
        (("dmabuf-guard", "--ser"), ["--serial"]),
        (("dmabuf-qual", "report", "sha"), ["share"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_bash_completes(prefix: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(prefix, *words) == offered
