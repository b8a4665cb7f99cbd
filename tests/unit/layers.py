# SPDX-License-Identifier: GPL-2.0-only
"""Reads which wing of the engine includes which, and finds what the wings may not do.

A wing is a folder of engine/. What it may include is said here, and in docs/design.md, which has to agree.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

# By wing: the other wings of which it may include headers.
MAY_INCLUDE: Mapping[str, frozenset[str]] = {
    "base": frozenset(),
    "datapath": frozenset({"base"}),
    "exporter": frozenset({"base"}),
    "module": frozenset({"base"}),
    "job": frozenset({"base", "datapath", "exporter", "module"}),
    "fio": frozenset({"base", "datapath", "exporter", "job"}),
    "integrity": frozenset({"base", "datapath", "exporter", "module"}),
}
# The one header that includes headers that are not the engine's, all of them fio's.
FIO_API = "fio/api.hpp"
# C that makes functions of fio's headers, and includes them itself.
FIO_C = ("fio/old_cmdprio.c",)
# The program beside the engine, whose files include each other by their bare names.
BARE_NAMES = "integrity"

_SOURCES = (".cpp", ".hpp", ".def", ".c", ".h")
_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# What each file includes: its path and theirs, below engine/.
Includes = Mapping[str, list[str]]


def _sources(engine: Path) -> Iterator[Path]:
    for path in sorted(engine.rglob("*")):
        if path.suffix in _SOURCES and path.is_file():
            yield path


def _lines(path: Path) -> list[tuple[bool, str]]:
    """The includes of a file: whether in quotes, and what."""
    return [(mark == '"', name) for mark, name in _INCLUDE.findall(path.read_text())]


def includes(engine: Path) -> Includes:
    """The engine's own headers that each of its files includes."""
    found: dict[str, list[str]] = {}
    for path in _sources(engine):
        names = found.setdefault(str(path.relative_to(engine)), [])
        for quoted, name in _lines(path):
            bare = f"{BARE_NAMES}/{name}"
            if (engine / name).is_file():
                names.append(name)
            elif quoted and path.parent.name == BARE_NAMES and (engine / bare).is_file():
                names.append(bare)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Circles of a graph, each as "a > b > a"; at least one of those that it has."""
    found: set[str] = set()
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> None:
        if node in way:
            circle = way[way.index(node) :]
            first = circle.index(min(circle))
            found.add(" > ".join([*circle[first:], *circle[:first], circle[first]]))
            return
        if node in done:
            return
        for other in sorted(graph.get(node, ())):
            visit(other, [*way, node])
        done.add(node)

    for node in sorted(graph):
        visit(node, [])
    return sorted(found)


def _foreign(engine: Path) -> list[str]:
    """Headers of others than the engine and the system, where they may not be included."""
    api = engine / FIO_API
    of_fio = {name for quoted, name in _lines(api) if quoted} if api.is_file() else set()
    own = includes(engine)
    found = []
    for path in _sources(engine):
        file = str(path.relative_to(engine))
        if file == FIO_API or file in FIO_C:
            continue
        for quoted, name in _lines(path):
            known = name in own[file] or f"{BARE_NAMES}/{name}" in own[file]
            if not known and (quoted or name in of_fio):
                found.append(f"{file} includes {name}, which is not the engine's; only {FIO_API} may")
    return found


def faults(engine: Path) -> list[str]:
    """All that is against the rules, one sentence each."""
    found = []
    between: dict[str, set[str]] = {}
    files: dict[str, set[str]] = {}
    for file, names in includes(engine).items():
        wing, _, rest = file.partition("/")
        if not rest or wing not in MAY_INCLUDE:
            found.append(f"{file} is in no wing")
            continue
        files[file] = set(names)
        for name in names:
            other = name.partition("/")[0]
            if other == wing:
                continue
            between.setdefault(wing, set()).add(other)
            if other not in MAY_INCLUDE[wing]:
                found.append(f"{file} includes {name}, and {wing}/ may not know {other}/")
    found += [f"circle of wings: {circle}" for circle in circles(between)]
    found += [f"circle of files: {circle}" for circle in circles(files)]
    return found + _foreign(engine)


def documented(page: str) -> dict[str, frozenset[str]]:
    """The wings and what they may include, by the table below "## The engine's wings" of a page."""
    _, _, after = page.partition("## The engine's wings\n")
    section = after.partition("\n## ")[0]
    rows = re.findall(r"^\| `(?:engine/)?(\w+)/` \|.*\| ([^|]*) \|$", section, re.MULTILINE)
    return {wing: frozenset(re.findall(r"`(\w+)/`", others)) for wing, others in rows}
