# SPDX-License-Identifier: GPL-2.0-only
"""The whole program with real fio, its own engines, and rates that are set: 400 IOPS is good."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dmabuf_common import measuring
from dmabuf_nightly import fio
from dmabuf_nightly.store import Store
from dmabuf_report import document

PROGRAM = Path(__file__).resolve().parents[2] / "scripts/dmabuf-nightly"
JOB = """[global]
ioengine=null
filename=${DEV}
bs=4k
size=1200k
rate_iops=${RATE}
[j]
rw=read
"""
FIO = """#!/bin/sh
for job; do :; done
if [ -f {rate} ] && [ -f "$job" ]; then
    sed -i "s/^rate_iops=.*/rate_iops=$(cat {rate})/" "$job"
fi
exec {fio} "$@"
"""
PLAN = """version = 1
name = "p"
repeats = 5
runtime = 0
[parameters]
DEV = "{folder}/file"
RATE = {rate}
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
{more}
"""


class Lab:
    """A folder with a plan and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "s.db"
        (folder / "j.fio").write_text(JOB)
        # A machine that gives this rate and no more, whatever the job says.
        (folder / "bin").mkdir()
        (folder / "bin/fio").write_text(FIO.format(rate=folder / "rate", fio=shutil.which("fio")))
        (folder / "bin/fio").chmod(0o755)
        self.env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def plan(self, rate: int = 400, more: str = "") -> None:
        text = PLAN.format(folder=self.folder, rate=rate, more=more)
        (self.folder / "p.toml").write_text(text)

    def rate(self, rate: int) -> None:
        """The machine gives this rate from now on, and the plan and its jobs are as they were."""
        (self.folder / "rate").write_text(str(rate))

    def bisect(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A step; what counts is more than a busy machine makes of the rate."""
        return self.run("bisect", "p.toml", "--case", "c", "--metric", "read_iops", "--effect", "0.3",
                        *words)

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-B", str(PROGRAM), *words, "--store", str(self.store)]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*words), cwd=self.folder, capture_output=True, text=True,
                              timeout=300, check=False, env=self.env)

    def states(self, night: int = 1) -> list[str]:
        store = Store(self.store)
        found = [run.state for run in store.runs(night)]
        store.close()
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_slower_night_is_confirmed_by_reruns_and_bisect_agrees(lab: Lab) -> None:
    lab.plan()
    first = lab.run("run", "p.toml", "--report", "out")
    assert first.returncode == 0, first.stdout + first.stderr
    assert document.load(lab.folder / "out/results.json").verdict.status == "pass"
    assert lab.bisect().returncode == 255
    assert lab.run("baseline", "pin", "--plan", "p", "--last", "1").returncode == 0
    again = lab.run("baseline", "pin", "--plan", "p", "--last", "1")
    assert again.returncode == 2 and "--replace" in again.stderr

    lab.rate(160)
    slow = lab.run("run", "p.toml", "--report", "out")
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert "read_iops is" in slow.stdout and "both reruns agree" in slow.stdout
    assert lab.states(2) == ["done"] * 15  # five, and twice five again
    found = document.load(lab.folder / "out/results.json")
    assert [c.state for c in found.comparisons] == ["confirmed"]
    shown = lab.run("baseline", "show", "--plan", "p")
    assert "baseline of night 1, 5 runs" in shown.stdout  # it did not move

    still = lab.run("run", "p.toml")
    assert still.returncode == 1 and "as it was since night 2" in still.stdout
    assert lab.states(3) == ["done"] * 5  # known already: no rerun

    lab.rate(400)
    unknown = lab.bisect()
    assert unknown.returncode == 255 and "--known-good" in unknown.stderr
    known = lab.bisect("--known-good")
    assert known.returncode == 0, known.stdout + known.stderr
    lab.rate(160)
    bad = lab.bisect()
    assert (bad.returncode, bad.stdout[:3]) == (1, "bad")
    lab.rate(400)
    good = lab.bisect()
    assert (good.returncode, good.stdout[:4]) == (0, "good")
    unbuilt = lab.bisect("--build", "false")
    assert unbuilt.returncode == 125

    assert lab.run("analyze", "--night", "2").returncode == 1
    assert lab.run("export", "--plan", "p", "--csv", "csv").returncode == 0
    rows = list(csv.DictReader((lab.folder / "csv/c-local.csv").open()))
    assert [row["night"] for row in rows] == ["1", "2", "3"]  # what bisect ran is no part of it
    assert float(rows[1]["read_iops"]) == pytest.approx(160, rel=0.2)
    assert "time_column: time" in (lab.folder / "csv/otava.yaml").read_text()


def wait_for(condition: object, seconds: float = 300) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_kill_9_loses_only_the_run_in_flight(lab: Lab) -> None:
    lab.plan()
    child = subprocess.Popen(lab.argv("run", "p.toml"), cwd=lab.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: lab.store.exists() and lab.states().count("done") >= 2)
    wait_for(lambda: "running" in lab.states())
    child.kill()
    child.wait()
    before = lab.states()
    done = before.count("done")
    assert 2 <= done < 5 and before.count("running") == 1
    store = Store(lab.store)
    kept = {run.id: (run.started, run.metrics) for run in store.runs(1) if run.state == "done"}
    mark = store.uuid

    resumed = lab.run("run", "p.toml", "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "1 run in flight is run again" in resumed.stderr
    assert lab.states() == ["done"] * 5
    after = {run.id: (run.started, run.metrics) for run in store.runs(1)}
    assert {number: after[number] for number in kept} == kept
    assert len(store.nights()) == 1 and fio.left_over(mark) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_night_keeps_what_is_done(lab: Lab, number: signal.Signals) -> None:
    lab.plan()
    child = subprocess.Popen(lab.argv("run", "p.toml"), cwd=lab.folder, stderr=subprocess.PIPE,
                             text=True)
    wait_for(lambda: lab.store.exists() and "done" in lab.states())
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "are kept" in said
    assert set(lab.states()) == {"done", "planned"}


def test_a_night_waits_for_another_program_that_measures(lab: Lab) -> None:
    """It has another store, and may be of another plan."""
    lab.plan()
    waiting: list[str] = []
    with measuring.alone([measuring.LOCAL], "the other one", waiting.append):
        child = subprocess.Popen(lab.argv("run", "p.toml"), cwd=lab.folder, stderr=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, text=True)
        assert child.stderr is not None
        line = child.stderr.readline()
        assert "the other one" in line and "waits for it to end" in line
        assert not Store(lab.store).nights()
    child.stderr.read()
    assert child.wait(300) == 0
    assert lab.states() == ["done"] * 5


def test_a_changed_plan_cannot_be_resumed(lab: Lab) -> None:
    lab.plan()
    child = subprocess.Popen(lab.argv("run", "p.toml"), cwd=lab.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: lab.store.exists() and "done" in lab.states())
    child.send_signal(signal.SIGINT)
    child.wait()
    lab.plan(rate=360)
    refused = lab.run("run", "p.toml", "--resume")
    assert refused.returncode == 2 and "another text of plan p" in refused.stderr


def test_another_machine_is_not_compared(lab: Lab) -> None:
    lab.plan()
    assert lab.run("run", "p.toml").returncode == 0
    assert lab.run("baseline", "pin", "--plan", "p", "--last", "1").returncode == 0
    store = Store(lab.store)
    other = store.add_facts({"CPU": "another"})
    store.db.execute("UPDATE baseline SET key = ?", (other,))
    store.close()
    night = lab.run("run", "p.toml")
    assert night.returncode == 77
    assert "not the machine of the baseline" in night.stdout and "CPU" in night.stdout


def test_a_store_of_another_version_is_refused(lab: Lab) -> None:
    lab.plan()
    store = Store(lab.store)
    store.db.execute("PRAGMA user_version = 99")
    store.close()
    refused = lab.run("nights")
    assert refused.returncode == 2 and "version 99" in refused.stderr


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[int]]:
    """Two fio servers on loopback; their ports."""
    ports, children = [], []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        children.append(
            subprocess.Popen(["fio", f"--server=127.0.0.1,{ports[-1]}"], cwd=tmp_path,
                             stdout=subprocess.DEVNULL, start_new_session=True)
        )
    for port in ports:
        def listening(port: int = port) -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        wait_for(listening)
    yield ports
    for child in children:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_two_hosts_go_into_one_store(lab: Lab, servers: list[int]) -> None:
    hosts = ""
    for number, port in enumerate(servers, 1):
        command = json.dumps([sys.executable, "-B", str(PROGRAM), "fingerprint", "--target", "{target}"])
        hosts += (
            f'[hosts.h{number}]\naddress = "127.0.0.1,{port}"\nfingerprint = {command}\n'
            f"parameters = {{ RATE = {400 * number} }}\n"
        )
    lab.plan(more=hosts)
    ran = lab.run("run", "p.toml", "--report", "out")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = document.load(lab.folder / "out/results.json")
    rates = {m.host: m.metrics[0].value for m in found.measurements}
    assert rates["h1"] == pytest.approx(400, rel=0.05)
    assert rates["h2"] == pytest.approx(800, rel=0.05)
    assert any(fact.name == "h2: fio" for fact in found.environment)


def test_a_machine_measures_and_another_one_finds_it_slower(lab: Lab, tmp_path: Path) -> None:
    """What judges gets a copy of the store every morning, and has only that."""
    lab.plan()
    ended = []
    for night, rate in enumerate([400] * 6 + [160] * 3, 1):
        lab.rate(rate)
        measured = lab.run("run", "p.toml", "--measure")
        assert measured.returncode == 0, measured.stdout + measured.stderr
        if night == 3:
            assert lab.run("baseline", "pin", "--plan", "p", "--last", "3").returncode == 0
        if night <= 6:
            continue
        copy = tmp_path / f"copy-{night}.db"
        store = Store(lab.store)
        store.db.execute("VACUUM INTO ?", (str(copy),))
        store.close()
        judged = subprocess.run(
            [sys.executable, "-B", str(PROGRAM), "analyze", "--store", str(copy)], check=False,
            capture_output=True, text=True, timeout=300,
        )
        ended.append(judged.returncode)
        copied = Store(copy)
        assert not any(found.status == "measured" for found in copied.nights())
        copied.close()
    assert ended == [77, 1, 1]
    store = Store(lab.store)
    assert store.decisions() == [] and [n.status for n in store.nights()] == ["measured"] * 9
