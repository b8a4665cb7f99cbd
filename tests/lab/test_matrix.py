# SPDX-License-Identifier: GPL-2.0-only
"""The support matrix is what runs found: made of their results, and not written by hand."""

import json
import os
from pathlib import Path

import pytest
from dmabuf_lab import build, cli, matrix
from dmabuf_lab.errors import LabError

# By path, target and exporter.
Outcomes = dict[tuple[str, str, str], str]


def guests_file(kernel: str, outcomes: Outcomes, machine: str = "x86_64", page: int = 4096) -> str:
    """As a guest leaves it; outcomes by (path, target, exporter)."""
    cells = [
        {"exporter": exporter, "target": target, "path": path, "outcome": outcome}
        for (path, target, exporter), outcome in outcomes.items()
    ]
    return json.dumps({"kernel": kernel, "machine": machine, "page": page, "cells": cells})


def run(kernel: str, outcomes: Outcomes, machine: str = "x86_64", page: int = 4096) -> matrix.Run:
    return matrix.parse(guests_file(kernel, outcomes, machine, page), "2026-11-26", "10.0")


ALL = {
    ("premapped", "nvme", "heap"): "byte-exact",
    ("premapped", "nvme", "vgem"): "byte-exact",
    ("premapped", "loop", "heap"): "refused NOT_NVME",
    ("premapped", "loop", "vgem"): "refused NOT_NVME",
    ("bvec", "nvme", "heap"): "byte-exact",
    ("bvec", "loop", "heap"): "byte-exact",
}


def test_the_document_has_the_table_of_what_is_kept() -> None:
    """Whoever changes one without the other has to run `dmabuf-lab matrix`."""
    checkout = build.checkout()
    document = (checkout / matrix.DOCUMENT).read_text(encoding="utf-8")
    runs = matrix.load(checkout / matrix.RESULTS)
    assert matrix.placed(document, matrix.table(runs)) == document
    assert runs == matrix.merge(runs, [])
    assert all(matrix.OUTCOME.match(cell[3]) for each in runs for cell in each.cells)


def test_what_is_the_same_is_in_one_row_and_what_did_not_run_says_so() -> None:
    other = run("6.12.1-amd64", {("premapped", "nvme", "heap"): "byte-exact", ("bvec", "nvme", "heap"): "failed"})
    assert matrix.rows([run("7.3.4-amd64", ALL), other]) == [
        ["premapped", "loop", "heap, vgem", "refused NOT_NVME", "not run"],
        ["premapped", "nvme", "heap", "byte-exact", "byte-exact"],
        ["premapped", "nvme", "vgem", "byte-exact", "not run"],
        ["bvec", "loop", "heap", "byte-exact", "not run"],
        ["bvec", "nvme", "heap", "byte-exact", "failed"],
    ]
    assert matrix.rows([run("7.3.4-amd64", ALL)])[-1] == ["bvec", "loop, nvme", "heap", "byte-exact"]


def test_every_cell_of_every_run_is_in_the_table() -> None:
    made = run("7.3.4-amd64", ALL)
    covered = {
        (row[0], target, exporter): row[3]
        for row in matrix.rows([made])
        for target in row[1].split(", ")
        for exporter in row[2].split(", ")
    }
    assert covered == ALL
    assert "| 7.3.4-amd64 | amd64, 4 KiB | 2026-11-26 | 10.0 | 4 | 2 | 0 |" in matrix.table([made])


def test_a_newer_run_of_the_same_kernel_takes_the_place_of_the_older() -> None:
    old, new = run("7.3.4+deb13-amd64", ALL), run("7.3.10+deb13-amd64", {("bvec", "nvme", "heap"): "failed"})
    others = [
        run("7.3.4+deb13-rt-amd64", ALL),
        run("7.3.4+deb13-arm64", ALL, "aarch64"),
        run("7.3.4+deb13-arm64-16k", ALL, "aarch64", 16384),
        run("7.30.1-amd64", ALL),
    ]
    merged = matrix.merge([old, *others], [new])
    assert old not in merged and new in merged and len(merged) == 5


def test_newer_kernels_come_first() -> None:
    runs = [run(f"{name}-amd64", ALL) for name in ("6.12.9", "7.3.4", "6.1.0")]
    assert [each.kernel for each in matrix.merge(runs, [])] == ["7.3.4-amd64", "6.12.9-amd64", "6.1.0-amd64"]


@pytest.mark.parametrize(
    "text,why",
    [
        ("{", "no file of results"),
        ("{}", "no file of results"),
        (guests_file("7.3", ALL, machine="riscv64"), "no file of results"),
        (guests_file("7.3", {}), "without results"),
        (guests_file("7.3", {("bvec", "nvme", "heap"): "fine"}), "'fine' is no outcome"),
    ],
)
def test_what_is_no_result_is_refused(text: str, why: str) -> None:
    with pytest.raises(LabError, match=why):
        matrix.parse(text, "2026-11-26", "10.0")


def test_a_document_without_a_place_for_it_is_refused() -> None:
    for text in ("", matrix.BEGIN, f"{matrix.END}{matrix.BEGIN}"):
        with pytest.raises(LabError, match="no place for the table"):
            matrix.placed(text, "x")


def test_results_are_collected_kept_and_written(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    (tmp_path / "docs").mkdir()
    document = tmp_path / matrix.DOCUMENT
    document.write_text(f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n")
    with pytest.raises(LabError, match="no results"):
        matrix.collect(tmp_path, left, "10.0")
    for name, kernel in (("a", "7.3.4-amd64"), ("b", "6.12.1-amd64")):
        (left / f"{name}.json").write_text(guests_file(kernel, ALL))
        os.utime(left / f"{name}.json", (86400, 86400))
    assert matrix.collect(tmp_path, left, "10.0") == 2
    matrix.write(tmp_path)
    once = document.read_text()
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert "| 6.12.1-amd64 | amd64, 4 KiB | 1970-01-02 |" in once
    matrix.write(tmp_path)
    assert document.read_text() == once
    (left / "a.json").write_text("{")
    with pytest.raises(LabError, match=r"a\.json: this is no file"):
        matrix.collect(tmp_path, left, "10.0")


def test_what_is_kept_of_a_kernel_whose_test_fails_now_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    left = tmp_path / "left"
    left.mkdir()
    matrix.save(tmp_path / matrix.RESULTS, [
        matrix.Run(kernel, arch, page, "2026-01-01", "10.0", (("bvec", "nvme", "heap", "byte-exact"),))
        for kernel, arch, page in (("7.3.4-rt-amd64", "amd64", 4096), ("7.3.4-amd64", "amd64", 4096),
                                   ("7.3.4-arm64-16k", "arm64", 16384), ("7.3.4-arm64", "arm64", 4096))])
    for name in ("7.3-rt", "7.3-arm64-16k"):
        (left / f"{name}.failed").touch()
    assert matrix.collect(tmp_path, left, "10.0") == 0
    assert [run.kernel for run in matrix.load(tmp_path / matrix.RESULTS)] == ["7.3.4-amd64", "7.3.4-arm64"]
    (left / "seven.failed").touch()
    with pytest.raises(LabError, match="no kernel is called so"):
        matrix.collect(tmp_path, left, "10.0")


def test_it_is_a_command() -> None:
    args = cli.parser().parse_args(["matrix", "--collect", "folder"])
    assert (args.command, args.collect) == ("matrix", Path("folder"))
    assert cli.parser().parse_args(["matrix"]).collect is None
