# SPDX-License-Identifier: GPL-2.0-only
"""A run that goes on mixes nothing; one among others begins when all begin."""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from runs import DRIVE, FACTS, FULL, Held, Machine, NEEDS, start, stop_after

from dmabuf_common import measuring
from dmabuf_common.drive_guard import Demand
from dmabuf_common.verdict import INCONCLUSIVE, PASS
from dmabuf_qual import cli, judge, requirements, suite
from dmabuf_qual.drive import Drive
from dmabuf_qual.errors import QualError
from dmabuf_qual.preflight import Check
from dmabuf_qual.tools import Tools


@pytest.mark.parametrize("name", [fact[0] for fact in FACTS if fact[2] != "state"])
def test_a_run_does_not_go_on_with_something_else(machine: Machine, name: str) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.during = lambda _case: None
    for fact in machine.facts:
        if fact[0] == name:
            fact[1] = "another"
    with pytest.raises(QualError, match=f"its {name} was .* and is 'another'"):
        start(machine, resume=True)
    assert machine.done == []


def test_a_run_does_not_go_on_without_what_was_there(machine: Machine) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.facts = [fact for fact in machine.facts if fact[0] != "module srcversion"]
    with pytest.raises(QualError, match="its module srcversion was 'A' and is None"):
        start(machine, resume=True)


def test_the_state_may_change_between_the_parts_of_a_run(machine: Machine) -> None:
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine)
    machine.during = lambda _case: None
    machine.facts[-1][1] = "4"
    before = 4
    start(machine, resume=True)
    assert machine.done[0].startswith("integrity/") and len(machine.done) > before


def test_whether_swiotlb_copied_is_told_of_all_parts(machine: Machine) -> None:
    good = start(machine, **FULL)["path.proven"]
    assert good.status == PASS and "could not be seen" not in good.text
    store = suite.Store(machine.folder / "q")
    run = store.load()
    records = dict(store.records)
    key = next(key for key in records if key.startswith("perf/"))
    records[key] = {**records[key], "bounces_seen": False}
    judged = next(v for v in judge.judge(records, run, NEEDS) if v.id == "path.proven")
    assert "could not be seen" in judged.text


def test_what_preflight_found_goes_with_each_part(machine: Machine) -> None:
    slow = Check("LINK_DOWNTRAINED", "warn", "x4 of x8", "reseat it")
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, preflight=[slow])
    machine.during = lambda _case: None
    well = Check("link", "ok", "x8")
    judged = start(machine, resume=True, preflight=[well])["machine.ready"]
    assert judged.status == INCONCLUSIVE and "x4 of x8" in judged.text


def test_two_runs_on_one_machine_do_not_measure_each_other(machine: Machine) -> None:
    order: list[str] = []

    def first() -> None:
        with measuring.alone([measuring.LOCAL], "another", order.append):
            began.set()
            end = time.monotonic() + 60
            while not any("another" in text for text in said) and time.monotonic() < end:
                time.sleep(0.01)
            order.append(f"the other ends before {len(machine.done)} cases")

    said: list[str] = []
    began = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    began.wait(60)
    start(machine, said=said)
    thread.join()
    assert order == ["the other ends before 0 cases"]
    assert "another" in said[0] and "waits" in said[0]


def test_a_run_among_others_does_not_wait_and_is_comparable_with_its_like(machine: Machine) -> None:
    with measuring.alone([measuring.LOCAL], "dmabuf-qual of 2 drives", lambda _text: None):
        start(machine, among=("S", "T"))
    run = suite.Store(machine.folder / "q").load()
    assert run["among"] == ["S", "T"] and len(machine.done) > 3
    with pytest.raises(QualError, match="its among was"):
        start(machine, resume=True)
    machine.folder = machine.folder / "alone"
    machine.folder.mkdir()
    start(machine)
    other = suite.Store(machine.folder / "q").load()
    assert "among" not in other and other["comparability_key"] != run["comparability_key"]


