# SPDX-License-Identifier: GPL-2.0-only
"""docs/troubleshooting.md and the tables of docs/errors.md quote messages: each is in the source, word for word."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
ERRORS = (ROOT / "docs/errors.md").read_text()
# In a table: what stands for something that differs.
PLACEHOLDER = re.compile(r"\b(?:NAME|N)\b")
# No part of a quote may be so short that it is found everywhere.
LEAST_LETTERS = 9
# Of what differs between two parts of a message, characters.
MOST_BETWEEN = 240
FOLDERS = ("engine", "kernel", "scripts")
SUFFIXES = (".c", ".h", ".cpp", ".hpp", ".py", ".def", ".sh", "")


def joined(text: str) -> str:
    """Source with each message in one piece: string literals that follow each other are one to the compiler."""
    text = re.sub(r'"\s*(?:#.*)?\n\s*(?:rb?|f)?"', "", text)
    text = re.sub(r'"\s+f?"', "", text)
    return text.replace('\\"', '"')


@cache
def sources() -> tuple[str, ...]:
    files = [ROOT / "CMakeLists.txt"]
    for folder in FOLDERS:
        files += [one for one in sorted((ROOT / folder).rglob("*")) if one.is_file() and one.suffix in SUFFIXES]
    return tuple(joined(one.read_text(errors="replace")) for one in files if "__pycache__" not in one.parts)


def entries(page: str) -> list[tuple[str, str]]:
    """Headings of the third level, each with the text below it."""
    parts = re.split(r"^### (.*)$", page, flags=re.MULTILINE)
    found = zip(parts[1::2], parts[2::2], strict=True)
    return [(head, re.split(r"^## ", body, flags=re.MULTILINE)[0]) for head, body in found]


def quoted(heading: str) -> str:
    assert heading.startswith("`") and heading.endswith("`"), f"{heading}: a heading is a quote"
    return heading[1:-1]


def said(message: str, texts: tuple[str, ...]) -> bool:
    """Is it in one of the texts? An ellipsis stands for anything on the same line."""
    parts = [part for part in message.split("…") if part.strip()]
    between = f".{{0,{MOST_BETWEEN}}}?"
    pattern = re.compile(between.join(re.escape(part.strip()) for part in parts))
    return any(pattern.search(text) for text in texts)


@pytest.mark.parametrize("heading", [head for head, _ in entries(PAGE)])
def test_the_source_has_the_message(heading: str) -> None:
    message = quoted(heading)
    assert max(len(part.strip()) for part in message.split("…")) >= LEAST_LETTERS
    assert said(message, sources()), f"no source says {message!r}"


@pytest.mark.parametrize(("heading", "body"), entries(PAGE))
def test_each_entry_has_a_way_out(heading: str, body: str) -> None:
    assert re.search(r"^\*\*Do:\*\* \S", body, re.MULTILINE), f"{heading} says nothing of what to do"


def rows(page: str) -> list[str]:
    """The messages in the tables that begin with "said", but for those of fio itself."""
    found = []
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        if "| said |" in part and not part.startswith("What is fio's own"):
            cells = re.findall(r"^\| (.*?) \| .*\|$", part, re.MULTILINE)
            found += [one.strip().replace("`", "") for cell in cells if cell != "said" for one in cell.split(";")]
    return found


@pytest.mark.parametrize("message", rows(ERRORS))
def test_the_source_has_what_the_page_of_errors_quotes(message: str) -> None:
    assert said(PLACEHOLDER.sub("…", message), sources()), f"no source says {message!r}"


def test_the_page_of_errors_has_messages() -> None:
    assert len(rows(ERRORS)) > 30
    assert rows("## A\n\n| said | x |\n|---|---|\n| one; `two` | y |\n") == ["one", "two"]


# Scripts that a newcomer starts first: each way in which they end has an entry.
FIRST = ("check", "demo", "needed.sh")


def endings(text: str) -> list[str]:
    """The messages with which a shell script ends, an ellipsis for what differs."""
    found = re.findall(r'\b(?:fail|need_root|echo(?= "demo:)) "(?:demo: )?((?:[^"\\]|\\.)*)"', text)
    found = [re.sub(r"\$\([^)]*\)|\$\{[^}]*\}|\$\w+|\$\*", "…", one) for one in found]
    # What a caller says.
    return [one for one in found if not one.startswith("…")]


@pytest.mark.parametrize("name", FIRST)
def test_each_end_of_the_first_commands_has_an_entry(name: str) -> None:
    headings = [quoted(head).removeprefix("demo: ") for head, _ in entries(PAGE)]
    ends = endings((ROOT / "scripts" / name).read_text())
    assert ends
    missing = [end for end in ends if not any(said(heading, (end,)) for heading in headings)]
    assert not missing


def test_no_entry_stands_twice() -> None:
    headings = [head for head, _ in entries(PAGE)]
    assert len(headings) > 50
    assert len(set(headings)) == len(headings)


def test_a_message_that_changed_is_noticed() -> None:
    """The look-up itself: across literals, with gaps, and not across lines."""
    text = joined('fail("there is no %s; load "\n     "the module", x);\nother("and so on");\n')
    assert said("there is no …; load the module", (text,))
    assert not said("there is no …; load a module", (text,))
    assert not said("the module … and so on", (text,))
    assert joined('f"a {b} "\n  f"c" "d"') == 'f"a {b} cd"'
