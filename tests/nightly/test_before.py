# SPDX-License-Identifier: GPL-2.0-only
"""Nights that were only measured are judged before the night that rests on them, whatever command asks."""

import json
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import analyse, fio, health, machine, plan, runner
from dmabuf_nightly.store import Series
from made import JOB, KEY, PLAN, Made


def slow_nights(made: Made) -> None:
    """Twelve good nights, and six with a loss that nobody judged."""
    for _ in range(12):
        made.night(1000)
    assert made.call("analyze") == 0
    for _ in range(6):
        made.night(900)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    found = Made(tmp_path / "s.db")
    (tmp_path / "j.fio").write_text("[global]\nioengine=null\nfilename=/dev/null\n[j]\n")
    (tmp_path / "p.toml").write_text(PLAN.format(plan="p"))
    facts = {"key": KEY, "subject": {"kernel": "6.12", "engine": "1"}, "state": {}}
    monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, health.Snapshot()))
    monkeypatch.setattr(fio, "run", lambda *_: (0, ""))
    monkeypatch.setattr(runner.jobfacts, "facts", lambda *_: JOB)

    def outcome(*_: Any) -> fio.Outcome:
        return fio.Outcome(metrics={"read_iops": found.runs(900, 1)[0]})

    monkeypatch.setattr(fio, "judge", outcome)
    return found


def test_run_judges_the_nights_that_were_only_measured_first(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_nights(made)
    told = tmp_path / "told"
    # Without them, the series just changed, and seven slow nights are what is usual.
    ended = made.call("run", str(tmp_path / "p.toml"), "--notify", f'echo "$DMABUF_NIGHT $DMABUF_STATUS" >> {told}')
    assert ended == 1, capsys.readouterr().out
    assert [n.status for n in made.store.nights()][-3:] == ["fail"] * 3
    assert "fail" in told.read_text() and "night 18: fail" in capsys.readouterr().out


def test_the_night_that_runs_is_judged_with_those_before(made: Made, tmp_path: Path) -> None:
    slow_nights(made)
    wanted = plan.load(tmp_path / "p.toml")
    night = runner.new_night(made.store, wanted, 1, "")
    judgement = runner.Execution(made.store, wanted, night).everything()
    assert [f.state for f in judgement.findings] == ["confirmed"]
    assert all(n.status != "measured" for n in made.store.nights())


def test_a_report_is_not_green_where_nights_before_it_were_not_judged(made: Made, tmp_path: Path) -> None:
    slow_nights(made)
    night = made.night(900)
    out = tmp_path / "out"
    assert made.call("report", "--out", str(out), "--format", "json") == 0
    found = json.loads((out / "results.json").read_text())
    assert found["verdict"]["status"] == "inconclusive"
    said = next(r for r in found["requirements"] if r["id"] == "night.before")
    assert said["text"].startswith("nights 13 to 18 were only measured, and nobody judged them")
    assert "analyze" in said["remedy"]
    assert made.store.night(night).status == "measured"
    made.call("analyze")
    assert made.call("report", "--out", str(out), "--format", "json") == 0
    assert json.loads((out / "results.json").read_text())["verdict"]["status"] == "fail"


def test_a_measured_night_that_is_not_complete_is_none_that_waits(made: Made) -> None:
    made.night(1000, done=4)
    assert made.store.unjudged("p", 9) == []
    assert analyse.look(made.store, made.store.night(made.night(1000))).verdict.status == "pass"
    assert Series("c", "", "local") == made.store.runs(1)[0].series
