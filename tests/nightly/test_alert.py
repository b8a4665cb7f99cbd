# SPDX-License-Identifier: GPL-2.0-only
"""Who is told of a night, and when; what is known already; what is kept for how long."""

import json
import re
import statistics
import zlib
from pathlib import Path

import pytest
from dmabuf_nightly import export, runner
from dmabuf_nightly.store import Series
from made import PLAN, SERIES, Made

PLAN_TEXT = PLAN.format(plan="p")


def test_a_night_without_a_baseline_is_not_good_where_one_is_demanded(tmp_path: Path) -> None:
    new = Made(tmp_path / "new.db")
    new.night(1000)
    assert new.call("analyze") == 0
    assert new.call("analyze", "--need-baseline") == 77
    assert new.call("baseline", "pin", "--plan", "p", "--last", "1") == 0
    new.night(1000)
    assert new.call("analyze", "--need-baseline") == 0


def test_a_change_of_state_is_told_once(made: Made, tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = f'cat >> {told} && echo " $DMABUF_PLAN $DMABUF_NIGHT $DMABUF_STATUS: $DMABUF_TEXT" >> {told}'
    states = []
    for level in (1000, 500, 500, 500, 1000, 1000):
        made.night(level)
        before = told.read_text() if told.exists() else ""
        made.call("analyze", "--notify", command)
        made.call("analyze", "--notify", command)  # nothing is new by then
        states.append((told.read_text() if told.exists() else "")[len(before) :])
    assert [bool(text) for text in states] == [False, True, True, False, True, False]
    document, after = json.JSONDecoder().raw_decode(states[2])
    said = states[2][after:]
    assert (document["format"], document["plan"], document["night"]) == ("libdmabuf-notice", "p", 9)
    assert (document["before"], document["status"]) == ("inconclusive", "fail")
    assert document["failed"][0]["id"] == "c.local.read_iops"
    assert said.startswith(" p 9 fail: 1 of 2 requirements failed")


def test_a_night_in_the_middle_is_said_and_told(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in (500, 500, 1000):
        made.night(level)
    capsys.readouterr()
    told = tmp_path / "told"
    # The exit status is the last night's; a copy has all that ever failed in it.
    assert made.call("analyze", "--notify", f'echo "$DMABUF_NIGHT $DMABUF_STATUS" >> {told}') == 0
    assert told.read_text().splitlines() == ["7 inconclusive", "8 fail", "9 pass"]
    said = capsys.readouterr().out.splitlines()
    assert [line[:16] for line in said[:2]] == ["night 7: inconcl", "night 8: fail: 1"]
    assert said[-1].startswith("pass: ")
    made.night(500)
    made.night(1000)
    assert made.call("analyze", "--notify", 'test "$DMABUF_NIGHT" = 11') == 2
    assert "the notice of night 10 was not sent" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--notify", "true"], ["--need-baseline"], ["--report", "out"]])
def test_what_needs_a_verdict_is_refused_where_there_is_none(made: Made, more: list[str]) -> None:
    (made.path.parent / "j.fio").write_text("[global]\nioengine=null\nfilename=/dev/null\n[j]\n")
    (made.path.parent / "p.toml").write_text(PLAN_TEXT)
    assert made.call("run", str(made.path.parent / "p.toml"), "--measure", *more) == 2
    assert len(made.store.nights()) == 6


def test_a_notice_that_cannot_be_sent_is_no_success(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    made.night(500)
    made.night(500)
    assert made.call("analyze", "--notify", "exit 3") == 1
    assert "ended with status 3" in capsys.readouterr().err
    made.night(1000)
    assert made.call("analyze", "--notify", "exit 3") == 2


def test_what_is_known_fails_no_more_unless_it_becomes_worse(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops")
    assert made.call(*what, "--note", "x") == 2  # nothing is confirmed
    for level in (900, 900):
        made.night(level)
    assert made.call("analyze") == 1
    assert made.call(*what, "--note", "the new firmware") == 0
    made.night(900)
    capsys.readouterr()
    assert made.call("analyze", "--notify", "exit 3") == 2  # fail became pass
    made.night(895)
    assert made.call("analyze") == 0
    made.night(800)
    assert made.call("analyze") == 1
    made.night(900)
    assert made.call("analyze") == 0
    assert made.call(*what, "--end") == 0
    assert made.call("analyze") == 1
    # A new baseline ends it, too.
    assert made.call(*what, "--note", "again") == 0
    assert made.call("baseline", "pin", "--plan", "p", "--nights", "9,10", "--replace") == 0
    assert made.call(*what, "--end") == 2


def copy_of(made: Made, name: str) -> Made:
    path = made.path.with_name(name)
    made.store.db.execute("VACUUM INTO ?", (str(path),))
    return Made(path)


def test_what_a_copy_confirmed_can_be_acknowledged_where_it_was_measured(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next copy has it then, and judges the nights before it as they were."""
    what = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "x")
    for level in (900, 900, 900):
        made.night(level)
    copy = copy_of(made, "copy.db")
    assert copy.call("analyze") == 1
    ratio = f"{copy.store.decisions(9)[0]['document']['ratio']:.3f}"
    assert made.call(*what) == 2
    assert made.call(*what, "--ratio", ratio) == 0
    assert f"at {ratio} since night 9" in capsys.readouterr().out.replace("is known to be ", "")
    assert made.call("analyze") == 0
    assert [made.store.night(n).status for n in (7, 8, 9)] == ["inconclusive", "fail", "pass"]
    made.night(850)
    assert made.call("analyze") == 1
    assert made.call(*what, "--ratio", ratio, "--night", "99") == 2


@pytest.mark.parametrize("ratio", ["0.000001", "0.5", "0.904", "1.2"])
def test_a_ratio_that_no_night_gave_is_refused(
    made: Made, capsys: pytest.CaptureFixture[str], ratio: str
) -> None:
    what = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "x")
    made.night([900.0] * 10)
    baseline = [run.metrics["read_iops"] for n in (1, 2, 3) for run in made.store.runs(n)]
    right = f"{900 / statistics.median(baseline):.3f}"
    assert made.call(*what, "--ratio", ratio) == 2
    said = capsys.readouterr().err
    assert f"no stored night gives the ratio {float(ratio):.3f}" in said and "the nearest is" in said
    assert made.call(*what, "--ratio", right) == 0
    # Of a night that is named, it must be that night's.
    assert made.call(*what, "--ratio", right, "--night", "5") == 2


def test_a_ratio_of_reruns_and_of_nights_together_is_one_of_the_nights(made: Made) -> None:
    what = ("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "x")
    night = made.night(900)
    made.rerun(night, 880)
    old = statistics.median([run.metrics["read_iops"] for n in (1, 2, 3) for run in made.store.runs(n)])
    again = [run.metrics["read_iops"] for run in made.store.runs(night) if run.phase]
    assert made.call(*what, "--ratio", f"{statistics.median(again) / old:.3f}") == 0
    both = [run.metrics["read_iops"] for n in (night, made.night(910)) for run in made.store.runs(n, 0)]
    assert made.call(*what, "--ratio", f"{statistics.median(both) / old:.3f}") == 0


def test_a_report_says_what_is_known(made: Made, tmp_path: Path) -> None:
    for level in (900, 900):
        made.night(level)
    made.call("analyze")
    made.call("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "firmware")
    made.call("report", "--out", str(tmp_path / "out"), "--format", "json")
    document = json.loads((tmp_path / "out/results.json").read_text())
    row = document["comparisons"][0]
    assert (row["state"], row["status"]) == ("confirmed", "pass")
    assert row["text"].endswith("; known since night 8: firmware")


LINE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')


def families(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What OpenMetrics 1.0 says of a text: types before samples, each family once, EOF at the end."""
    assert text.endswith("# EOF\n")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in found and kind == "gauge"
            found[name] = []
        elif not line.startswith("# HELP "):
            match = LINE.match(line)
            assert match, line
            labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
            assert match.group(1) == list(found)[-1]
            assert labels not in [known for known, _ in found[match.group(1)]]
            found[match.group(1)].append((labels, float(match.group(3))))
    return found


def test_the_last_judged_night_as_open_metrics(made: Made, tmp_path: Path) -> None:
    for level in (500, 500, 1000):
        made.night(level)
    made.call("analyze", "--night", "8")
    assert made.call("export", "--plan", "p", "--openmetrics", str(tmp_path / "p.prom")) == 0
    found = families((tmp_path / "p.prom").read_text())
    labels = {"plan": "p", "case": "c", "side": "", "host": "local", "metric": "read_iops"}
    (seen, value), = found["dmabuf_nightly_value"]
    assert seen == {**labels, "unit": "IOPS"} and value == pytest.approx(500, rel=0.02)
    (seen, value), = found["dmabuf_nightly_ratio"]
    assert seen == {**labels, "against": "baseline"} and value == pytest.approx(0.5, rel=0.02)
    assert found["dmabuf_nightly_slower"] == [({**labels, "against": "baseline"}, 1)]
    status = {seen["status"]: value for seen, value in found["dmabuf_nightly_status"]}
    assert status == {"pass": 0, "fail": 1, "inconclusive": 0, "skip": 0}
    assert found["dmabuf_nightly_night"] == [({"plan": "p"}, 8)]
    assert made.call("export", "--plan", "p") == 2
    assert export.label_text('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_old_files_go_and_figures_stay(made: Made) -> None:
    made.night(1000)
    for night in range(1, 8):
        folder = made.store.files / f"night-{night:04}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("x" * 100)
        made.store.db.execute("UPDATE run SET files = '{\"fio\": \"night-1/run.json\"}' WHERE night = ?",
                              (night,))
        for run in made.store.runs(night):
            data = zlib.compress(json.dumps([[n, int(v)] for n, v in enumerate(
                made.rng.integers(1, 1 << 40, 1500))]).encode())
            made.store.db.execute("INSERT INTO bins VALUES (?, 'read', ?)", (run.id, data))
    made.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = made.path.stat().st_size
    values = [run.metrics for n in range(1, 8) for run in made.store.runs(n)]
    assert made.call("prune", "--keep", "2") == 0
    # Those of the baseline stay, as do the last two.
    assert sorted(p.name for p in made.store.files.iterdir()) == [
        f"night-{n:04}" for n in (1, 2, 3, 6, 7)
    ]
    kept = made.store.db.execute("SELECT DISTINCT night FROM bins JOIN run ON run.id = run").fetchall()
    assert sorted(row[0] for row in kept) == [1, 2, 3, 6, 7]
    assert made.store.runs(4)[0].files == {} and made.store.runs(7)[0].files
    assert [run.metrics for n in range(1, 8) for run in made.store.runs(n)] == values
    made.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert made.path.stat().st_size < size * 0.8
    assert made.call("analyze") == 0


def test_a_report_of_another_host_is_removed_there(tmp_path: Path) -> None:
    from dmabuf_nightly import machine, plan

    (tmp_path / "there").write_text("{}")
    text = (
        'version = 1\nname = "p"\n[hosts.h]\naddress = "x"\nfingerprint = ["x"]\n'
        'report = ["cat", "{path}"]\nremove = ["rm", "{path}"]\n[[cases]]\nname = "c"\njob = "j"\n'
    )
    (tmp_path / "j").write_text("[j]\n")
    host = plan.parse(text, tmp_path).host("h")
    assert machine.report(host, str(tmp_path / "there")) == "{}"
    assert not (tmp_path / "there").exists()


def test_a_remote_shell_gets_each_word_whole() -> None:
    from dmabuf_nightly import machine

    path = "/tmp/a b; rm -rf $HOME"
    assert machine.words(["cat", "{path}"], path=path) == ["cat", path]
    ssh = machine.words(["/usr/bin/ssh", "h", "cat", "{path}"], path=path)
    assert ssh[3] == "'/tmp/a b; rm -rf $HOME'"
    assert machine.words(["ssh", "h", "cat", "{path}"], path="/tmp/x")[3] == "/tmp/x"


def test_measured_nights_end_as_they_went(tmp_path: Path) -> None:
    from dmabuf_nightly import plan

    new = Made(tmp_path / "new.db")
    (tmp_path / "j.fio").write_text("[j]\n")
    wanted = plan.parse(PLAN_TEXT, tmp_path)
    assert runner.measured(new.store, wanted, new.night(1000))[0] == "pass"
    assert runner.measured(new.store, wanted, new.night(1000, done=4)) == (
        "inconclusive", "c on local: 4 runs are valid, and 5 are needed: they have not been run"
    )
    night = new.night(1000)
    new.store.db.execute("UPDATE run SET status = 'failed', reasons = '[\"no\"]' WHERE id = "
                         "(SELECT max(id) FROM run)")
    assert runner.measured(new.store, wanted, night) == ("fail", f"1 of 10 runs failed: {SERIES}: no")
    assert Series("c", "", "local") == SERIES
