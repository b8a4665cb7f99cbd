# SPDX-License-Identifier: GPL-2.0-only
"""The results of a run: one line of JSON for each mutant, so that an interrupted run goes on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dmabuf_common import files

from .model import Lists, Mutant

CAUGHT = "caught"
SURVIVED = "survived"
# It was not built, or the tests fail without it: nothing is known.
ERROR = "error"
STALE = "stale"


@dataclass(frozen=True)
class Result:
    """What became of one mutant.

    key: what was tried (see key_of()); tree: a hash of the code and of the tests it was tried in; by:
    the test that noticed, detail: what it said, or what went wrong; seconds: with the build.
    """

    id: str
    key: str
    tree: str
    verdict: str
    by: str = ""
    detail: str = ""
    seconds: float = 0.0


def key_of(mutant: Mutant, lists: Lists) -> str:
    """A hash of everything that the lists say of a mutant and that could change its result."""
    said = asdict(mutant)
    for silent in ("breaks", "explained"):
        del said[silent]
    said["commands"] = [asdict(lists.commands[x]) for x in mutant.tests if x in lists.commands]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Result]:
    """The last result of each mutant; a line that an interrupted run did not finish is left out."""
    found: dict[str, Result] = {}
    for said in files.read_lines(path):
        try:
            result = Result(**said)
        except TypeError:
            continue
        found[result.id] = result
    return found


def append(path: Path, result: Result) -> None:
    """Adds a result; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.append_line(path, asdict(result))


def known(
    found: Mapping[str, Result],
    mutants: Iterable[Mutant],
    lists: Lists,
    trees: Mapping[str, str] | None,
) -> dict[str, Result]:
    """The results that still hold: of the same change and the same tests, and of the same tree.

    trees: the hash of the present tree by level, or None to take results of an earlier tree, too.
    """
    kept = {}
    for mutant in mutants:
        result = found.get(mutant.id)
        if result is None or result.verdict not in (CAUGHT, SURVIVED):
            continue
        if result.key != key_of(mutant, lists):
            continue
        if trees is None or result.tree == trees[mutant.level]:
            kept[mutant.id] = result
    return kept
