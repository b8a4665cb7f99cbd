# SPDX-License-Identifier: GPL-2.0-only
"""The support matrix is what runs found: made of their results, and not written by hand."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from dmabuf_lab import build, cli, matrix
from dmabuf_lab.errors import LabError

# By path, target and exporter.
Outcomes = dict[tuple[str, str, str], str]


def guests_file(kernel: str, outcomes: Outcomes, machine: str = "x86_64", page: int = 4096, source: str = "") -> str:
    """As a guest leaves it; outcomes by (path, target, exporter). source: of the module; "": as guests once left it."""
    cells = [
        {"exporter": exporter, "target": target, "path": path, "outcome": outcome}
        for (path, target, exporter), outcome in outcomes.items()
    ]
    found: dict[str, object] = {"kernel": kernel, "machine": machine, "page": page, "cells": cells}
    if source:
        found |= {"qemu": "10.0.13", "module": {"version": "0.1.0", "srcversion": f"F{source}", "source": source}}
    return json.dumps(found)


def run(kernel: str, outcomes: Outcomes, machine: str = "x86_64", page: int = 4096, source: str = "") -> matrix.Run:
    return matrix.parse(guests_file(kernel, outcomes, machine, page, source), "2026-11-26")


def guests_script(name: str) -> ModuleType:
    """A script of tests/vm/stacks, which runs in the guest."""
    spec = importlib.util.spec_from_file_location(name, build.checkout() / f"tests/vm/stacks/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert "| 7.3.4-amd64 | amd64, 4 KiB | 2026-11-26 | not recorded | not recorded | 4 | 2 | 0 |" in matrix.table([made])


def test_what_was_tested_is_in_the_table() -> None:
    made = run("7.3.4-amd64", ALL, source="12ab")
    assert (made.qemu, made.version, made.srcversion, made.source) == ("10.0.13", "0.1.0", "F12ab", "12ab")
    words = "10.0.13 | 0.1.0, sources 12ab, srcversion F12ab | 4 | 2 | 0"
    assert f"| 7.3.4-amd64 | amd64, 4 KiB | 2026-11-26 | {words} |" in matrix.table([made])


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
        (guests_file("7.3", ALL)[:-1] + ', "module": "0.1.0"}', "no file of results"),
        (guests_file("7.3", {}), "without results"),
        (guests_file("7.3", {("bvec", "nvme", "heap"): "fine"}), "'fine' is no outcome"),
    ],
)
def test_what_is_no_result_is_refused(text: str, why: str) -> None:
    with pytest.raises(LabError, match=why):
        matrix.parse(text, "2026-11-26")


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
        matrix.collect(tmp_path, left)
    for name, kernel in (("a", "7.3.4-amd64"), ("b", "6.12.1-amd64")):
        (left / f"{name}.json").write_text(guests_file(kernel, ALL))
        os.utime(left / f"{name}.json", (86400, 86400))
    assert [each.kernel for each in matrix.collect(tmp_path, left)] == ["7.3.4-amd64", "6.12.1-amd64"]
    matrix.write(tmp_path)
    once = document.read_text()
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert "| 6.12.1-amd64 | amd64, 4 KiB | 1970-01-02 |" in once
    matrix.write(tmp_path)
    assert document.read_text() == once
    (left / "a.json").write_text("{")
    with pytest.raises(LabError, match=r"a\.json: this is no file"):
        matrix.collect(tmp_path, left)


def test_results_of_different_sources_are_not_mixed_unless_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    left = tmp_path / "left"
    left.mkdir()
    (left / "a.json").write_text(guests_file("7.3.4-amd64", ALL, source="12ab"))
    (left / "b.json").write_text(guests_file("6.12.1-amd64", ALL, source="12ab"))
    (left / "7.2.failed").touch()
    matrix.collect(tmp_path, left)
    kept = (tmp_path / matrix.RESULTS).read_text()
    for source, name in (("34cd", "34cd"), ("", "not recorded")):
        (left / "b.json").write_text(guests_file("6.12.1-amd64", ALL, source=source))
        with pytest.raises(LabError, match=rf"different sources .*12ab: 7.3.4-amd64; {name}: 6.12.1-amd64.* or give --mixed"):
            matrix.collect(tmp_path, left)
        # What is kept counts as well as what is new.
        (left / "a.json").rename(tmp_path / "a.json")
        with pytest.raises(LabError, match="different sources"):
            matrix.collect(tmp_path, left)
        (tmp_path / "a.json").rename(left / "a.json")
        assert (tmp_path / matrix.RESULTS).read_text() == kept
    matrix.collect(tmp_path, left, mixed=True)
    assert {each.source for each in matrix.load(tmp_path / matrix.RESULTS)} == {"12ab", ""}


def test_a_guest_says_which_module_it_tested(tmp_path: Path) -> None:
    tested = guests_script("tested").tested
    kernel, built, loaded = tmp_path / "kernel", tmp_path / "built", tmp_path / "loaded"
    for folder in (kernel, built):
        for name in ("main.c", "map.h", "Kbuild", "probes/one.c", "probes/Kbuild", "uapi/linux/dmabuf_rw.h"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    loaded.mkdir()
    for name in ("version", "srcversion"):
        (loaded / name).write_text(f"{name} of it\n")
    # What only the build has: the answers of this kernel, and what was removed from the checkout since.
    for name in ("dmabuf_rw_probes.h", "main.o", "dmabuf_rw.mod.c", "gone.c"):
        (built / name).write_text("more")
    (kernel / "Makefile").write_text("more")
    first = tested(kernel, built, loaded)
    assert first == {"version": "version of it", "srcversion": "srcversion of it", "source": first["source"]}
    assert len(first["source"]) == 12
    seen = {first["source"]}
    for name in ("main.c", "map.h", "Kbuild", "probes/one.c", "probes/Kbuild", "uapi/linux/dmabuf_rw.h"):
        (kernel / name).write_text("other")
        with pytest.raises(ValueError, match=f"not built from the checkout: {name} differs"):
            tested(kernel, built, loaded)
        (built / name).write_text("other")
        seen.add(tested(kernel, built, loaded)["source"])
    assert len(seen) == 7
    (built / "map.h").unlink()
    with pytest.raises(ValueError, match=r"map\.h differs"):
        tested(kernel, built, loaded)


def test_the_sources_are_what_make_copies() -> None:
    """Else two modules that differ would have one name."""
    makefile = (build.checkout() / "kernel/Makefile").read_text()
    for line in ("sources := $(wildcard $(here)*.c $(here)*.h) $(here)Kbuild", "probes := $(wildcard $(here)probes/*.c)",
                 "@$(call copy_changed,$(probes) $(here)probes/Kbuild,$(BUILD)/probes)"):
        assert line in makefile
    found = [path for pattern in guests_script("tested").SOURCES for path in (build.checkout() / "kernel").glob(pattern)]
    assert len(found) > 60 and len(set(found)) == len(found)


def test_a_kernel_whose_test_failed_has_a_column_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    left = tmp_path / "left"
    left.mkdir()
    matrix.save(tmp_path / matrix.RESULTS, [
        matrix.Run(kernel, arch, page, "2026-01-01", "10.0", (("bvec", "nvme", "heap", "byte-exact"),))
        for kernel, arch, page in (("7.3.4-rt-amd64", "amd64", 4096), ("7.3.4-amd64", "amd64", 4096),
                                   ("7.3.4-arm64-16k", "arm64", 16384), ("7.3.4-arm64", "arm64", 4096))])
    for name in ("7.3-rt", "7.3-arm64-16k"):
        (left / f"{name}.failed").touch()
    # What a test that was killed left besides is no result.
    (left / "7.3-rt.json").write_text(guests_file("7.3.5-rt-amd64", ALL))
    assert [(each.kernel, each.failed) for each in matrix.collect(tmp_path, left)] == [
        ("7.3-arm64-16k", True), ("7.3-rt", True)]
    runs = matrix.load(tmp_path / matrix.RESULTS)
    assert [each.kernel for each in runs] == ["7.3-rt", "7.3.4-amd64", "7.3.4-arm64", "7.3-arm64-16k"]
    assert matrix.rows(runs) == [["bvec", "nvme", "heap", "failed", "byte-exact", "byte-exact", "failed"]]
    lines = matrix.table(runs).splitlines()
    assert lines[2].startswith("| 7.3-rt | amd64, 4 KiB | ")
    assert lines[2].endswith(" | not recorded | not recorded | – | – | the whole run |")
    assert "| datapath | target | exporter | 7.3-rt | 7.3.4-amd64 | 7.3.4-arm64 | 7.3-arm64-16k |" in lines
    # A later run takes its place.
    (left / "7.3-rt.failed").unlink()
    matrix.collect(tmp_path, left)
    assert matrix.load(tmp_path / matrix.RESULTS)[0].kernel == "7.3.5-rt-amd64"
    (left / "seven.failed").touch()
    with pytest.raises(LabError, match="no kernel is called so"):
        matrix.collect(tmp_path, left)


def test_it_is_a_command() -> None:
    args = cli.parser().parse_args(["matrix", "--collect", "folder"])
    assert (args.command, args.collect, args.mixed) == ("matrix", Path("folder"), False)
    assert cli.parser().parse_args(["matrix", "--collect", "folder", "--mixed"]).mixed
    assert cli.parser().parse_args(["matrix"]).collect is None
    with pytest.raises(LabError, match="needs --collect"):
        cli._dispatch(cli.parser().parse_args(["matrix", "--mixed"]))
