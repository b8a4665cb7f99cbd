# SPDX-License-Identifier: GPL-2.0-only
"""The manual pages against the source, both ways: no option, case, call, exporter or reason is missing on either side,
and each page can be read."""

import argparse
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs/man"
sys.path.insert(0, str(ROOT / "scripts"))

# By page: the module that has its program's parser().
PROGRAMS = {
    "dmabuf-qual.1": "dmabuf_qual.cli",
    "dmabuf-nightly.1": "dmabuf_nightly.cli",
    "dmabuf-bench.1": "dmabuf_bench.cli",
    "dmabuf-lab.1": "dmabuf_lab.cli",
    "dmabuf-guard.8": "dmabuf_common.drive_program",
    "gpu-check.1": "dmabuf_gpu.cli",
}
PAGES = sorted(MAN.glob("*.scd"))
LEFT_OUT = (argparse._HelpAction, argparse._SubParsersAction)


def page(name: str) -> str:
    return (MAN / f"{name}.scd").read_text()


def section(text: str, title: str) -> str:
    """What stands below a heading of the first level."""
    found = re.search(rf"^# {re.escape(title)}\n(.*?)(?=^# |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title}"
    return found[1]


def entries(text: str) -> list[tuple[str, str]]:
    """The lines that something is described below, each with the indented lines behind it."""
    return re.findall(r"^([*_].*)\n((?:\t.*\n)+)", text, re.MULTILINE)


def described(text: str) -> dict[str, str]:
    """By each name in bold in such a line, without what follows an equals sign, the whole entry."""
    return {
        name.removesuffix("="): head + "\n" + body
        for head, body in entries(text)
        for name in re.findall(r"\*([^*]+)\*", head)
    }


def bold(text: str) -> set[str]:
    return set(described(text))


def documented(text: str) -> dict[str, dict[str, str]]:
    """By command, the options that the page has, with their entries; a heading may name several commands. By "",
    those of the program."""
    found = {"": described(section(text, "OPTIONS")) if "\n# OPTIONS\n" in text else {}}
    if "\n# COMMANDS\n" in text:
        parts = re.split(r"^## (.*)$", section(text, "COMMANDS"), flags=re.MULTILINE)
        for names, body in zip(parts[1::2], parts[2::2], strict=True):
            for name in names.split(", "):
                found.setdefault(name, {}).update(described(body))
    return found


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions if not isinstance(action, LEFT_OUT) for name in action.option_strings}


def commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command that has none below it, by the words that name it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                deeper = list(commands(below, f"{before}{name} "))
                yield from deeper or [(f"{before}{name}", below)]


def parsed(name: str) -> argparse.ArgumentParser:
    made = importlib.import_module(PROGRAMS[name]).parser()
    assert isinstance(made, argparse.ArgumentParser)
    return made


@pytest.mark.parametrize("name", PROGRAMS)
def test_page_and_program_have_the_same_options(name: str) -> None:
    top = parsed(name)
    wanted = {"": options(top)} | {words: options(below) for words, below in commands(top)}
    assert sum(map(len, wanted.values())) > 4
    assert {words: set(found) for words, found in documented(page(name)).items()} == wanted


def names(entry: str, choice: str) -> bool:
    return bool(re.search(rf"(?<![A-Za-z0-9]){re.escape(choice)}(?![A-Za-z0-9])", entry))


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_entry_names_the_choices_and_the_value(name: str) -> None:
    top = parsed(name)
    found = documented(page(name))
    for words, below in [("", top), *commands(top)]:
        for action in below._actions:
            if isinstance(action, LEFT_OUT) or not action.option_strings:
                continue
            option = action.option_strings[0]
            entry = found[words][option]
            choices = list(action.choices or ())
            if all(isinstance(choice, int) for choice in choices):
                choices = choices[:1] + choices[-1:]  # a range
            missing = [choice for choice in map(str, choices) if not names(entry, choice)]
            assert not missing, f"{words} {option}: {missing}"
            if isinstance(action.metavar, str):
                assert f"*{option}* _{action.metavar}_" in entry, f"{words} {option}"


def source(name: str) -> str:
    return (ROOT / name).read_text()


def test_integrity_has_the_options_and_cases_of_its_page() -> None:
    code, text = source("engine/integrity/main.cpp"), page("dmabuf-integrity.1")
    found = {f"--{name}" for name in re.findall(r'\{"([\w-]+)", [01], nullptr, \w+\}', code)}
    assert len(found) > 10 and bold(section(text, "OPTIONS")) == found
    cases = set(re.findall(r'^    \{"(\w+)", run_\w+, ', code, re.MULTILINE))
    assert len(cases) > 10 and bold(section(text, "CASES")) == cases


def test_the_engine_has_the_options_of_its_page() -> None:
    own, uring = source("engine/fio/options.cpp"), source("engine/fio/options_uring.cpp")
    found = set(re.findall(r'\boption\(\s*"(\w+)"', own + uring))
    found |= set(re.findall(r'\b(?:flag|add)\("(\w+)"', uring))
    found |= set(re.findall(r'^    \{"(\w+)", FIO_OPT_', uring, re.MULTILINE))
    assert len(found) > 30
    assert bold(section(page("libdmabuf.7"), "OPTIONS")) == found


