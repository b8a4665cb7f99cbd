# SPDX-License-Identifier: GPL-2.0-only
"""Which interrupted night may be gone on with: its runs and those to come must be one night."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from dmabuf_nightly import cli, health, judge, machine, plan, runner
from dmabuf_nightly.errors import NightlyError
from made import KEY, PLAN, SUBJECT, Made

JOB = "[global]\nioengine=null\nfilename=${DEV}\n[j]\nrw=read\n"
TWO = PLAN + '[[cases]]\nname = "d"\njob = "j.fio"\n'


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A store whose nights were run on this very machine, in this boot."""
    facts = {"key": KEY, "subject": SUBJECT, "state": {"boot": "b"}}
    monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, health.Snapshot()))
    (tmp_path / "j.fio").write_text(JOB)
    return Made(tmp_path / "s.db")


def wanted(made: Made, text: str = PLAN) -> plan.Plan:
    return plan.parse(text.format(plan="p"), made.path.parent)


def begun(made: Made, hours_ago: float = 0) -> int:
    """A night that was interrupted, some time ago."""
    night = made.night(1000, status=None, done=5)
    then = (datetime.now(timezone.utc) - timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made.store.db.execute("UPDATE night SET started = ?", (then,))
    made.store.db.execute("UPDATE run SET started = ? WHERE state = 'done'", (then,))
    return night


def test_a_night_is_gone_on_with(made: Made) -> None:
    night = begun(made, hours_ago=2)
    assert runner.unfinished(made.store, wanted(made)) == night


def test_an_old_night_is_not(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    night = begun(made, hours_ago=13)
    assert runner.unfinished(made.store, wanted(made)) is None
    assert "hours ago" in capsys.readouterr().err
    found = made.store.night(night)
    assert found.status == "inconclusive" and (found.verdict or "").startswith("abandoned")
    # Nor is it one of the last nights to pin.
    assert made.call("baseline", "pin", "--plan", "p", "--last", "1") == 2
    # Such a night stands in nobody's way, whatever its plan was.
    begun(made, hours_ago=24 * 7)
    assert runner.unfinished(made.store, wanted(made, PLAN + "# another text\n")) is None


@pytest.mark.parametrize(
    ("role", "changed", "said"),
    [
        ("subject", {**SUBJECT, "engine": "2"}, "engine"),
        ("key", {**KEY, "CPU": "another"}, "CPU"),
        ("state", {"boot": "another"}, "booted again"),
    ],
)
def test_a_night_of_another_machine_or_subject_is_not(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], role: str,
    changed: dict[str, str], said: str,
) -> None:
    begun(made)
    made.store.db.execute("UPDATE run SET conditions = '{\"boot\": \"b\"}' WHERE state = 'done'")
    facts = {"key": KEY, "subject": SUBJECT, "state": {"boot": "b"}, role: changed}
    monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, health.Snapshot()))
    assert runner.unfinished(made.store, wanted(made)) is None
    assert said in capsys.readouterr().err
    assert made.store.nights()[-1].finished


def test_a_night_of_another_job_is_not(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    begun(made)
    digest = runner.Execution(made.store, wanted(made), 0).planned()[0].job.digest[:16]
    conditions = f'{{"boot": "b", "job of c": "{digest}"}}'
    made.store.db.execute("UPDATE run SET conditions = ? WHERE state = 'done'", (conditions,))
    assert runner.unfinished(made.store, wanted(made)) is not None
    job = made.path.parent / "j.fio"
    job.write_text(job.read_text() + "bs=8k\n")
    assert runner.unfinished(made.store, wanted(made)) is None
    assert "the job of case c is another one by now" in capsys.readouterr().err


def test_a_night_of_other_cases_is_not(made: Made) -> None:
    """--case that is not as it was would leave cases without a run, or runs without a case."""
    text = TWO.format(plan="p")
    night = made.night(1000, status=None, done=5, text=text)
    whole = wanted(made, TWO)
    with pytest.raises(NightlyError, match=f"night {night} was begun with --case c;"):
        runner.unfinished(made.store, whole)
    with pytest.raises(NightlyError, match="--case c"):
        runner.unfinished(made.store, runner.only(whole, ["d"]))
    assert runner.unfinished(made.store, runner.only(whole, ["c"])) == night


def test_a_night_whose_subject_changed_is_inconclusive(made: Made) -> None:
    """An engine that is installed in the middle of a night was measured by none of it."""
    night = made.night(1000, status=None, done=5)
    for run in made.store.runs(night)[5:]:
        made.complete(run.id, 1000, subject={**SUBJECT, "engine": "2"})
    found = judge.judge(made.store, wanted(made), night).findings[0]
    assert found.state == "inconclusive"
    assert "what is judged changed during the night: engine" in found.text
    assert cli.main(["baseline", "pin", "--plan", "p", "--nights", "1", "--store", str(made.path)]) == 2
