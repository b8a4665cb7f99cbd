# SPDX-License-Identifier: GPL-2.0-only
"""What ended is kept, whatever happens then; and only the same run goes on."""

import json
import sys
from pathlib import Path

import pytest

from dmabuf_common.nvme import Health
import dmabuf_common
from dmabuf_qual import cases, compare, plan, requirements, results
from dmabuf_qual.cases import QUICK, Scale
from dmabuf_qual.drive import Drive
from dmabuf_qual.errors import QualError
from dmabuf_qual.store import IDENTITY, Record, Store

RECORD: dict[str, object] = {"id": "a", "kind": "integrity", "requirement": "r", "exporter": "", "path": "", "test": "t",
                             "params": {"RW": "read", "BS": "4k", "DEPTH": "1"}, "started": 0.0, "seconds": 1.0,
                             "findings": []}
RUN = {name: "x" for name in IDENTITY}
DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:01:00.0", "M", "S", "F", 10**12,
              512, 0, False, 131072)


def test_records_survive_and_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.lock()
    assert store.goes_on(RUN, resume=False) is None
    store.save(RUN)
    store.add(RECORD)
    with open(tmp_path / "cases.jsonl", "ab") as file:
        file.write(b'{"id": "b", "fin')
    again = Store(tmp_path)
    assert again.goes_on(RUN, resume=True) == RUN
    assert set(again.records) == {"a"}
    again.add({**RECORD, "id": "c"})
    last = Store(tmp_path)
    last.load()
    assert set(last.records) == {"a", "c"}


def test_a_run_is_not_overwritten_nor_mixed(tmp_path: Path) -> None:
    assert Store(tmp_path).goes_on(RUN, resume=True) is None and not list(tmp_path.iterdir())
    Store(tmp_path).save(RUN)
    with pytest.raises(QualError, match="--resume"):
        Store(tmp_path).goes_on(RUN, resume=False)
    with pytest.raises(QualError, match="its serial was 'x' and is 'y'"):
        Store(tmp_path).goes_on({**RUN, "serial": "y"}, resume=True)


