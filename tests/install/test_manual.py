# SPDX-License-Identifier: GPL-2.0-only
"""The pages of the manual and the completion that are installed: of every program, whole, and as its --help says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("dmabuf-bench", "dmabuf-guard", "dmabuf-integrity", "dmabuf-nightly", "dmabuf-qual", "gpu-check")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def shown(page: Path) -> str:
    """A page as it is read, without bold and breaks of lines."""
    groff = shutil.which("groff")
    if not groff:
        pytest.skip("groff is not here: apt-get install groff-base")
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", "-rF0", "-P-cbou", str(page)], text=True, check=True,
                          capture_output=True)  # fmt: skip
    assert done.stderr == ""
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_has_every_option_of_the_help(prefix: Path, name: str) -> None:
    page = shown(prefix / f"share/man/man1/{name}.1")
    assert "NAME" in page and f"{name} - " in page and "SEE ALSO" in page
    program = prefix / "bin" / name
    texts = [subprocess.run([str(program), "--help"], text=True, capture_output=True, check=True).stdout]
    commands = re.findall(r"^ {4}([a-z]+) ", texts[0].partition("COMMAND\n")[2], re.MULTILINE)
    for command in commands if name != "dmabuf-integrity" else ():
        done = subprocess.run([str(program), command, "--help"], text=True, capture_output=True, check=True)
        texts.append(done.stdout)
    wanted = set(OPTION.findall(" ".join(texts)))
    assert len(wanted) > 2
    assert wanted - set(OPTION.findall(page)) == set()


@pytest.mark.parametrize("page", ["man7/libdmabuf.7", "man4/dmabuf_rw.4"])
def test_a_written_page_is_read_without_a_warning(prefix: Path, page: str) -> None:
    assert "NAME" in shown(prefix / "share/man" / page)


def test_the_engines_page_has_its_options_exporters_and_datapaths(prefix: Path) -> None:
    page = (prefix / "share/man/man7/libdmabuf.7").read_text()
    text = (ROOT / "engine/fio/options.cpp").read_text()
    options = set(re.findall(r'"(dmabuf_[a-z_]+)"', text))
    assert len(options) >= 10
    assert set(re.findall(r"^\.BI (dmabuf_\w+)=", page, re.MULTILINE)) == options
    said = dict(re.findall(r'^\.\\" (\w+)\n\.IR (.*(?:\n[a-z ].*\n\.IR .*)?)$', page, re.MULTILINE))
    help_text = subprocess.run([str(prefix / "bin/dmabuf-integrity"), "--help"], text=True, capture_output=True,
                               check=True).stdout  # fmt: skip
    (kinds,) = re.findall(r"^KIND: (.*)$", help_text, re.MULTILINE)
    words = {word for word in re.findall(r"[a-z0-9]+", re.sub(r'"[^"]*"', " ", said["exporters"]))}
    assert set(kinds.split(", ")) == words


def completed(prefix: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    file = prefix / "share/bash-completion/completions" / words[0]
    code = (f'source "{file}"; COMP_WORDS=({" ".join(repr(word) for word in words)}); '
            f"COMP_CWORD={len(words) - 1}; _libdmabuf {words[0]}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")  # fmt: skip
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
