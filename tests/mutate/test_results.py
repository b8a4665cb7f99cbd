# SPDX-License-Identifier: GPL-2.0-only
"""Results outlive an interruption, and hold as long as what they were found with."""

from dataclasses import replace
from pathlib import Path

from dmabuf_mutate import report, results
from dmabuf_mutate.model import Command, Edit, Lists, Mutant


def mutant(name: str, explained: str = "") -> Mutant:
    edits = (Edit("a.c", "x", "y"),)
    return Mutant(name, edits, "It breaks.", ("quick",), "vm", explained)


def lists(*mutants: Mutant, run: str = "true") -> Lists:
    return Lists(mutants, {"quick": Command("quick", run)})


def result(mutant_: Mutant, verdict: str, tree: str = "now") -> results.Result:
    key = results.key_of(mutant_, lists(mutant_))
    return results.Result(mutant_.id, key, tree, verdict, "quick", "said", 1.5)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    first, second = result(mutant("a"), "caught"), result(mutant("b"), "survived")
    results.append(file, first)
    results.append(file, second)
    results.append(file, replace(first, verdict="survived"))
    assert results.read(file) == {"a": replace(first, verdict="survived"), "b": second}


def test_a_line_that_was_cut_off_costs_one_result(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    results.append(file, result(mutant("a"), "caught"))
    with open(file, "a", encoding="utf-8") as stream:
        stream.write('{"id": "b", "ke')
    results.append(file, result(mutant("c"), "caught"))
    assert sorted(results.read(file)) == ["a", "c"]


def test_a_result_holds_for_the_same_change_tests_and_tree() -> None:
    a = mutant("a")
    found = {"a": result(a, "caught")}
    now, later = {"vm": "now"}, {"vm": "later"}
    assert "a" in results.known(found, [a], lists(a), now)
    assert "a" not in results.known(found, [a], lists(a), later)
    assert "a" in results.known(found, [a], lists(a), None)
    changed = replace(a, edits=(Edit("a.c", "x", "z"),))
    assert "a" not in results.known(found, [changed], lists(changed), None)
    assert "a" not in results.known(found, [a], lists(a, run="false"), None)
    # What only explains does not make a result old.
    assert "a" in results.known(found, [replace(a, explained="Why.")], lists(a), now)


def test_what_has_no_verdict_is_tried_again() -> None:
    a = mutant("a")
    assert not results.known({"a": result(a, "error")}, [a], lists(a), None)
    assert not results.known({"a": result(a, "stale")}, [a], lists(a), None)


def status(*verdicts: tuple[str, str]) -> tuple[str, int]:
    mutants = [mutant(f"m{i}", explained) for i, (_, explained) in enumerate(verdicts)]
    found = {m.id: result(m, verdict) for m, (verdict, _) in zip(mutants, verdicts)}
    lines, code = report.summary(mutants, found)
    return "\n".join(lines), code


def test_more_than_one_in_twenty_unexplained_survivors_fails() -> None:
    caught = [("caught", "")]
    assert status(*caught * 20)[1] == 0
    assert status(*caught * 19, ("survived", ""))[1] == 0
    text, code = status(*caught * 18, ("survived", ""))
    assert code == 1 and "SURVIVED: m18 (a.c): It breaks." in text
    text, code = status(*caught * 2, ("survived", "Nobody can see it."))
    assert code == 0 and "explained: m2 (a.c): Nobody can see it." in text


def test_what_was_not_judged_fails() -> None:
    assert status()[1] == 1
    assert status(("caught", ""), ("error", ""))[1] == 1
    assert status(("caught", ""), ("stale", ""))[1] == 1


def test_an_explanation_that_is_wrong_is_pointed_out() -> None:
    text, code = status(("caught", "Nobody can see it."))
    assert code == 0 and "note: m0" in text


def test_the_table_has_a_line_for_each_mutant() -> None:
    a, b, c = mutant("a"), mutant("b", "Why."), mutant("c")
    rows = report.table([a, b, c], {"a": result(a, "caught"), "b": result(b, "survived")})
    assert [row.split()[:3] for row in rows[1:3]] == [["a", "vm", "caught"], ["b", "vm", "explained"]]
    assert rows[3].split() == ["c", "vm", "not", "run"]
