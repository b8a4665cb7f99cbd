# SPDX-License-Identifier: GPL-2.0-only
"""Mutants and the commands that should notice them, as the lists of tests/mutations name them."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmabuf_lab.errors import LabError

# unit, host: ctest on this machine. vm, debug: commands in a guest, on a stock or the debug kernel.
LEVELS = ("unit", "host", "vm", "debug")
GUEST_LEVELS = ("vm", "debug")
LISTS = "tests/mutations"


@dataclass(frozen=True)
class Edit:
    """One change of one file: the text `find`, which occurs once (in `function`, if one is named)."""

    file: str
    find: str
    replace: str
    function: str | None = None


@dataclass(frozen=True)
class Command:
    """What a guest runs, as a line for its shell.

    lab: options of `dmabuf-lab run` that the command needs; expect: kernel messages that it provokes;
    limit_s: how long the module as it is may take.
    """

    name: str
    run: str
    lab: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    limit_s: float = 120.0


@dataclass(frozen=True)
class Mutant:
    """One way to break the code.

    breaks: what goes wrong, as a sentence. tests: names of ctest tests, or their beginnings (levels unit
    and host), or of commands. explained: why no test can notice it; "" if one must. alone: it does
    damage that outlives the module, so that its guest is not used again.
    """

    id: str
    edits: tuple[Edit, ...]
    breaks: str
    tests: tuple[str, ...]
    level: str
    explained: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Lists:
    """Everything that the lists of a checkout hold."""

    mutants: tuple[Mutant, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise LabError(f"{where}: `{key}` must be a text")
    return value


def _texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise LabError(f"{where}: `{key}` must be a list of texts")
    return tuple(value)


def _only(table: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    unknown = sorted(set(table) - set(keys))
    if unknown:
        raise LabError(f"{where}: unknown key {', '.join(unknown)}")


def _edit(table: Mapping[str, Any], where: str, file: str | None = None) -> Edit:
    edit = Edit(
        _text(table, "file", where, file),
        _text(table, "find", where),
        _text(table, "replace", where),
        _text(table, "function", where, "") or None,
    )
    if not edit.find:
        raise LabError(f"{where}: `find` is empty")
    if edit.find == edit.replace:
        raise LabError(f"{where}: `find` and `replace` are the same")
    return edit


def _mutant(table: Mapping[str, Any], source: str) -> Mutant:
    where = f"{source}: {table.get('id', 'a mutant without id')}"
    keys = ("id", "file", "find", "replace", "function", "breaks", "tests", "level")
    _only(table, (*keys, "explained", "alone", "also"), where)
    first = _edit(table, where)
    also = table.get("also", [])
    for more in also:
        _only(more, ("file", "find", "replace", "function"), where)
    mutant = Mutant(
        id=_text(table, "id", where),
        edits=(first, *(_edit(more, where, first.file) for more in also)),
        breaks=_text(table, "breaks", where),
        tests=_texts(table, "tests", where),
        level=_text(table, "level", where),
        explained=_text(table, "explained", where, ""),
        alone=bool(table.get("alone", False)),
    )
    if mutant.level not in LEVELS:
        raise LabError(f"{where}: level must be one of {', '.join(LEVELS)}, not {mutant.level!r}")
    if not mutant.tests:
        raise LabError(f"{where}: no test is named")
    if not mutant.breaks:
        raise LabError(f"{where}: `breaks` says nothing")
    return mutant


def _command(name: str, table: Mapping[str, Any], source: str) -> Command:
    where = f"{source}: commands.{name}"
    _only(table, ("run", "lab", "expect", "limit_s"), where)
    limit_s = table.get("limit_s", Command.limit_s)
    if not isinstance(limit_s, (int, float)) or limit_s <= 0:
        raise LabError(f"{where}: `limit_s` must be a positive number")
    run = _text(table, "run", where)
    return Command(
        name, run, _texts(table, "lab", where), _texts(table, "expect", where), float(limit_s)
    )


def parse(texts: Mapping[str, str]) -> Lists:
    """Reads lists, given as TOML by file name; raises LabError for what is wrong in them."""
    mutants: list[Mutant] = []
    commands: dict[str, Command] = {}
    for source, text in texts.items():
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise LabError(f"{source}: {error}") from error
        _only(document, ("commands", "mutant"), source)
        for name, table in document.get("commands", {}).items():
            if name in commands:
                raise LabError(f"{source}: the command {name} is there twice")
            commands[name] = _command(name, table, source)
        mutants += [_mutant(table, source) for table in document.get("mutant", [])]
    seen: set[str] = set()
    for mutant in mutants:
        if mutant.id in seen:
            raise LabError(f"the mutant {mutant.id} is there twice")
        seen.add(mutant.id)
        if mutant.level in GUEST_LEVELS:
            for name in mutant.tests:
                if name not in commands:
                    raise LabError(f"{mutant.id}: there is no command {name!r}")
    return Lists(tuple(mutants), commands)


def load(base: Path) -> Lists:
    """The lists of the checkout at `base`."""
    files = sorted((base / LISTS).glob("*.toml"))
    if not files:
        raise LabError(f"there is no list in {base / LISTS}")
    return parse({file.name: file.read_text(encoding="utf-8") for file in files})


def choose(
    lists: Lists, ids: Iterable[str], levels: Iterable[str], files: Iterable[str]
) -> list[Mutant]:
    """The mutants that were asked for: by id or its beginning ("prp-*"), level, part of a file's name.

    What is left empty asks for all. Raises LabError if an id names none.
    """
    wanted, level_names, parts = list(ids), list(levels), list(files)

    def named(mutant: Mutant, word: str) -> bool:
        if word.endswith("*"):
            return mutant.id.startswith(word[:-1])
        return mutant.id == word

    for word in wanted:
        if not any(named(mutant, word) for mutant in lists.mutants):
            raise LabError(f"there is no mutant {word}")
    return [
        mutant
        for mutant in lists.mutants
        if (not wanted or any(named(mutant, word) for word in wanted))
        and (not level_names or mutant.level in level_names)
        and (not parts or any(part in edit.file for part in parts for edit in mutant.edits))
    ]