def test_a_folder_that_is_anothers_is_refused_and_no_link_in_it_followed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match="anybody may write to it"):
        Store(shared).lock()
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for name in (".lock", "cases.jsonl"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        Store(tmp_path).lock()
    with pytest.raises(OSError, match="symbolic link"):
        Store(tmp_path).add({"id": "a"})
    assert victim.read_text() == "whole"


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    first = Store(tmp_path)
    first.lock()
    with pytest.raises(QualError, match="another dmabuf-qual"):
        Store(tmp_path).lock()


@pytest.mark.parametrize(
    ("text", "says"),
    [("nonsense = 1", "no requirement 'nonsense'"), ("datapaths = ['x']", "must be of"),
     ("memory = 'moon'", "memory must be"), ("buffer_mib = 'a'", "must be a int"),
     ("most_moves = -1", "most_moves must be"), ("[performance]\nx = 1", "'performance.x'"),
     ("[performance]\nleast_iops_ratio = nan", "least_iops_ratio must be"),
     ("[performance]\nleast_iops_ratio = 0", "least_iops_ratio must be above 0"),
     ("[performance]\nleast_iops_ratio = inf", "least_iops_ratio must be"),
     ("[performance]\nleast_iops_ratio = true", "least_iops_ratio must be a float"),
     ("[performance]\nmost_cpu_ratio = inf", "most_cpu_ratio must be"),
     ("[performance]\nmost_cpu_ratio = 0", "most_cpu_ratio must be"),
     ("load_gib = nan", "load_gib must be"), ("load_gib = 0", "load_gib must be above 0"),
     ("most_reissues = 1.5", "most_reissues must be"), ("buffer_mib = 0", "buffer_mib must be"),
     ("buffer_mib = 1.5", "buffer_mib must be a int"), ("datapaths = []", "datapaths must name"),
     ("longest_end_ms = 0", "longest_end_ms must be"),
     ("[drive]\nmost_used_percent = 300", "most_used_percent must be"),
     ("most_moves = true", "most_moves must be a int"),
     ("= 3", "no valid TOML"), ("performance = 3", "must be a table")],
)
def test_requirements_that_are_none_are_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(QualError, match=says):
        requirements.load(file)


def written(tmp_path: Path, name: str, value: float) -> requirements.Requirements:
    table, _, key = name.rpartition(".")
    file = tmp_path / "r.toml"
    file.write_text((f"[{table}]\n" if table else "") + f"{key} = {value}\n")
    return requirements.load(file)


@pytest.mark.parametrize(("name", "limits"), sorted(requirements.LIMITS.items()))
def test_the_least_and_the_most_of_a_threshold_are_sensible(
    tmp_path: Path, name: str, limits: tuple[float, float]
) -> None:
    for value, beyond in ((limits[0], -1), (limits[1], 1)):
        assert requirements.flat(written(tmp_path, name, value))[name] == f"{value}"
        with pytest.raises(QualError, match=name):
            written(tmp_path, name, value + beyond)


def test_what_a_threshold_may_be_stays_what_it_is() -> None:
    """A range that grows lets a threshold pass that cannot fail."""
    assert requirements.LIMITS["buffer_mib"][0] == requirements.LIMITS["longest_end_ms"][0] == 1
    assert requirements.LIMITS["longest_end_ms"][1] == 600_000
    assert requirements.LIMITS["most_reissues"] == (0, 1)
    assert requirements.LIMITS["performance.most_cpu_ratio"] == (0.01, 100)
    assert requirements.LIMITS["drive.most_used_percent"] == (0, 255)
    assert requirements.ABOVE["performance.least_iops_ratio"] == (0, 10)
    named = {*requirements.LIMITS, *requirements.ABOVE, "datapaths", "memory"}
    assert named == set(requirements.flat(requirements.load(None)))


def test_requirements_take_the_place_of_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("most_moves = 7\n[performance]\nleast_iops_ratio = 1\n")
    needs = requirements.load(file)
    assert needs["most_moves"] == 7
    assert needs["performance"]["least_iops_ratio"] == 1
    assert needs["performance"]["most_cpu_ratio"] == requirements.load(None)["performance"]["most_cpu_ratio"]


def test_a_plan_grows_with_what_is_done() -> None:
    needs = requirements.load(None)
    quick = plan.total(plan.parts(DRIVE, 1, needs, QUICK))
    full = plan.total(plan.parts(DRIVE, 1, needs, Scale(16 << 30, 60, 5, True)))
    assert full.seconds[0] > 10 * quick.seconds[0]
    assert full.written[0] >= 2 * DRIVE.bytes
    assert full.seconds[1] > full.seconds[0]
    assert "1.000% of the rated 1 TB" in plan.endurance(1e10, 1, None)
    assert "not known" in plan.endurance(1e10, None, None)
    used = Health(0, 30, 2, 10**12, 0)
    assert "about 2.00% of the endurance" in plan.endurance(1e12, None, used)


def figures(values: list[float]) -> dict[str, dict[str, object]]:
    made = {}
    for n, value in enumerate(values):
        key = f"perf/udmabuf/premapped/randread-4k-32/{n}"
        made[key] = {"id": key, "kind": "cell", "exporter": "udmabuf", "path": "premapped",
                     "findings": [], "figures": {"read_iops": value}}
    return made  # type: ignore[return-value]


def test_a_figure_changed_when_the_interval_of_the_ratio_excludes_1() -> None:
    base = figures([100, 101, 99, 100, 102])
    same = compare.figures(base, figures([101, 100, 98, 103, 99]))
    assert (same.changed, same.compared) == ([], 1)
    assert same.by_chance == pytest.approx(0.05)
    worse = compare.figures(base, figures([90, 91, 92, 90, 91])).changed
    assert [c.worse for c in worse] == [True]
    assert "x 0.910, interval 0.8" in worse[0].text
    better = compare.figures(base, figures([120, 121, 122, 120, 121])).changed
    assert [c.worse for c in better] == [False]
    # Below the floor, and too few to say.
    assert compare.figures(figures([100] * 5), figures([101] * 5)).changed == []
    assert compare.figures(figures([100] * 4), figures([1] * 4)) == compare.Figures([], 0, 0)


def test_an_interval_of_one_among_many_figures_is_wider() -> None:
    def many(first: list[float]) -> dict[str, dict[str, object]]:
        made = figures(first)
        for record in list(made.values()):
            record["figures"] = {"read_iops": record["figures"]["read_iops"]}  # type: ignore[index]
            for other in range(40):
                record["figures"][f"figure_{other}"] = 100  # type: ignore[index]
        return made

    # Ranges that overlap a little: alone it counts, among 41 it may be chance.
    old, new = [100, 101, 102, 103, 104], [94, 95, 96, 97, 100.5]
    assert len(compare.figures(figures(old), figures(new)).changed) == 1
    among = compare.figures(many(old), many(new))
    assert (among.changed, among.compared) == ([], 41)
    assert among.by_chance == pytest.approx(41 * 2 / 252)


def test_without_scipy_compare_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dmabuf_common.stats", None)
    monkeypatch.delattr(dmabuf_common, "stats", raising=False)
    with pytest.raises(QualError, match="apt-get install python3-numpy python3-scipy"):
        compare.figures({}, {})


@pytest.mark.parametrize(
    ("size", "wanted"),
    [("100%", 10**12), ("50%", 10**12 // 2), ("1g", 1 << 30), ("4096", 4096), ("0%", None),
     ("101%", None), ("1024g", None), ("", None), ("x%", None), ("some", None)],
)
def test_a_size_is_a_share_of_the_drive_or_bytes_that_it_has(size: str, wanted: int | None) -> None:
    assert cases.size_bytes(size, 10**12) == wanted


def run_in(folder: Path, needs: dict[str, object], records: list[Record]) -> Path:
    store = Store(folder)
    store.lock()
    # What else a run stores says nothing here.
    store.save({"environment": [["kernel", "7", "subject"]], "comparability_key": "k", "requirements": needs,
                "emulated": False, "parts": [], **{name: "" for name in results.NEEDED if name not in (
                    "environment", "comparability_key", "requirements", "emulated", "parts", "scale")},
                "scale": cases.FULL.as_words()})
    for record in records:
        store.add(record)
    store.release()
    return folder


def test_two_runs_are_judged_by_the_same_thresholds(tmp_path: Path) -> None:
    needs = requirements.load(None)
    slow = [{**RECORD, "kind": "cell", "id": f"perf/{e}/{path}/read-4k-1/1", "exporter": e, "path": path, "test": "t", "seconds": 1.0,
             "figures": {"read_iops": iops}}
            for e, path, iops in (("", "host", 100.0), ("udmabuf", "premapped", 80.0))]
    loose = {**needs, "performance": {**needs["performance"], "least_iops_ratio": 0.5}}
    a, b = run_in(tmp_path / "a", loose, slow), run_in(tmp_path / "b", needs, slow)
    changes, notes = compare.compare(a, b, force=False)
    assert changes == []
    assert any("performance.least_iops_ratio: 0.5 / 0.9" in note for note in notes)


def test_two_records_of_a_case_are_refused_unless_the_window_began_anew(tmp_path: Path) -> None:
    def loads(name: str, *records: Record) -> None:
        results.load(run_in(tmp_path / name, requirements.load(None), list(records)))

    bad = {**RECORD, "findings": [{"name": "STALE_DATA", "text": "x", "count": 1}]}
    with pytest.raises(QualError, match="two records of a"):
        loads("a", bad, RECORD)
    cell = {**RECORD, "kind": "pts", "id": "steady/round-01/0-4k", "part": 1}
    with pytest.raises(QualError, match="two records of steady"):
        loads("b", cell, cell)
    loads("c", cell, {**cell, "part": 2}, RECORD)
    store = Store(tmp_path / "c")
    store.load()
    store.load()
    assert len(store.records) == 2


@pytest.mark.parametrize(
    "change",
    [{"findings": ["IO"]}, {"findings": [{"name": "X"}]}, {"findings": {}}, {"seconds": "1"}, {"path": None},
     {"params": []}, {"facts": []}, {"facts": {"commands_4096": "1"}}, {"figures": {"read_iops": float("nan")}},
     {"figures": {"read_iops": True}}, {"compared_bytes": "9"}, {"kind": "cell"}, {"kind": "pts"},
     {"kind": "cell", "id": "perf/u/p/c/1", "params": {}}],
)
def test_a_record_that_no_case_writes_is_refused(tmp_path: Path, change: Record) -> None:
    folder = run_in(tmp_path / "a", requirements.load(None), [{**RECORD, **change}])
    with pytest.raises(QualError, match="cases.jsonl"):
        results.load(folder)


@pytest.mark.parametrize("name", ["exporter", "path", "test", "params", "started", "seconds"])
def test_a_record_without_what_is_judged_is_refused(tmp_path: Path, name: str) -> None:
    folder = run_in(tmp_path / "a", requirements.load(None), [{k: v for k, v in RECORD.items() if k != name}])
    with pytest.raises(QualError, match="no record"):
        results.load(folder)


def test_another_finding_and_a_datapath_that_is_gone_are_worse(tmp_path: Path) -> None:
    needs = requirements.load(None)

    def with_names(name: str, *found: str) -> Path:
        findings = [{"name": one, "text": "x", "count": 1} for one in found]
        return run_in(tmp_path / name, needs, [{**RECORD, "requirement": "integrity.read", "findings": findings}])

    one, two = with_names("one", "STALE_DATA"), with_names("two", "STALE_DATA", "DRIVE_CORRUPTED")
    (change,) = compare.compare(one, two, force=False)[0]
    assert (change.name, change.worse) == ("integrity.read", True) and "DRIVE_CORRUPTED" in change.text
    assert compare.compare(two, one, force=False)[0] == []
    works = {"works": True, "name": "", "text": "", "facts": {}}
    gone = {"works": False, "name": "NOT_AVAILABLE", "text": "no such module", "facts": {}}
    for folder, bvec in ((one, works), (two, gone)):
        run = json.loads((folder / "run.json").read_text())
        run["paths"] = {"udmabuf": {"premapped": works, "bvec": bvec}}
        (folder / "run.json").write_text(json.dumps(run))
    change = next(c for c in compare.compare(one, two, force=False)[0] if c.name == "udmabuf bvec")
    assert change.worse and "no such module" in change.text
    change = next(c for c in compare.compare(two, one, force=False)[0] if c.name == "udmabuf bvec")
    assert change.worse is False


def test_runs_of_different_machines_are_compared_by_force_alone(tmp_path: Path) -> None:
    needs = requirements.load(None)
    a, b = run_in(tmp_path / "a", needs, []), run_in(tmp_path / "b", needs, [])
    run = json.loads((b / "run.json").read_text())
    run["comparability_key"], run["environment"] = "l", [["CPU", "another", "key"]]
    (b / "run.json").write_text(json.dumps(run))
    with pytest.raises(QualError, match="not comparable"):
        compare.compare(a, b, force=False)
    notes = compare.compare(a, b, force=True)[1]
    assert any("compared by force" in note for note in notes)
    assert not any("by force" in note for note in compare.compare(a, a, force=True)[1])


def test_a_requirement_that_one_run_has_is_a_note(tmp_path: Path) -> None:
    needs = requirements.load(None)
    a, b = run_in(tmp_path / "a", needs, []), run_in(tmp_path / "b", needs, [])
    file = b / "run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps({**run, "steady": True, "scale": {**run["scale"], "tests": "iops,latency"}}))
    for one, two, which in ((a, b, "second"), (b, a, "first")):
        notes = compare.compare(one, two, force=False)[1]
        assert any(f"performance.latency was judged in the {which} run alone" in note for note in notes)
