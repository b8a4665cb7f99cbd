# SPDX-License-Identifier: GPL-2.0-only
"""Figures are compared with those of the same job alone, and a report says what is another one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import analyse, bisect, fio, health, jobfacts, jobfile, judge, judged, machine, plan, runner
from dmabuf_nightly.store import Series, Store
from dmabuf_report import model
from made import KEY, Made

TEXT = """version = 1
name = "p"
repeats = 5
[parameters]
DEV = "/dev/nvme0n1"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
{more}
[[cases]]
name = "d"
job = "k.fio"
metrics = ["read_iops"]
"""
JOB = "[global]\nioengine=psync\nfilename=${DEV}\niodepth=64\nbs=4k\n[j]\nrw=randread\n"


class Lab:
    """Nights of a plan with two cases, whose runs give the same whatever the jobs say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.made = Made(folder / "s.db")
        self.datapath = "premapped"
        self.job()
        (folder / "k.fio").write_text(JOB)
        facts = {"key": KEY, "subject": {}, "state": {}}
        monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, health.Snapshot()))
        monkeypatch.setattr(fio, "run", lambda *_: (0, ""))
        monkeypatch.setattr(fio, "judge", self.outcome)

    def outcome(self, *_: Any) -> fio.Outcome:
        return fio.Outcome(metrics={"read_iops": self.made.runs(1000, 1)[0]}, datapath=self.datapath,
                           block_bytes=4096, depth=64)

    def job(self, old: str = "", new: str = "") -> None:
        (self.folder / "j.fio").write_text(JOB.replace(old, new) if old else JOB)

    def plan(self, more: str = "", dev: str = "/dev/nvme0n1") -> plan.Plan:
        return plan.parse(TEXT.format(more=more).replace("/dev/nvme0n1", dev), self.folder)

    def night(self, more: str = "", dev: str = "/dev/nvme0n1") -> int:
        wanted = self.plan(more, dev)
        night = runner.new_night(self.made.store, wanted, 1, "")
        runner.Execution(self.made.store, wanted, night).phase(0)
        self.made.store.finish(night, "pass", "")
        return night

    def judged(self, night: int) -> dict[str, tuple[str, str]]:
        found = analyse.judge_night(self.made.store, self.made.store.night(night)).findings
        return {judged.subject(f).series.test: (f.state, f.text) for f in found}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    found = Lab(monkeypatch, tmp_path)
    for _ in range(3):
        found.night()
    assert found.made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    return found


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("iodepth=64", "iodepth=32"), "iodepth 32 was 64"),
        (("bs=4k", "bs=128k"), "bs 128k was 4k"),
        (("rw=randread", "rw=read"), "[j] rw read was randread"),
        (("iodepth=64\n", "iodepth=64\ndirect=1\n"), "direct 1 was not there"),
        (("iodepth=64\n", ""), "iodepth, which was 64, is gone"),
    ],
)
def test_a_case_with_another_job_is_not_compared_and_the_others_are(
    lab: Lab, how: tuple[str, str], said: str
) -> None:
    lab.job(*how)
    found = lab.judged(lab.night())
    state, text = found["c"]
    assert state == "inconclusive"
    assert text.startswith(f"this is not the job of the baseline of nights 1, 2, 3: {said}"), text
    assert found["d"][0] == "same"
    # Pinned anew, it is compared again.
    assert lab.made.call("baseline", "pin", "--plan", "p", "--last", "1", "--case", "c", "--replace") == 0
    assert lab.judged(lab.night())["c"][0] == "same"


def test_options_of_the_plan_are_the_job_too(lab: Lab) -> None:
    found = lab.judged(lab.night('options = { iodepth = "1", numjobs = "2" }'))
    assert "iodepth 1 was 64, numjobs 2 was not there" in found["c"][1]
    assert found["c"][0] == "inconclusive" and found["d"][0] == "same"


def test_which_jobs_count_is_part_of_it(lab: Lab) -> None:
    found = lab.judged(lab.night('jobs = ["j"]'))
    assert "jobs that count j was not there" in found["c"][1]


def test_another_datapath_is_not_compared(lab: Lab) -> None:
    lab.datapath = "bvec"
    found = lab.judged(lab.night())
    assert "this is not the job of the baseline of nights 1, 2, 3: datapath bvec was premapped" in found["c"][1]