@pytest.mark.parametrize(
    ("title", "file", "pattern"),
    [
        ("EXPORTERS", "engine/exporter/exporters.def", r"^DMABUF_EXPORTER\((\w+),"),
        ("DATAPATHS", "engine/datapath/kinds.hpp", r"\{\.path = Datapath::\w+,\s*\.name = \"(\w+)\""),
        ("SUBMISSION", "engine/datapath/kinds.hpp", r"\{\.submit = Submit::\w+,\s*\.name = \"(\w+)\""),
    ],
)
def test_the_engines_tables_are_those_of_its_page(title: str, file: str, pattern: str) -> None:
    found = set(re.findall(pattern, source(file), re.MULTILINE))
    assert len(found) > 3
    assert bold(section(page("libdmabuf.7"), title)) == found


HEADER = source("kernel/uapi/linux/dmabuf_rw.h")


@pytest.mark.parametrize(
    ("title", "pattern"),
    [
        ("DATAPATHS", r"^#define (DMABUF_RW_PATH_\w+)\s"),
        ("IOCTLS", r"^#define (DMABUF_RW_IOC_(?!MAGIC)\w+)\s"),
        ("IO_URING COMMANDS", r"^#define (DMABUF_RW_URING_\w+)\s"),
        ("FEATURES", r"^#define (DMABUF_RW_FEAT_\w+)\s"),
    ],
)
def test_the_modules_calls_are_those_of_its_page(title: str, pattern: str) -> None:
    found = set(re.findall(pattern, HEADER, re.MULTILINE))
    assert len(found) > 3
    assert bold(section(page("dmabuf_rw.4"), title)) == found


def literal(text: str) -> str:
    """String literals that follow each other are one."""
    return re.sub(r'"\s*\n\s*"', "", text)


def numbers() -> dict[str, int]:
    found = re.findall(r"^#define DMABUF_RW_REASON_(\w+)\s+(\d+)", HEADER, re.MULTILINE)
    return {name: int(number) for name, number in found}


def words() -> dict[str, tuple[str, str]]:
    """By reason: the sentence, and what the library advises."""
    text = literal(source("engine/module/words.c"))
    found = re.findall(r'REASON\((\w+),\s*"([^"]*)",\s*"([^"]*)"\)', text)
    return {name: (sentence, remedy) for name, sentence, remedy in found}


def remedies() -> dict[str, str]:
    """By reason: what the engine advises, where that is something else."""
    text = literal(source("engine/module/reasons.cpp"))
    return dict(re.findall(r'case DMABUF_RW_REASON_(\w+):\s*return "([^"]*)";', text))


def test_the_pages_reasons_are_the_modules() -> None:
    rows = re.findall(r"^\|  (\d+)\n:  (\w+)\n:  (.*)$", section(page("dmabuf_rw.4"), "REASONS"), re.MULTILINE)
    assert len(numbers()) > 30
    assert {name: int(number) for number, name, _ in rows} == numbers()
    assert {name: sentence for _, name, sentence in rows} == {name: said for name, (said, _) in words().items()}


def test_errors_md_has_the_reasons_and_the_engines_remedies() -> None:
    text = source("docs/errors.md").partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert {name: int(number) for number, name, _, _ in rows} == numbers()
    wanted = {name: (said, remedies().get(name, advice)) for name, (said, advice) in words().items()}
    assert {name: (said, advice) for _, name, said, advice in rows} == wanted


def test_there_is_a_page_for_each_program() -> None:
    names = {path.name.removesuffix(".scd") for path in PAGES}
    assert set(PROGRAMS) | {"libdmabuf.7", "dmabuf_rw.4", "dmabuf-integrity.1"} == names


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_a_page_can_be_read(path: Path) -> None:
    """scdoc takes it, man's formatter has nothing to say, and the pages that it names are there."""
    text = path.read_text()
    assert text.startswith(re.sub(r"(.*)\.(\d)", r"\1(\2)", path.stem) + "\n")
    own = {re.sub(r"(.*)\.(\d)", r"\1(\2)", one.stem) for one in PAGES} | {"libdmabuf_rw(3)"}
    others = {"read(2)", "write(2)", "sendfile(2)", "mmap(2)", "poll(2)", "io_uring(7)", "fio(1)", "mkfs(8)",
              "mkswap(8)", "blkdiscard(8)", "wipefs(8)"}
    assert {f"{name}({number})" for name, number in re.findall(r"\*([\w-]+)\*\((\d)\)", text)} <= own | others
    for name in re.findall(r"docs/[\w./-]+", text):
        assert (ROOT / name).exists(), name
    if not (shutil.which("scdoc") and shutil.which("groff")):
        pytest.skip("scdoc or groff is not here: apt-get install scdoc groff-base")
    made = subprocess.run(["scdoc"], input=text, text=True, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    formatter = ["groff", "-K", "utf8", "-t", "-man", "-Tutf8", "-ww", "-P-cbou"]
    shown = subprocess.run(formatter, input=made.stdout, text=True, capture_output=True, check=False)
    assert shown.returncode == 0 and not shown.stderr, shown.stderr
    assert "NAME" in shown.stdout


def test_what_is_missing_is_noticed() -> None:
    """The reading itself."""
    text = "x(1)\n\n# OPTIONS\n\n*--all*, *-a*\n\tAll.\n\n# COMMANDS\n\n"
    text += "## a, b\n\n*--c* _N|M_\n\tC.\n\n## b\n\n*--d*\n\tD.\n\n# END\n"
    found = documented(text)
    assert {words: set(entry) for words, entry in found.items()} == {
        "": {"--all", "-a"}, "a": {"--c"}, "b": {"--c", "--d"}
    }
    assert found["b"]["--c"] == "*--c* _N|M_\n\tC.\n"
    assert names(found["b"]["--c"], "N") and not names(found["b"]["--c"], "c.x")
