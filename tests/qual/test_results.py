# SPDX-License-Identifier: GPL-2.0-only
"""The report says how a run was scaled and by what it was judged, in its verdict's own sentence."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import stats
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, NO_FAULT, PASS, SKIP
from dmabuf_qual import cases, cli, requirements, results, rules, store
from dmabuf_qual.errors import QualError
from dmabuf_report import model

DEFAULTS = requirements.load(None)
FULL = cases.Scale(16 << 30, 60, 5, True)
UDMABUF = {"paths": {"udmabuf": {"premapped": {"works": True, "facts": {"memory": "system"}}}}}


def judged(*statuses: str) -> list[rules.Judged]:
    return [rules.Judged(f"a.r{n}", status, "why") for n, status in enumerate(statuses)]


def run_of(scale: cases.Scale = FULL, needs: dict[str, Any] = DEFAULTS, **more: Any) -> dict[str, Any]:
    return {"scale": scale.as_words(), "requirements": needs, "quick": not scale.steady, "only": [],
            "emulated": False, "whole_drive": True, **more}


def sentence(run: dict[str, Any], *statuses: str) -> str:
    return results.summary(judged(*statuses or (PASS,)), {**run, **UDMABUF}).text


def test_a_whole_run_by_the_defaults_says_so() -> None:
    text = sentence(run_of(), PASS, SKIP)
    assert text == ("requirements: 1 pass, 1 skip; memory: udmabuf system memory; the whole scale; "
                    "the default thresholds")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"cell_seconds": 1}, "cell_seconds 1 (not 60)"), ({"size": "1g"}, "size 1g (not 100%)"),
     ({"repeats": 2}, "repeats 2 (not 5)"), ({"load_bytes": 1 << 30}, "load_bytes 1073741824 (not 17179869184)")],
)
def test_another_scale_stands_in_the_verdict(changes: dict[str, Any], says: str) -> None:
    assert f"scaled: {says}" in sentence(run_of(dataclasses.replace(FULL, **changes)))


def test_other_thresholds_stand_in_the_verdict() -> None:
    needs = {**DEFAULTS, "most_moves": 7, "performance": {**DEFAULTS["performance"], "least_iops_ratio": 0.01}}
    text = sentence(run_of(needs=needs))
    assert "most_moves 7 (not 0)" in text
    assert "performance.least_iops_ratio 0.01 (not 0.9)" in text
    assert "most_cpu_ratio" not in text


def test_a_threshold_that_is_written_another_way_is_the_same() -> None:
    for name, value in DEFAULTS.items():
        if isinstance(value, (int, float)):
            other = int(value) if isinstance(value, float) and value == int(value) else float(value)
            assert requirements.changed({**DEFAULTS, name: other}) == [], name
            assert requirements.changed({**DEFAULTS, name: value + 1}), name


def test_what_was_left_out_and_what_the_drive_is_stands_in_the_verdict() -> None:
    assert "only cases that match perf/*" in sentence(run_of(only=["perf/*"]), INCONCLUSIVE)
    assert "says nothing about the speed of hardware" in sentence(run_of(emulated=True))
    assert "a partition" in sentence(run_of(whole_drive=False))


def test_a_quick_run_never_says_pass() -> None:
    quick = results.summary(judged(PASS, SKIP), run_of(cases.QUICK))
    assert quick.status == NO_FAULT
    assert "qualifies nothing" in quick.text
    assert results.exit_status(quick) == 3
    assert results.summary(judged(PASS, FAIL), run_of(cases.QUICK)).status == FAIL
    assert results.summary(judged(PASS, INCONCLUSIVE), run_of(cases.QUICK)).status == INCONCLUSIVE
    assert results.summary(judged(PASS), run_of()).status == PASS
    assert results.exit_status(results.summary(judged(PASS), run_of())) == 0


def folder_of(path: Path, run: dict[str, Any], *records: dict[str, Any]) -> Path:
    whole = {"model": "M", "serial": "S", "started": "2026-11-22T01:02:03Z", "seed": 1,
             "environment": [["kernel", "7", "subject"]], "comparability_key": "ab" * 32, "parts": [], **run}
    path.mkdir()
    (path / store.RUN).write_text(json.dumps(whole))
    (path / store.RESULTS).write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_scale_and_thresholds_are_facts_of_the_document(tmp_path: Path) -> None:
    run, records = results.load(folder_of(tmp_path / "q", run_of(dataclasses.replace(FULL, size="1g"))))
    facts = {fact.name: fact for fact in results.document(tmp_path, run, records, run["requirements"]).environment}
    assert facts["scale size"].value == "1g"
    assert facts["scale cell_seconds"].value == "60"
    assert facts["threshold performance.least_iops_ratio"].value == "0.9"
    assert facts["threshold datapaths"].value == "premapped"
    assert facts["only"].value == "all cases"


@pytest.mark.parametrize(
    ("name", "value"), [("least_iops_ratio", float("nan")), ("least_iops_ratio", 0), ("most_cpu_ratio", 1e9)]
)
def test_a_run_that_was_made_to_pass_anything_is_refused(tmp_path: Path, name: str, value: float) -> None:
    needs = {**DEFAULTS, "performance": {**DEFAULTS["performance"], name: value}}
    with pytest.raises(QualError, match=f"performance.{name}"):
        results.load(folder_of(tmp_path / "q", run_of(needs=needs)))


def test_a_folder_without_thresholds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QualError, match="no requirements"):
        results.load(folder_of(tmp_path / "q", run_of(needs=[])))  # type: ignore[arg-type]


CELL = {"id": "perf/udmabuf/premapped/randread-4k-32/1", "kind": "cell", "requirement": "performance.paths",
        "exporter": "udmabuf", "path": "premapped", "test": "datapath-cell", "started": 0.0, "seconds": 1.0,
        "params": {"RW": "randread", "BS": "4k", "DEPTH": "32"}, "findings": [],
        "figures": {"read_iops": 1.0}, "report": {"proven": True, "proof": "p"}}


@pytest.mark.parametrize("name", ["../../secret.json", "/etc/passwd", "a/b.json", "..", "", 3])
def test_a_record_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: Any) -> None:
    (tmp_path / "secret.json").write_text('{"jobs": [{}]}')
    folder = folder_of(tmp_path / "q", run_of(), {**CELL, "file": name})
    with pytest.raises(QualError, match="leads out of"):
        results.load(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "q", run_of(), {**CELL, "file": "x.json"})
    (folder / "fio").mkdir()
    (tmp_path / "secret.json").write_text('{"jobs": [{}]}')
    (folder / "fio/x.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(QualError, match="leads out of"):
        results.load(folder)


def test_a_measurement_whose_report_proves_nothing_has_no_proof(tmp_path: Path) -> None:
    for report in ({}, {"proven": True}, None):
        folder = folder_of(tmp_path / f"q{report}", run_of(), {**CELL, **({"report": report} if report is not None else {})})
        run, records = results.load(folder)
        if report is None:
            del records[CELL["id"]]["report"]
        (made,) = results.document(folder, run, records, run["requirements"]).measurements
        assert made.proof is None


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    for record in ({"kind": "cell"}, [1], "x"):
        folder = folder_of(tmp_path / f"q{len(list(tmp_path.iterdir()))}", run_of(), record)  # type: ignore[arg-type]
        with pytest.raises(QualError, match="no record"):
            results.load(folder)


def test_the_report_says_that_the_buffers_are_written_again_and_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "q", run_of(), {**CELL, "file": "x.json"})
    run, records = results.load(folder)
    notes = results.document(folder, run, records, run["requirements"]).notes
    assert any("deduplicates" in note for note in notes)


@pytest.mark.parametrize("size", ["0%", "200%", "some", "-1", "2t", "99999g"])
def test_a_size_that_the_drive_has_not_is_refused(size: str) -> None:
    args = cli.parser().parse_args(["run", "--output", "q", "--size", size, "/dev/x"])
    with pytest.raises(QualError, match="--size"):
        cli.scale_of(args, DEFAULTS, 10**12)


@pytest.mark.parametrize("name", results.NEEDED)
def test_a_folder_that_another_release_made_is_refused(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "q", run_of())
    run = json.loads((folder / store.RUN).read_text())
    del run[name]
    (folder / store.RUN).write_text(json.dumps(run))
    with pytest.raises(QualError, match=name):
        results.load(folder)


MODULE = {"reads": 6, "writes": 2, "read_bytes": 24576, "write_bytes": 8192, "commands": 9}


def cell_of(folder: Path, path: str = "premapped", modules: tuple[Any, ...] = (MODULE, MODULE),
            busy: tuple[float, ...] = (10.0, 30.0), emulated: bool = False) -> model.Measurement:
    """A cell whose repeats have these counters and this CPU."""
    records = [{**CELL, "id": f"perf/udmabuf/{path}/randread-4k-32/{n}", "path": path, "file": f"{n}.json",
                "report": {"proven": True, "proof": "p", "module": module}} for n, module in enumerate(modules)]
    folder_of(folder, run_of(), *records)
    (folder / "fio").mkdir()
    for number, share in enumerate(busy):
        job = {"read": {}, "write": {}, "usr_cpu": share / 4, "sys_cpu": share * 3 / 4}
        (folder / f"fio/{number}.json").write_text(json.dumps({"jobs": [job]}))
    (made,) = results.measurements(folder, records, emulated)
    return made


def test_commands_and_cpu_of_all_repeats_are_shown(tmp_path: Path) -> None:
    made = cell_of(tmp_path / "q", emulated=True)
    assert made.commands == model.Commands(18, 16, 65536)
    assert (made.cpu_percent, made.emulated, made.depth) == (20, True, 32)
    assert cell_of(tmp_path / "r").emulated is False


def test_what_was_not_counted_is_not_shown(tmp_path: Path) -> None:
    # The module's commands of bvec are calls of the block layer.
    assert cell_of(tmp_path / "a", "bvec").commands is None
    assert cell_of(tmp_path / "b", modules=(MODULE, None)).commands is None
    assert cell_of(tmp_path / "c", busy=()).cpu_percent is None


def test_the_interval_of_a_figure_is_what_the_page_calls_it(tmp_path: Path) -> None:
    def interval(*values: float) -> tuple[float | None, float | None]:
        folder = tmp_path / str(len(values))
        records = [{**CELL, "id": f"perf/udmabuf/premapped/randread-4k-32/{n}", "file": f"{n}.json",
                    "figures": {"read_iops": value}} for n, value in enumerate(values)]
        (made,) = results.measurements(folder_of(folder, run_of(), *records), records, False)
        return made.metrics[0].low, made.metrics[0].high

    assert interval(3.0) == (None, None)
    assert interval(1.0, 2.0, 3.0, 4.0, 5.0) == stats.median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (1, 5)
    # Of 17 it is not from the least to the greatest.
    assert interval(*[float(n) for n in range(1, 18)]) == (5, 13)
