# SPDX-License-Identifier: GPL-2.0-only
"""Finds circles of calls between source files, by the symbols of their object files.

A file calls another one when it uses a symbol that the other one defines. Inline functions of headers
count for the file that they are compiled into.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping

# Whose symbols each file calls: by caller, then by callee.
Graph = Mapping[str, Mapping[str, list[str]]]

# A line of `nm --print-file-name --extern-only`: "io.o:0000000000000480 T dmabuf_rw_issue".
_LINE = re.compile(r"^(?:.*/)?([^/:]+)\.o:\s*(?:[0-9a-f]+)?\s+(\w) (\S+)$")

# A tracepoint's parts are defined in one file on behalf of all that have the event: they are no calls.
_TRACEPOINT = re.compile(r"^__(tracepoint|traceiter|probestub|SCK__tp_func|SCT__tp_func)_")


def calls(nm: Iterable[str]) -> Graph:
    """Which file calls which, and by what symbols; raises ValueError for a line that nm does not write."""
    defined: dict[str, str] = {}
    used: dict[str, set[str]] = {}
    for line in nm:
        if not line.strip():
            continue
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"nm wrote {line!r}")
        file, kind, symbol = found.groups()
        symbols = used.setdefault(file, set())
        if _TRACEPOINT.match(symbol):
            continue
        if kind in "Uwv":
            symbols.add(symbol)
        else:
            defined[symbol] = file
    graph: dict[str, dict[str, list[str]]] = {}
    for file, symbols in used.items():
        callees = graph.setdefault(file, {})
        for symbol in sorted(symbols):
            callee = defined.get(symbol)
            if callee is not None and callee != file:
                callees.setdefault(callee, []).append(symbol)
    return graph


def _way(graph: Graph, start: str, end: str) -> list[str]:
    """The shortest way from one file to another, both included; empty when there is none."""
    before: dict[str, str] = {}
    queue = deque([start])
    while queue:
        file = queue.popleft()
        if file == end:
            way = [file]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        for callee in sorted(graph.get(file, {})):
            if callee != start and callee not in before:
                before[callee] = file
                queue.append(callee)
    return []


def circles(graph: Graph) -> list[list[str]]:
    """The shortest circle through each call that is part of one; the first file is not repeated."""
    found: dict[tuple[str, ...], None] = {}
    for caller in sorted(graph):
        for callee in sorted(graph[caller]):
            way = _way(graph, callee, caller)
            if way:
                first = way.index(min(way))
                found[(*way[first:], *way[:first])] = None
    return [list(circle) for circle in sorted(found)]


def describe(graph: Graph, circle: list[str]) -> str:
    """One line: the files of a circle, and by what each calls the next one."""
    words = [f"{circle[0]}.c"]
    for caller, callee in zip(circle, [*circle[1:], circle[0]], strict=True):
        symbols = graph[caller][callee]
        more = f" and {len(symbols) - 1} more" if len(symbols) > 1 else ""
        words.append(f"-> {callee}.c ({symbols[0]}{more})")
    return " ".join(words)
