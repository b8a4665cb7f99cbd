# SPDX-License-Identifier: GPL-2.0-only
"""What is made of a guest's words: who is caught, who is tried once more, when a new guest is booted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dmabuf_mutate.boots import Boots, Job, groups, read_events
from dmabuf_mutate.model import Command, Edit, Lists, Mutant
from dmabuf_mutate.modules import Built
from dmabuf_mutate.results import Result
from dmabuf_mutate.tree import Tree

Event = Mapping[str, Any]
COMMANDS = {
    "quick": Command("quick", "true"),
    "drives": Command("drives", "true", lab=("--formats",)),
}


def mutant(name: str, *tests: str, alone: bool = False) -> Mutant:
    edits = (Edit("kernel/a.c", "x", "y"),)
    return Mutant(name, edits, "It breaks.", tests or ("quick",), "vm", alone=alone)


def start(name: str, fresh: bool = False) -> Event:
    return {"event": "start", "id": name, "fresh": fresh}


def end(name: str, by: str = "", good: bool = True, fresh: bool = False) -> Event:
    said = "said" if by else ""
    return {"event": "end", "id": name, "by": by, "said": said, "good": good, "fresh": fresh, "seconds": 2.0}


class Fake(Boots):
    """Guests whose words are given beforehand, a list for each boot."""

    def __init__(self, mutants: Sequence[Mutant], boots: Sequence[Sequence[Event]]) -> None:
        self.results: dict[str, Result] = {}
        lists = Lists(tuple(mutants), COMMANDS)
        super().__init__(Tree(Path("/nowhere")), lists, "7.3", "now", self.note)
        self.boots = list(boots)
        self.asked: list[tuple[str, ...]] = []

    def note(self, result: Result) -> None:
        assert result.id not in self.results
        self.results[result.id] = result

    def _boot(
        self,
        options: tuple[str, ...],
        jobs: Sequence[Job],
        original: Path,
        testexp: Path,
        take: Callable[[Event], None],
    ) -> bool:
        self.asked.append((*options, *(job.mutant.id for job in jobs)))
        fresh = False
        for event in self.boots.pop(0):
            take(event)
            fresh = event["fresh"] if event["event"] == "start" else fresh
        return fresh

    def all(self) -> dict[str, tuple[str, str]]:
        jobs = [Job(mutant, Built(Path("a.ko")), 1.0) for mutant in self.lists.mutants]
        self.in_guests(jobs, Path("original.ko"), Path("testexp.ko"))
        assert not self.boots
        return {name: (result.verdict, result.by) for name, result in self.results.items()}


def test_caught_and_survived_in_one_guest() -> None:
    a, b = mutant("a"), mutant("b")
    fake = Fake([a, b], [[start("a", True), end("a", "quick", fresh=True), start("b"), end("b")]])
    assert fake.all() == {"a": ("caught", "quick"), "b": ("survived", "")}
    assert fake.results["a"].seconds == 3.0


def test_a_guest_that_dies_has_caught_the_mutant_it_died_with_and_the_rest_gets_another() -> None:
    a, b = mutant("a"), mutant("b")
    fake = Fake([a, b], [[start("a", True)], [start("b", True), end("b", fresh=True)]])
    assert fake.all() == {"a": ("caught", "guest"), "b": ("survived", "")}
    assert fake.asked == [("a", "b"), ("b",)]


def test_who_is_caught_in_a_guest_that_is_broken_is_tried_once_more_in_a_new_one() -> None:
    a, b = mutant("a"), mutant("b")
    first = [start("a", True), end("a", fresh=True), start("b"), end("b", "quick", good=False)]
    fake = Fake([a, b], [first, [start("b", True), end("b", fresh=True)]])
    assert fake.all() == {"a": ("survived", ""), "b": ("survived", "")}
    again = [start("b", True), end("b", "quick", good=False, fresh=True)]
    assert Fake([a, b], [first, again]).all()["b"] == ("caught", "quick")


def test_those_that_want_a_guest_for_themselves_come_last() -> None:
    a, b = mutant("a", alone=True), mutant("b")
    words = [start("b", True), end("b", fresh=True), start("a"), end("a")]
    fake = Fake([a, b], [words])
    fake.all()
    assert fake.asked == [("b", "a")]


def test_who_survives_one_guest_may_be_caught_in_another_with_other_options() -> None:
    a = mutant("a", "quick", "drives")
    fake = Fake([a], [[start("a", True), end("a")], [start("a", True), end("a", "drives", fresh=True)]])
    assert fake.all() == {"a": ("caught", "drives")}
    assert fake.asked == [("a",), ("--formats", "a")]
    fake = Fake([a], [[start("a", True), end("a", "quick", fresh=True)]])
    assert fake.all() == {"a": ("caught", "quick")}


def test_a_command_that_fails_without_a_mutant_says_nothing() -> None:
    failed = {"event": "baseline", "command": "quick", "seconds": 1.0, "by": "quick", "said": "broken"}
    fake = Fake([mutant("a")], [[failed, start("a", True), end("a", fresh=True)]])
    assert fake.all() == {"a": ("error", "")}
    assert "quick fails without the mutant, too: broken" in fake.results["a"].detail


def test_a_guest_that_says_nothing_is_no_endless_loop() -> None:
    fake = Fake([mutant("a")], [[]])
    assert fake.all() == {"a": ("error", "")}
    assert "quick has no guest" in fake.results["a"].detail


def test_a_guest_that_does_not_boot_leaves_the_others() -> None:
    a, b, c = mutant("a"), mutant("b", "drives"), mutant("c", "quick", "drives")
    fake = Fake([a, b, c], [[], [start("b", True), end("b", "drives", fresh=True), start("c"), end("c")]])
    assert fake.all() == {"a": ("error", ""), "b": ("caught", "drives"), "c": ("error", "")}


def test_one_group_for_each_set_of_options() -> None:
    a, b = mutant("a", "quick", "drives"), mutant("b")
    assert groups([a, b], Lists((a, b), COMMANDS)) == [(), ("--formats",)]


def test_a_line_that_the_guests_death_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert read_events(file) == []
    file.write_text('{"event": "start", "id": "a"}\n{"event": "en')
    assert read_events(file) == [{"event": "start", "id": "a"}]
