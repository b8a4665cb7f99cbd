# SPDX-License-Identifier: GPL-2.0-only
"""A program is given its time, and nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dmabuf_common import process

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LONG_S = 60.0


def sh(script: str, limit_s: float = LONG_S, **more: object) -> process.Ended:
    return process.run(["sh", "-c", script], limit_s, **more)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Whether a process ends soon."""
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_status_and_what_was_said_are_kept(tmp_path: Path) -> None:
    ended = sh('echo out; echo err >&2; echo "$WORD $PWD"; exit 3', env={"WORD": "w"}, cwd=tmp_path)
    assert (ended.status, ended.out, ended.err) == (3, f"out\nw {tmp_path}\n", "err\n")
    assert not ended.hung
    assert sh("kill -TERM $$").status == -signal.SIGTERM
    assert sh("echo a; echo b >&2; echo c", merge=True).out == "a\nb\nc\n"


def test_only_the_descriptors_that_are_passed_are_inherited(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("what is held")
    with open(tmp_path / "held", encoding="utf-8") as file:
        script = f"cat /proc/self/fd/{file.fileno()}"
        assert sh(script).status != 0
        assert sh(script, pass_fds=(file.fileno(),)).out == "what is held"


def test_nothing_is_read_from_the_terminal() -> None:
    assert sh("cat").out == ""


def test_what_hangs_is_killed_with_all_that_it_started() -> None:
    ended = sh("trap '' TERM; sleep 1000 & echo $!; wait", 0.5)
    assert ended.hung and ended.status == -signal.SIGKILL
    assert gone(int(ended.out))


def test_a_tick_comes_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TICK_S", 0.01)
    ticks: list[int] = []
    assert sh("sleep 0.5", tick=lambda: ticks.append(1)).status == 0
    assert ticks


def test_an_interruption_ends_it_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "TICK_S", 0.01)
    script = f"trap 'echo ended > {tmp_path}/word; exit' TERM; echo > {tmp_path}/ready; " \
             "while :; do sleep 0.01; done"

    def stop() -> None:
        if (tmp_path / "ready").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sh(script, tick=stop)
    assert (tmp_path / "word").read_text() == "ended\n"


def test_an_interruption_while_it_starts_is_not_lost(tmp_path: Path) -> None:
    code = """
import os, signal
from dmabuf_common import process
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    process.run(["sh", "-c", "echo $$ > pid; exec sleep 1000"], 1000)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, timeout=LONG_S, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
                          check=True)
    assert done.stdout == "interrupted\n"
    pid = tmp_path / "pid"
    assert not pid.exists() or not pid.read_text() or gone(int(pid.read_text()))


def test_a_program_takes_the_signals_that_end_it() -> None:
    mask = process.run(["grep", "^SigBlk:", "/proc/self/status"], LONG_S).out.split()[1]
    ending = sum(1 << n - 1 for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert not int(mask, 16) & ending


def test_it_ends_when_this_program_is_killed(tmp_path: Path) -> None:
    code = "from dmabuf_common import process; process.run(['sh', '-c', 'echo $$ > pid; exec sleep 1000'], 1000)"
    parent = subprocess.Popen(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}
    )
    end = time.monotonic() + LONG_S
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def test_the_output_of_a_program_that_fails_is_nothing() -> None:
    assert process.output(["echo", "a"]) == "a"
    assert process.output(["sh", "-c", "echo a; exit 1"]) == ""
    assert process.output(["sh", "-c", "echo a; exec sleep 1000"], 0.2) == ""
    assert process.output(["/nothing/there"]) == ""


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        process.run(["/nothing/there"], 1)


# fio's jobs lead sessions of their own, each.
START = ["sleep 1000 & echo $!", "setsid sh -c 'echo $$; exec sleep 1000' & while [ ! -s /proc/self/fd/1 ]; do :; done"]


@pytest.mark.parametrize("start", START)
def test_what_a_killed_program_started_does_not_go_on(start: str) -> None:
    """The kernel kills fio alone when memory is short, and not its jobs, which write."""
    ended = sh(f"{start}; kill -KILL $$")
    assert ended.status == -signal.SIGKILL
    assert gone(int(ended.out))


@pytest.mark.parametrize("start", START)
def test_what_hangs_leaves_no_job_behind(start: str) -> None:
    ended = sh(f"{start}; wait", 2)
    assert ended.hung and ended.status == -signal.SIGKILL
    assert gone(int(ended.out))


def test_what_a_program_started_that_ended_in_order_goes_on() -> None:
    ended = sh("sleep 1000 & echo $!; exit 3")
    assert ended.status == 3
    state = Path(f"/proc/{ended.out.strip()}/stat").read_text(encoding="utf-8")
    assert "(sleep)" in state or "(sh)" in state
    os.kill(int(ended.out), signal.SIGKILL)


def test_what_an_interrupted_program_started_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where it does not hear what asks it to end."""
    monkeypatch.setattr(process, "TICK_S", 0.01)
    deaf = tmp_path / "deaf"

    def interrupt() -> None:
        if deaf.exists() and deaf.read_text():
            raise KeyboardInterrupt

    (tmp_path / "script").write_text(f"trap '' TERM; echo $$ > {deaf}; while :; do sleep 0.1; done")
    with pytest.raises(KeyboardInterrupt):
        sh(f"sh {tmp_path}/script & trap 'exit 0' TERM; wait", tick=interrupt)
    assert gone(int(deaf.read_text()))


def test_a_child_whose_parent_was_killed_before_it_could_ask_for_a_signal_ends() -> None:
    there, said = os.pipe()
    if not (parent := os.fork()):
        call = process._in_child(())  # pylint: disable=protected-access
        mine = os.getpid()
        if not os.fork():
            while os.getppid() == mine:
                time.sleep(0.01)
            call()
            os.write(said, b"goes on")
        os._exit(0)
    os.close(said)
    os.waitpid(parent, 0)
    assert not os.read(there, 7)
    os.close(there)
