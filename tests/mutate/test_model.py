# SPDX-License-Identifier: GPL-2.0-only
"""What a list may say, and that the lists of the repository fit the code."""

from pathlib import Path

import pytest

from dmabuf_lab.errors import LabError
from dmabuf_mutate import apply, model

CHECKOUT = Path(__file__).resolve().parents[2]

MUTANT = """\
[[mutant]]
id = "a"
file = "kernel/a.c"
find = "x"
replace = "y"
breaks = "It breaks."
tests = ["quick"]
level = "vm"
"""

COMMAND = """\
[commands.quick]
run = "true"
lab = ["--formats"]
"""


def parse(text: str) -> model.Lists:
    return model.parse({"list.toml": text})


def test_a_mutant_and_its_command() -> None:
    lists = parse(COMMAND + MUTANT)
    (mutant,) = lists.mutants
    assert mutant.edits == (model.Edit("kernel/a.c", "x", "y"),)
    assert mutant.explained == "" and not mutant.alone
    assert lists.commands["quick"].lab == ("--formats",)


def test_further_edits_are_of_the_same_file_unless_they_name_one() -> None:
    more = 'also = [{ find = "1", replace = "2" }, { file = "b.c", find = "3", replace = "4" }]\n'
    (mutant,) = parse(COMMAND + MUTANT + more).mutants
    assert [edit.file for edit in mutant.edits] == ["kernel/a.c", "kernel/a.c", "b.c"]


@pytest.mark.parametrize(
    "text",
    [
        MUTANT,  # the command is not there
        COMMAND + MUTANT + MUTANT,
        COMMAND + MUTANT.replace('"y"', '"x"'),
        COMMAND + MUTANT.replace('find = "x"', 'find = ""'),
        COMMAND + MUTANT.replace('"vm"', '"elsewhere"'),
        COMMAND + MUTANT.replace('["quick"]', "[]"),
        COMMAND + MUTANT.replace('"It breaks."', '""'),
        COMMAND + MUTANT + "unknown = 1\n",
        COMMAND + "limit_s = -1\n" + MUTANT,
        COMMAND + COMMAND,
        "not toml",
    ],
)
def test_what_is_wrong_in_a_list_is_refused(text: str) -> None:
    with pytest.raises(LabError):
        parse(text)


def test_mutants_are_chosen_by_id_level_and_file() -> None:
    other = MUTANT.replace('"a"', '"b-1"').replace("kernel/a.c", "engine/b.cpp")
    other = other.replace('"vm"', '"unit"').replace("quick", "unit.B")
    lists = parse(COMMAND + MUTANT + other)

    def ids(*args: list[str]) -> list[str]:
        return [mutant.id for mutant in model.choose(lists, *args)]

    assert ids([], [], []) == ["a", "b-1"]
    assert ids(["b-*"], [], []) == ["b-1"]
    assert ids([], ["vm"], []) == ["a"]
    assert ids([], [], ["engine/"]) == ["b-1"]
    assert ids(["a"], ["unit"], []) == []
    with pytest.raises(LabError):
        ids(["c"], [], [])


def test_the_lists_of_the_repository_fit_the_code() -> None:
    lists = model.load(CHECKOUT)
    assert len(lists.mutants) >= 95
    assert apply.stale(lists.mutants, CHECKOUT) == {}


def test_every_command_of_the_repository_is_used() -> None:
    lists = model.load(CHECKOUT)
    used = {name for mutant in lists.mutants for name in mutant.tests}
    assert set(lists.commands) <= used
