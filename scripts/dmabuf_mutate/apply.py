# SPDX-License-Identifier: GPL-2.0-only
"""Finds the text that a mutant changes, and changes it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from .model import Edit, Mutant


class Stale(Exception):
    """A mutant does not fit the code any more; the text says why."""


def _closing(text: str, start: int, pair: str) -> int:
    """The index behind the bracket that closes the one at `start`; -1 if none does."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] == pair[0]:
            depth += 1
        elif text[index] == pair[1]:
            depth -= 1
            if depth == 0:
                return index + 1
    return -1


# Comments, texts and characters: a bracket in them closes nothing.
_NO_CODE = re.compile(r"""//.*|/\*[\s\S]*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'""")


def _c_functions(text: str, name: str) -> list[tuple[int, int]]:
    text = _NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    found = []
    for match in re.finditer(rf"\b{re.escape(name)}\s*\(", text):
        behind = _closing(text, match.end() - 1, "()")
        if behind < 0:
            continue
        # A definition goes on with its body; a call or a declaration with something else.
        body = re.match(r"(?:\s|const\b|noexcept\b|override\b|->[^{};]*)*\{", text[behind:])
        if body is None:
            continue
        end = _closing(text, behind + body.end() - 1, "{}")
        line = text.rfind("\n", 0, match.start()) + 1
        if end > 0 and not re.match(r"\s*(?:if|while|for|switch|return|else)\b", text[line:]):
            found.append((match.start(), end))
    return found


def _python_functions(text: str, name: str) -> list[tuple[int, int]]:
    found = []
    for match in re.finditer(rf"^([ \t]*)(?:def|class) {re.escape(name)}\b.*\n", text, re.MULTILINE):
        indent = match.group(1)
        # The body ends at the first line that is indented no deeper, but for the end of the signature.
        end = re.compile(rf"^(?!{indent}[ \t]|\s*$|{indent}\))", re.MULTILINE).search(
            text, match.end()
        )
        found.append((match.start(), end.start() if end else len(text)))
    return found


def _parts(text: str, edit: Edit) -> list[tuple[int, int]]:
    """Where in the file the text is looked for; a function may have a definition for each #ifdef."""
    if edit.function is None:
        return [(0, len(text))]
    finder = _python_functions if edit.file.endswith(".py") else _c_functions
    found = finder(text, edit.function)
    if not found:
        raise Stale(f"{edit.file} has no definition of {edit.function}")
    return found


def change(text: str, edit: Edit) -> str:
    """The file's text with the edit made; raises Stale unless it fits in exactly one place."""
    places = [
        match.start() + start
        for start, end in _parts(text, edit)
        for match in re.finditer(re.escape(edit.find), text[start:end])
    ]
    if len(places) != 1:
        where = f"{edit.function} of {edit.file}" if edit.function else edit.file
        raise Stale(f"{edit.find!r} occurs {len(places)} times in {where}")
    return text[: places[0]] + edit.replace + text[places[0] + len(edit.find) :]


def changed_files(edits: Sequence[Edit], read: Callable[[str], str]) -> dict[str, str]:
    """The files that the edits change, by name, as they are after all of them."""
    texts: dict[str, str] = {}
    for edit in edits:
        if edit.file not in texts:
            try:
                texts[edit.file] = read(edit.file)
            except OSError as error:
                raise Stale(f"{edit.file}: {error.strerror}") from error
        texts[edit.file] = change(texts[edit.file], edit)
    return texts


def stale(mutants: Sequence[Mutant], base: Path) -> dict[str, str]:
    """The mutants that do not fit the checkout at `base`, by id, and why."""
    found: dict[str, str] = {}
    for mutant in mutants:
        try:
            changed_files(mutant.edits, lambda name: (base / name).read_text(encoding="utf-8"))
        except Stale as error:
            found[mutant.id] = str(error)
    return found
