# SPDX-License-Identifier: GPL-2.0-only
"""Plans and job files: what is written is what runs, and every mistake is named before it does."""

from pathlib import Path

import pytest
from dmabuf_nightly import jobfile, plan, schedule
from dmabuf_nightly.errors import NightlyError
from dmabuf_nightly.store import Series

JOB = """# ${COMMENT} is none
[global]
ioengine=${ENGINE}
filename=${DEV}
bs=4k
[a]
rw=read
"""
HEAD = 'version = 1\nname = "p"\nrepeats = 6\n[parameters]\nDEV = "/dev/x"\n'
CASE = '[[cases]]\nname = "c"\njob = "j.fio"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "j.fio").write_text(JOB)
    return tmp_path


def test_a_plan_is_read(folder: Path) -> None:
    made = plan.parse(
        HEAD
        + '[sides.A]\n[sides.B]\noptions = { bs = "8k", direct = true }\n'
        + '[compare]\nold = "A"\nnew = "B"\n[rules]\nalpha = 0.01\n[rules.floors]\niops = 0.04\n'
        + CASE
        + 'metrics = ["read_iops"]\nruntime = 5\nparameters = { DEV = "/dev/y" }\n',
        folder,
    )
    case = made.case("c")
    assert (case.repeats, case.runtime, case.parameters) == (6, 5.0, {"DEV": "/dev/y"})
    assert made.side("B").options == {"bs": "8k", "direct": "1"}
    assert made.rules.floor("read_iops") == 0.04
    assert made.rules.floor("read_clat_p99") == 0.05


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2", "version 2"),
        ("version = 1", "no name"),
        ("x = ", "no TOML"),
        (HEAD, "no case"),
        (HEAD + CASE + CASE, "two cases called c"),
        (HEAD + CASE + "repaets = 3", "unknown key 'repaets'"),
        (HEAD + CASE + "runtime = 0.5", "whole seconds"),
        (HEAD + CASE + "repeats = true", "repeats must be int"),
        (HEAD + CASE.replace("j.fio", "k.fio"), "no job file"),
        (HEAD + CASE + 'metrics = ["speed"]', "'speed' is no metric"),
        (HEAD + CASE + 'hosts = ["h"]', "no host 'h'"),
        (HEAD + '[compare]\nold = "A"\nnew = "B"\n' + CASE, "no side 'A'"),
        (HEAD + '[hosts.h]\naddress = "x"\n' + CASE, "no fingerprint"),
        (HEAD + "[rules]\nleast_runs = 3\n" + CASE, "at least 5"),
        (HEAD + '[rules]\ncorrection = "none"\n' + CASE, "holm, bh"),
        (HEAD + "[rules]\nmad_factor = 1e9\n" + CASE, "mad_factor must be in 0 … 10"),
        (HEAD + "[rules]\nmad_factor = 0\n" + CASE, "mad_factor must be in 0 … 10"),
        (HEAD + "[rules]\nmad_factor = nan\n" + CASE, "mad_factor must be in 0 … 10"),
        (HEAD + "[rules]\nalpha = nan\n" + CASE, "alpha must be"),
        (HEAD + "[rules.floors]\niops = nan\n" + CASE, "the floor of iops must be"),
        (HEAD + "[rules.floors]\niops = 0.5\n" + CASE, "the floor of iops must be"),
        (HEAD + "[rules.floors]\nspeed = 0.1\n" + CASE, "names no metric"),
    ],
)
def test_a_mistake_is_named(folder: Path, text: str, said: str) -> None:
    with pytest.raises(NightlyError, match=said):
        plan.parse(text, folder)


def test_a_job_file_is_filled_in_and_overridden(folder: Path) -> None:
    job = jobfile.expand(folder / "j.fio", {"ENGINE": "null", "DEV": "/f"}, {"bs": "8k", "x": "1"})
    assert job.text.splitlines() == [
        "[global]", "ioengine=null", "filename=/f", "bs=8k", "x=1", "[a]", "rw=read",
    ]
    assert job.values["bs"] == "8k" and not job.ours


def test_a_missing_parameter_is_named_and_a_comment_is_none(folder: Path) -> None:
    with pytest.raises(NightlyError, match="j.fio needs DEV, ENGINE;"):
        jobfile.expand(folder / "j.fio", {}, {})


def test_a_job_file_without_global_gets_one(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("[a]\nrw=read\n")
    assert jobfile.expand(tmp_path / "j", {}, {"bs": "4k"}).text == "[global]\nbs=4k\n[a]\nrw=read\n"


def test_included_files_are_part_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common/target.fio").write_text("# of all\nfilename=${DEV}\ninclude more.fio\n")
    (tmp_path / "common/more.fio").write_text("direct=1\n")
    (tmp_path / "j").write_text("[global]\ninclude common/target.fio\n[a]\nrw=read\n")
    job = jobfile.expand(tmp_path / "j", {"DEV": "/d"}, {})
    assert job.text == "[global]\nfilename=/d\ndirect=1\n[a]\nrw=read\n"
    assert job.values["filename"] == "/d"
    (tmp_path / "common/more.fio").write_text("include target.fio\n")
    with pytest.raises(NightlyError, match="includes itself"):
        jobfile.expand(tmp_path / "j", {"DEV": "/d"}, {})


def test_the_order_is_random_and_sides_stay_together(folder: Path) -> None:
    made = plan.parse(
        HEAD + '[sides.A]\n[sides.B]\n[compare]\nold = "A"\nnew = "B"\n' + CASE
        + CASE.replace('"c"', '"d"'), folder,
    )
    order = schedule.order(made, 1)
    assert len(order) == 2 * 2 * 6 and len(set(order)) == len(order)
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(a[0].test == b[0].test and a[1] == b[1] for a, b in pairs)
    assert {a[0].side for a, _ in pairs} == {"A", "B"}  # neither is always first
    assert order == schedule.order(made, 1) != schedule.order(made, 2)
    again = schedule.order(made, 1, 1, [Series("c", "B", "local")])
    assert {series.side for series, _ in again} == {"A", "B"}
    assert {series.test for series, _ in again} == {"c"}
