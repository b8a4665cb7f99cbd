# SPDX-License-Identifier: GPL-2.0-only
"""What makes runs comparable, and what is judged: the memory and the drive's state among them."""

from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import fingerprint, nvme
from dmabuf_common.sysfs import System
from dmabuf_nightly import analyse, fio, health, judge, machine, plan, results, runner, store
from dmabuf_nightly.plan import Case
from made import KEY, PLAN, SERIES, Made
from test_fio import REPORT, job
from test_fio import judge as judge_run


def machine_with(root: Path, files: dict[str, str]) -> System:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return System(root)


def test_microcode_is_judged_and_does_not_make_another_machine(tmp_path: Path) -> None:
    system = machine_with(tmp_path, {"proc/cpuinfo": "model name\t: A\nmicrocode\t: 0x10\n"})
    found = fingerprint.collect("/dev/null", system=system)
    assert found["subject"]["CPU microcode"] == "0x10"
    assert "CPU microcode" not in found["key"] and found["key"]["CPU"] == "A"


def test_what_slows_a_machine_down_is_in_the_key(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu0/cpufreq"
    system = machine_with(tmp_path, {
        f"{cpu}/scaling_min_freq": "800000", f"{cpu}/scaling_max_freq": "3000000",
        "sys/module/pcie_aspm/parameters/policy": "[default] performance",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    })
    assert machine.more_key(system, health.Snapshot()) == {
        "CPU frequency": "800000 … 3000000 kHz", "ASPM": "default", "huge pages": "madvise",
    }
    assert set(machine.more_key(system, health.Snapshot())) < store.LATER


def test_wear_is_in_the_key_in_steps(tmp_path: Path) -> None:
    seen = health.Snapshot(shown={"drive percent_used": "37"})
    assert machine.more_key(System(tmp_path), seen) == {"drive wear": "30 % and more"}


def test_the_drive_says_how_full_it_is_and_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    page = bytearray(4096)
    page[0:8], page[16:24] = (1000).to_bytes(8, "little"), (250).to_bytes(8, "little")
    assert nvme.parse_used(bytes(page)) == 0.25
    assert nvme.parse_used(bytes(4096)) is None
    said = nvme.Health(0, 40, 5, 7_000_000_000, 0)
    monkeypatch.setattr(nvme, "health", lambda _: said)
    monkeypatch.setattr(nvme, "used", lambda *_: 0.25)
    snapshot = health.Snapshot()
    health._smart("nvme0", 1, snapshot)
    assert snapshot.shown["drive full"] == "25 %"
    assert snapshot.shown["drive written"] == "7000000000"


def test_what_was_written_since_the_night_before_is_shown(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for level, then, now in ((1000, 5e9, 6e9), (1000, 8.5e9, 9e9)):
        night = made.night(level)
        made.store.db.execute(
            "UPDATE run SET conditions = ? WHERE night = ?",
            (f'{{"drive written before": "{then:.0f}", "drive written after": "{now:.0f}"}}', night),
        )
    found = results.build(analyse.judge_night(made.store, made.store.night(2)))
    facts = {fact.name: fact.value for fact in found.environment if fact.role == "state"}
    assert facts["written since night 1"] == "2.5 GB"
    assert facts["written during the night"] == "0.5 GB"


def test_a_plan_can_demand_the_memory_and_the_route(tmp_path: Path) -> None:
    report = {**REPORT, "memory": "system", "route": "host"}
    for demands, said in (
        ({"memory": "peer"}, "the memory is system memory, and the plan wants peer memory"),
        ({"route": "switch"}, "the route is host, and the plan wants switch"),
        ({"memory": "system", "route": "host"}, ""),
    ):
        case = Case("c", Path(), runtime=10.0, **demands)  # type: ignore[arg-type]
        outcome = judge_run([job()], report, case=case)
        assert outcome.reasons[:1] == ([said] if said else [])
        assert outcome.status == (fio.INCONCLUSIVE if said else fio.VALID)
        assert (outcome.memory, outcome.route) == ("system", "host")
    two = {**report, "memory": "peer"}
    assert judge_run([job()], two).memory == "peer"
    (tmp_path / "j.fio").write_text("[j]\n")
    text = PLAN.format(plan="p") + 'memory = "peer"\nroute = "switch"\n'
    read = plan.parse(text, tmp_path).case("c")
    assert (read.memory, read.route) == ("peer", "switch")


class Ran:
    """Runs whose engine reported this memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        (folder / "j.fio").write_text("[global]\nioengine=null\nfilename=/dev/null\n[j]\n")
        self.made = Made(folder / "s.db")
        self.plan = plan.parse(PLAN.format(plan="p"), folder)
        self.memory = "peer"
        facts = {"key": KEY, "subject": {}, "state": {}}
        monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, health.Snapshot()))
        monkeypatch.setattr(fio, "run", lambda *_: (0, ""))
        monkeypatch.setattr(fio, "judge", self.outcome)

    def outcome(self, *_: Any) -> fio.Outcome:
        return fio.Outcome(metrics={"read_iops": self.made.runs(1000, 1)[0]}, memory=self.memory,
                           route="switch")

    def night(self) -> int:
        night = runner.new_night(self.made.store, self.plan, 1, "")
        runner.Execution(self.made.store, self.plan, night).phase(0)
        self.made.store.finish(night, "pass", "")
        return night


def test_other_memory_is_not_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver that puts the buffer into system memory measures something else."""
    ran = Ran(monkeypatch, tmp_path)
    nights = [ran.night() for _ in range(3)]
    assert ran.made.call("baseline", "pin", "--plan", "p", "--last", "3") == 0
    key = ran.made.store.facts(ran.made.store.runs(nights[0])[0].key)
    assert (key["memory"], key["route"]) == ("peer", "switch")
    ran.memory = "system"
    found = judge.judge(ran.made.store, ran.plan, ran.night()).findings[0]
    assert found.state == "inconclusive" and "memory differ" in found.text
    assert SERIES == found.question.id.series  # type: ignore[attr-defined]