def test_the_datapath_must_be_one_in_a_night(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = iter(["premapped", "bvec"] * 10)
    monkeypatch.setattr(fio, "judge", lambda *_: fio.Outcome(metrics={"read_iops": 1000.0}, datapath=next(paths)))
    found = lab.judged(lab.night())
    assert any("the job changed during the night: datapath" in text for _, text in found.values())


def test_what_makes_no_difference_is_no_other_job(lab: Lab) -> None:
    lab.job("[j]", "randseed=7\n; a comment\n[j]")
    found = lab.judged(lab.night(dev="/dev/nvme7n1"))
    assert {state for state, _ in found.values()} == {"same"}


def test_nights_of_other_jobs_are_no_history(lab: Lab) -> None:
    lab.job("iodepth=64", "iodepth=32")
    night = lab.night()
    wanted = analyse.plan_of(lab.made.store, lab.made.store.night(night))
    found = judge.judge(lab.made.store, wanted, night).findings
    lengths = {judged.subject(f).series.test: len(f.question.history) for f in found}
    assert lengths == {"c": 0, "d": 3}


def test_nights_of_other_jobs_are_not_pinned_together(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.job("iodepth=64", "iodepth=32")
    lab.night()
    assert lab.made.call("baseline", "pin", "--plan", "p", "--last", "2", "--replace") == 2
    assert "their jobs differ: in night 4 iodepth 32 was 64" in capsys.readouterr().err


def test_a_baseline_of_an_earlier_release_is_compared_by_what_it_stored(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such runs have a datapath, a block size and a depth, and no more of their job."""
    lab.made.store.db.execute("UPDATE run SET job = NULL")
    capsys.readouterr()
    assert lab.made.call("baseline", "show", "--plan", "p") == 0
    assert "its jobs are not stored" in capsys.readouterr().out
    state, text = lab.judged(lab.night())["c"]
    assert state == "same" and "whose jobs an earlier release did not store" in text
    lab.datapath = "bvec"
    assert "datapath bvec was premapped" in lab.judged(lab.night())["c"][1]
    lab.datapath = "premapped"
    night = lab.night()
    lab.made.store.db.execute("UPDATE run SET outcome = json_set(outcome, '$.depth', 1) WHERE night = ?", (night,))
    assert "iodepth 1 was 64" in lab.judged(night)["c"][1]


def test_a_step_of_bisect_is_of_the_same_job(lab: Lab) -> None:
    def execute(night: int) -> None:
        wanted = lab.plan()
        runner.Execution(lab.made.store, wanted, night).phase(0)

    series = Series("c", "", "local")
    good = bisect.known_good(lab.made.store, lab.plan(), series, "read_iops", execute, "")
    assert good.status == bisect.GOOD, good.text
    lab.job("iodepth=64", "iodepth=32")
    step = bisect.step(lab.made.store, lab.plan(), series, "read_iops", execute, "")
    assert step.status == bisect.SKIP and "not the job of the known-good commit: iodepth 32 was 64" in step.text


def test_a_job_as_facts() -> None:
    text = (
        "[global]\nioengine=external:/home/x/build/libdmabuf.so\nfilename=/dev/nvme0n1\nblocksize=4k\n"
        "dmabuf_report=/tmp/x\nrandseed=3\ntime_based\n[a]\nrw=read\n[a]\nrw=write\nfilename=/dev/nvme0n1:/dev/y\n"
    )
    values = {"filename": "/dev/nvme0n1"}
    found = jobfacts.facts(jobfile.Job(text, values), ["a"])
    assert found == {
        "ioengine": "libdmabuf.so", "filename": "the drive", "bs": "4k", "time_based": "1", "[a] rw": "read",
        "[a] 2 rw": "write", "[a] 2 filename": "the drive:/dev/y", "sections": "global, a, a",
        "jobs that count": "a",
    }
    file = jobfacts.facts(jobfile.Job("[global]\nfilename=/srv/a\n[j]\n", {"filename": "/srv/a"}))
    assert file["filename"] == "/srv/a"


def test_many_differences_are_not_all_said() -> None:
    old: Mapping[str, str] = {name: "1" for name in "abcdef"}
    found = jobfacts.differences({name: "2" for name in "abcdef"}, old)
    assert jobfacts.shown(found) == "a 2 was 1, b 2 was 1, c 2 was 1, d 2 was 1 and 2 more"
    assert jobfacts.shown(found[:4]).endswith("d 2 was 1")


def test_the_report_names_the_job(lab: Lab) -> None:
    from dmabuf_nightly import results

    lab.job("iodepth=64", "iodepth=32")
    found: model.Results = results.build(
        analyse.judge_night(lab.made.store, lab.made.store.night(lab.night()))
    )
    assert found.verdict.status == "inconclusive" and "iodepth 32 was 64" in found.verdict.text
    Store(lab.made.path).close()