class Others:
    """What stands for the other drives of a run: it is asked whether they are ready."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.asked = machine, False

    def ready(self) -> None:
        self.asked = True
        raise QualError("another drive was refused")

    def qualify(self, *words: str, drive: Drive = DRIVE, needs: requirements.Requirements = NEEDS) -> None:
        """As the program does it, up to the first case."""
        patch, exists = self.machine.patch, Path.exists
        patch.setattr(cli.execute, "need_root", lambda: None)
        patch.setattr(cli.tools, "find", lambda: Tools("i", "e", self.machine.folder))
        patch.setattr(cli, "_examine", lambda *_: [])
        patch.setattr(cli.drive, "health", lambda _drive: None)
        patch.setattr(cli.Path, "exists", lambda path: str(path) == "/dev/dmabuf_rw" or exists(path))
        args = cli.parser().parse_args(["run", "--erase", "--quick", "--output", "o", *words, "/dev/nvme9n1"])
        target = cli.Target("/dev/nvme9n1", Demand("S"), self.machine.folder / "q", "S", ("S", "T"))
        cli._qualify(args, needs, drive, Held(), target, self.ready)  # type: ignore[arg-type]


def stopped_among(machine: Machine) -> None:
    """A run of two drives that was stopped; its folder."""
    machine.during = stop_after(machine, 2)
    with pytest.raises(KeyboardInterrupt):
        start(machine, among=("S", "T"))
    machine.during = lambda _case: None
    machine.done.clear()


def test_what_is_against_a_folder_is_found_before_any_drive_begins(machine: Machine) -> None:
    others = Others(machine)
    with pytest.raises(QualError, match="smaller than"):
        others.qualify(drive=dataclasses.replace(DRIVE, bytes=1 << 20))
    stopped_among(machine)
    with pytest.raises(QualError, match="say --resume"):
        others.qualify()
    with pytest.raises(QualError, match="its requirements was"):
        others.qualify("--resume", needs={**NEEDS, "most_moves": 7})
    holder = suite.Store(machine.folder / "q")
    holder.lock()
    with pytest.raises(QualError, match="another dmabuf-qual"):
        others.qualify("--resume")
    assert not others.asked
    holder.release()


def test_a_drive_that_waits_for_the_others_has_written_nothing(machine: Machine) -> None:
    others = Others(machine)
    with pytest.raises(QualError, match="another drive was refused"):
        others.qualify()
    assert others.asked and machine.done == []
    # So that the same command line begins once the other one is mended.
    assert not (machine.folder / "q" / "run.json").exists()


def test_a_part_that_never_began_is_none(machine: Machine) -> None:
    stopped_among(machine)
    before = (machine.folder / "q" / "run.json").read_text()
    with pytest.raises(QualError, match="another drive was refused"):
        Others(machine).qualify("--resume")
    assert (machine.folder / "q" / "run.json").read_text() == before


def test_where_the_memory_is_is_said_as_the_run_begins(machine: Machine) -> None:
    facts = {"memory": "system", "exporter_device": "/dev/dri/card1"}
    machine.patch.setattr(suite, "probe", lambda _t, _d, _e, path: {
        "works": path == "premapped", "name": "", "text": "", "facts": facts})
    device = machine.folder / "root/sys/devices/pci0000:00/0000:02:00.0"
    device.mkdir(parents=True)
    (machine.folder / "root/sys/class/drm/card1").mkdir(parents=True)
    (machine.folder / "root/sys/class/drm/card1/device").symlink_to(device)
    said: list[str] = []
    start(machine, said=said, exporters=["udmabuf", "drm:/dev/dri/card1"])
    assert any("NOT device memory of 0000:02:00.0" in text for text in said)
    run = suite.Store(machine.folder / "q").load()
    assert run["devices"]["drm:/dev/dri/card1"] == "0000:02:00.0"


SPEC = "drm:/dev/dri/card1"


class Card:
    """What stands for an exporter of a device's memory: where it lies, and which device it is."""

    def __init__(self, machine: Machine) -> None:
        self.memory, self.device, self.works = "peer", "0000:41:00.0", True
        machine.patch.setattr(suite, "probe", lambda _t, _d, spec, path: self.probe(spec, path))
        machine.patch.setattr(suite.whereabouts, "address", lambda _s, spec, _f: self.device if spec == SPEC else "")

    def probe(self, spec: str, path: str) -> dict[str, Any]:
        if path != "premapped" or (spec == SPEC and not self.works):
            return {"works": False, "name": "NOT_AVAILABLE", "text": "no"}
        return {"works": True, "name": "", "text": "", "facts": {"memory": self.memory if spec == SPEC else "system"}}


@pytest.mark.parametrize(("change", "says"), [
    ({"memory": "system"}, "its memory of drm:/dev/dri/card1 was .*peer.* and is .*system"),
    ({"device": "0000:02:00.0"}, "its device of drm:/dev/dri/card1 was '0000:41:00.0' and is '0000:02:00.0'"),
])
def test_a_run_does_not_go_on_with_another_memory(machine: Machine, change: dict[str, str], says: str) -> None:
    card = Card(machine)
    both = ["udmabuf", SPEC]
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, exporters=both)
    machine.during = lambda _case: None
    # After the next boot card1 is the card of the management controller.
    machine.boot = "boot-2"
    for name, value in change.items():
        setattr(card, name, value)
    with pytest.raises(QualError, match=says):
        start(machine, resume=True, exporters=both)
    assert machine.done == []
    card.memory, card.device = "peer", "0000:41:00.0"
    start(machine, resume=True, exporters=both)
    assert machine.done


def test_an_exporter_that_does_not_work_any_more_is_left_to_its_cases(machine: Machine) -> None:
    card = Card(machine)
    machine.during = stop_after(machine, 5)
    with pytest.raises(KeyboardInterrupt):
        start(machine, exporters=["udmabuf", SPEC])
    machine.during = lambda _case: None
    card.works = False
    start(machine, resume=True, exporters=["udmabuf", SPEC])
    assert any(SPEC.replace("/", "_") in name for name in machine.done)
