# SPDX-License-Identifier: GPL-2.0-only
"""Two programs that measure on one machine know of each other, whatever stores they have."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
from dmabuf_common import measuring
from dmabuf_nightly import plan, runner

HOSTS = "".join(
    f'[hosts.{name}]\naddress = "{address}"\nfingerprint = ["x"]\n'
    for name, address in (("a", "10.0.0.1,8765"), ("b", "10.0.0.2"))
)
CASE = '[[cases]]\nname = "c"\njob = "j.fio"\n'
HEAD = 'version = 1\nname = "p"\n'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(measuring, "FOLDERS", (tmp_path / "none", tmp_path))
    return tmp_path


def test_the_second_one_waits(place: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    begun = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        begun.set()

    def second() -> None:
        with measuring.alone(["local"], "the second", say):
            order.append("second")

    with measuring.alone(["local"], "the first", said.append):
        assert not said
        thread = threading.Thread(target=second)
        thread.start()
        assert begun.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    assert len(said) == 1 and "the first" in said[0] and "waits" in said[0]
    assert len(list(place.iterdir())) == 1


def test_other_machines_do_not_wait() -> None:
    with measuring.alone(["local", "10.0.0.1"], "one", pytest.fail):
        with measuring.alone(["10.0.0.2"], "two", pytest.fail):
            pass


def test_a_link_is_not_followed(place: Path) -> None:
    """The folder may be everybody's."""
    with measuring.alone(["local"], "x", pytest.fail):
        lock = next(place.iterdir())
    lock.unlink()
    lock.symlink_to(place / "elsewhere")
    with pytest.raises(OSError):
        with measuring.alone(["local"], "x", pytest.fail):
            pass
    assert not (place / "elsewhere").exists()


def test_a_fifo_in_its_place_does_not_make_anybody_wait(place: Path) -> None:
    """The folder may be everybody's; nobody may write to what somebody else put there since."""
    with measuring.alone(["local"], "x", pytest.fail):
        lock = next(place.iterdir())
    lock.unlink()
    os.mkfifo(lock)
    # Else a fault of the program would hang here.
    reader = os.open(lock, os.O_RDWR)
    with pytest.raises(OSError, match="is no regular file: remove it"):
        with measuring.alone(["local"], "x", pytest.fail):
            pass
    os.close(reader)


def test_a_file_that_took_its_place_keeps_its_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def swap(fd: int, operation: int) -> None:
        flock(fd, operation)
        lock = next(place.iterdir())
        lock.rename(place / "taken")
        lock.write_text("somebody's")

    monkeypatch.setattr(fcntl, "flock", swap)
    with measuring.alone(["local"], "x", pytest.fail):
        assert [one.read_text() for one in place.iterdir() if one.name != "taken"] == ["somebody's"]


def test_a_folder_that_may_not_be_used_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measuring._open

    def only_here(path: Path) -> int:
        if path.parent != place:
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(measuring, "FOLDERS", (place / "root", place))
    monkeypatch.setattr(measuring, "_open", only_here)
    with measuring.alone(["local"], "x", pytest.fail):
        assert len(list(place.iterdir())) == 1
    monkeypatch.setattr(measuring, "FOLDERS", (place / "root",))
    with pytest.raises(PermissionError):
        with measuring.alone(["local"], "x", pytest.fail):
            pass


def test_a_plan_measures_on_these_machines(tmp_path: Path) -> None:
    (tmp_path / "j.fio").write_text("[j]\n")
    assert runner.machines(plan.parse(HEAD + CASE, tmp_path)) == ["local"]
    made = plan.parse(HEAD + HOSTS + CASE, tmp_path)
    assert runner.machines(made) == ["10.0.0.1", "10.0.0.2"]
    one = plan.parse(HEAD + HOSTS + CASE + 'hosts = ["b"]\n', tmp_path)
    assert runner.machines(one) == ["10.0.0.2"]
