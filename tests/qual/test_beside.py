# SPDX-License-Identifier: GPL-2.0-only
"""Several drives at once: none begins unless all may, none waits for another, and each says that it was
not alone."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import measuring
from dmabuf_common.drive_guard import Demand
from dmabuf_common.verdict import EXIT_ERROR, EXIT_FAIL, EXIT_INTERRUPTED, EXIT_PASS, EXIT_UNDECIDED
from dmabuf_qual import beside, cases, cli, requirements, results
from dmabuf_qual.beside import Job, Ready
from dmabuf_qual.errors import QualError

BASE = ["run", "--erase", "--output", "q"]
NEEDS = requirements.load(None)


def parse(*words: str) -> Any:
    return cli.parser().parse_args([*BASE, *words])


def test_each_drive_has_its_serial_and_its_folder() -> None:
    found = cli.drives_of(parse("--serial", "A", "--serial", "B/1", "/dev/nvme0n1", "/dev/nvme1n1"))
    assert [(one.device, one.demand, one.output) for one in found] == [
        ("/dev/nvme0n1", Demand("A", "", ""), Path("q/A")), ("/dev/nvme1n1", Demand("B/1", "", ""), Path("q/B_1"))]
    assert all(one.among == ("A", "B/1") for one in found)
    alone = cli.drives_of(parse("--serial", "A", "/dev/nvme0n1"))
    assert [(one.output, one.among) for one in alone] == [(Path("q"), ())]


@pytest.mark.parametrize("words", [
    ("--serial", "A", "/dev/nvme0n1", "/dev/nvme1n1"), ("--serial", "A", "--serial", "B", "/dev/nvme0n1"),
    ("--serial", "A", "--serial", "A", "/dev/nvme0n1", "/dev/nvme1n1"),
    ("--serial", "A/", "--serial", "A_", "/dev/nvme0n1", "/dev/nvme1n1"), ("/dev/nvme0n1", "/dev/nvme1n1"),
    ("--serial", ".", "--serial", "..", "/dev/nvme0n1", "/dev/nvme1n1"),
    ("--serial", "A", "--serial", "B", "--nsid", "1", "/dev/nvme0n1", "/dev/nvme1n1")])
def test_drives_that_are_not_told_apart_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(QualError, match="--serial|--nsid|--wwid"):
        cli.drives_of(parse(*words))


def test_two_namespaces_of_one_drive_are_told_apart_by_their_wwid() -> None:
    found = cli.drives_of(parse("--serial", "A", "--serial", "A", "--wwid", "eui.1", "--wwid", "eui.2", "/dev/nvme0n1",
                                "/dev/nvme0n2"))
    assert [(one.demand, one.output, one.name) for one in found] == [
        (Demand("A", "eui.1", ""), Path("q/eui.1"), "eui.1"), (Demand("A", "eui.2", ""), Path("q/eui.2"), "eui.2")]


TWO = ("--serial", "A", "--serial", "B=1", "/dev/nvme0n1", "/dev/nvme1n1")


def test_what_may_be_lost_on_one_drive_may_not_be_lost_on_another() -> None:
    found = cli.drives_of(parse("--overwrite-signature", "B=1=ext4", "--overwrite-signature", "A=gpt",
                                "--overwrite-signature", "B=1=gpt", *TWO))
    assert [(one.name, one.consent) for one in found] == [("A", ("gpt",)), ("B=1", ("ext4", "gpt"))]
    assert [one.consent for one in cli.drives_of(parse(*TWO))] == [(), ()]
    alone = cli.drives_of(parse("--serial", "A", "--overwrite-signature", "ext4", "/dev/nvme0n1"))
    assert alone[0].consent == ("ext4",)
    for words in ("ext4", "C=ext4", "A=", "=ext4"):
        with pytest.raises(QualError, match="--overwrite-signature A=TYPE"):
            cli.drives_of(parse("--overwrite-signature", words, *TWO))


def test_each_drive_is_claimed_with_its_own_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[str, ...], str]] = []

    def claim(_found: Any, _erase: bool, _demand: Demand, consent: tuple[str, ...], name: str) -> Any:
        seen.append((consent, name))
        raise QualError("enough")

    monkeypatch.setattr(cli.safety, "claim", claim)
    monkeypatch.setattr(cli.drive, "find", lambda _device: None)
    args = parse("--overwrite-signature", "A=ext4", *TWO)
    for target in cli.drives_of(args):
        with pytest.raises(QualError, match="enough"):
            cli._one(args, target, lambda: None)
    assert seen == [(("ext4",), "A"), ((), "B=1")]


def job(name: str, status: int, log: Path, refuse: bool = False, wait_s: float = 0.0) -> Job:
    def act(ready: Ready) -> int:
        if refuse:
            raise QualError("refused")
        ready()
        begin = time.monotonic()
        (log / f"{name}.begins").touch()
        while wait_s and len(list(log.glob("*.begins"))) < 2 and time.monotonic() < begin + wait_s:
            time.sleep(0.01)
        (log / name).write_text(str(len(list(log.glob("*.begins")))))
        print(f"verdict: word: of {name}")
        return status

    return Job(name, act)


def test_all_run_at_once_and_what_they_say_has_their_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended = beside.run([job("a", EXIT_PASS, tmp_path, wait_s=60), job("b", EXIT_UNDECIDED, tmp_path, wait_s=60)])
    assert [(one.name, one.status, one.verdict) for one in ended] == [
        ("a", EXIT_PASS, "word: of a"), ("b", EXIT_UNDECIDED, "word: of b")]
    # Each saw the other at work.
    assert [(tmp_path / name).read_text() for name in "ab"] == ["2", "2"]
    lines = capfd.readouterr().out.splitlines()
    assert "a: verdict: word: of a" in lines and "b: verdict: word: of b" in lines


def test_where_one_is_refused_none_begins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended = beside.run([job("a", EXIT_PASS, tmp_path), job("b", EXIT_PASS, tmp_path, refuse=True)])
    assert [one.status for one in ended] == [EXIT_ERROR, EXIT_ERROR]
    assert list(tmp_path.iterdir()) == []
    said = capfd.readouterr().err
    assert "b: dmabuf-qual: refused" in said and "a: dmabuf-qual: another drive" in said


def test_one_that_dies_ends_no_other(tmp_path: Path) -> None:
    def die(ready: Ready) -> int:
        ready()
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    ended = beside.run([Job("x", die), job("a", EXIT_PASS, tmp_path)])
    assert [one.status for one in ended] == [EXIT_ERROR, EXIT_PASS]
    assert "signal" in ended[0].verdict


def test_a_fault_of_the_program_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def faulty(ready: Ready) -> int:
        ready()
        return {"status": 0}["state"]

    ended = beside.run([Job("x", faulty), job("a", EXIT_PASS, tmp_path)])
    assert [one.status for one in ended] == [EXIT_ERROR, EXIT_PASS]
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("x: ")]
    assert "x: Traceback" in said[0] and "x: KeyError: 'state'" in said
    assert "KeyError: 'state'" in ended[0].verdict


@pytest.mark.parametrize("stream", [1, 2])
def test_a_reader_that_goes_away_stops_no_drive(tmp_path: Path, stream: int) -> None:
    def talk(name: str) -> Job:
        def act(ready: Ready) -> int:
            ready()
            # More than a pipe holds: somebody has to read it, to the end.
            for _ in range(1 << 12):
                print("x" * 255, file=sys.stdout if stream == 1 else sys.stderr)
            (tmp_path / name).touch()
            return EXIT_PASS

        return Job(name, act)

    pid = os.fork()
    if not pid:
        status = EXIT_ERROR
        try:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, stream)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            status = beside.status(beside.run([talk("a"), talk("b")]))
        finally:
            # What is missing by then was not waited for.
            os._exit(status if len(list(tmp_path.iterdir())) == 2 else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_PASS


def test_a_fault_of_who_started_them_leaves_none_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(ready: Ready) -> int:
        ready()
        (tmp_path / "pid").write_text(str(os.getpid()))
        try:
            print("begun", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            (tmp_path / "kept").touch()
            raise
        return 0

    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(beside._Child, "take", broken)
    with pytest.raises(MemoryError):
        beside.run([Job("a", wait)])
    assert (tmp_path / "kept").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_drive_goes_on_alone_whatever_who_started_it_ignores(tmp_path: Path, how: signal.Signals) -> None:
    """It is killed, or one drive gets the signal by itself, where all signals are ignored: as below nohup, and in
    the background of a script."""
    def act(ready: Ready) -> int:
        ready()
        (tmp_path / f"{os.getpid()}.pid").touch()
        try:
            while True:
                time.sleep(0.01)
        finally:
            (tmp_path / f"{os.getpid()}.ended").touch()

    parent = os.fork()
    if not parent:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            beside.run([Job("a", act), Job("b", act)])
        finally:
            os._exit(0)
    end = time.monotonic() + 60
    while len(found := sorted(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    children = [int(one.stem) for one in found]
    assert len(children) == 2
    for pid in [parent] if how == signal.SIGKILL else children:
        os.kill(pid, how)
    while len(list(tmp_path.glob("*.ended"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    ended = len(list(tmp_path.glob("*.ended")))
    for pid in children if ended < 2 else []:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert ended == 2


def test_a_stop_stops_all_in_order(tmp_path: Path) -> None:
    def wait(name: str) -> Job:
        def act(ready: Ready) -> int:
            ready()
            try:
                (tmp_path / f"{name}.begins").touch()
                time.sleep(60)
            except KeyboardInterrupt:
                word = "kept"
                try:
                    time.sleep(0.5)
                except KeyboardInterrupt:
                    word = "stopped twice"
                (tmp_path / name).write_text(word)
                raise
            return 0

        return Job(name, act)

    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os._exit(beside.status(beside.run([wait("a"), wait("b")])))
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("*.begins"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    # As a terminal does it: to all of them.
    os.killpg(pid, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_INTERRUPTED
    assert [(tmp_path / name).read_text() for name in "ab"] == ["kept", "kept"]


@pytest.mark.parametrize(("statuses", "whole"), [
    ([0, 0], 0), ([0, 77], 77), ([0, 3], 3), ([3, 77], 77), ([77, 1, 2], 1), ([0, 2], 2), ([1, 130], 130)])
def test_the_worst_is_the_status_of_all(statuses: list[int], whole: int) -> None:
    assert beside.status([beside.Outcome(str(n), one, "") for n, one in enumerate(statuses)]) == whole


def test_the_table_has_a_line_for_each() -> None:
    text = beside.table([beside.Outcome("A", EXIT_PASS, "pass: fine"), beside.Outcome("LONG", EXIT_FAIL, "fail: bad")])
    assert text.splitlines() == ["A     pass: fine", "LONG  fail: bad"]


def test_nobody_else_measures_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FOLDERS", (tmp_path,))
    said: list[str] = []
    with beside.alone(["A", "B"], said.append):
        pid = os.fork()
        if not pid:
            waits: list[str] = []

            def say(text: str) -> None:
                waits.append(text)
                os._exit(7)

            with measuring.alone([measuring.LOCAL], "another", say):
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert said == []


def test_the_verdict_says_that_other_drives_ran_at_once() -> None:
    run = {"scale": cases.QUICK.as_words(), "requirements": NEEDS, "quick": True, "only": [], "emulated": False}
    assert not any("at once" in word for word in results.scope(run))
    assert "3 drives ran at once, of which this is one: A, B, C" in results.scope({**run, "among": ["A", "B", "C"]})
