# SPDX-License-Identifier: GPL-2.0-only
"""A drive that is in use is not overwritten, with the reason; nor one that was not named. A run holds
it, hands it to its children, and ends when it goes away."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
# pylint: disable=wrong-import-position
import images  # noqa: E402
from drives import Machine  # noqa: E402

from dmabuf_common import process  # noqa: E402
from dmabuf_common.drive_guard import Demand, Gone, Guard, Refused  # noqa: E402
from dmabuf_common.verdict import INCONCLUSIVE, PASS  # noqa: E402
from dmabuf_qual import cases, cli, drive, environment, execute, requirements, results  # noqa: E402
from dmabuf_qual import safety, suite  # noqa: E402
from dmabuf_qual.bounces import Bounces  # noqa: E402
from dmabuf_qual.cases import Case  # noqa: E402
from dmabuf_qual.errors import QualError  # noqa: E402
from dmabuf_qual.tools import Tools  # noqa: E402

MIB = 1 << 20
S1 = Demand("S1")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "root")
    made.drive()
    made.partition("nvme0n1", 1, "259:1", MIB, 8 * MIB)
    made.put("/sys/block/nvme0n1/device/firmware_rev", "F")
    return made


@pytest.fixture(autouse=True)
def root_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(exist_ok=True)


def find(machine: Machine, name: str = "/dev/nvme0n1") -> drive.Drive:
    return drive.find(name, machine.system)


def take(machine: Machine, erase: bool = True, wanted: Demand = S1, consent: tuple[str, ...] = (),
         name: str = "/dev/nvme0n1") -> Guard:
    return safety.claim(find(machine, name), erase, wanted, consent, machine.system, machine.devices)


@pytest.mark.parametrize("was", [{"serial": "S0"}, {"bytes": 4096}])
def test_a_drive_that_was_exchanged_under_its_name_is_refused(machine: Machine, was: dict[str, Any]) -> None:
    """What was read of the one is not said, nor done, of the other."""
    before = replace(find(machine), **was)
    with pytest.raises(Refused, match="was another drive a moment ago"):
        safety.claim(before, True, S1, (), machine.system, machine.devices)
    take(machine).close()


def test_a_free_drive_that_was_named_is_held(machine: Machine) -> None:
    with take(machine, wanted=Demand("S1 ")) as guard:
        guard.check()
        with pytest.raises(Refused, match="claimed by something"):
            take(machine)


@pytest.mark.parametrize(
    ("erase", "wanted", "says"),
    [(False, S1, "say --erase"), (True, Demand(), "give its serial number, S1"),
     (True, Demand("S2"), "its serial number is S1, not S2"),
     (True, Demand("S1", "eui.1"), "its wwid is"), (True, Demand("S1", nsid="2"), "namespace id is 1, not 2")],
)
def test_a_drive_that_was_not_named_is_refused(
    machine: Machine, erase: bool, wanted: Demand, says: str
) -> None:
    with pytest.raises(Refused, match=says):
        take(machine, erase, wanted)


def test_the_same_namespace_by_its_other_path_is_refused(machine: Machine) -> None:
    machine.drive("nvme1n1", "259:4")
    machine.put("/proc/self/mountinfo", "22 1 259:4 / /data rw - ext4 none rw")
    says = "/dev/nvme1n1, the same namespace as /dev/nvme0n1, is mounted at /data"
    with pytest.raises(Refused, match=says):
        take(machine)
    assert any(says in reason for reason in safety.reasons(find(machine), machine.system, machine.devices))


@pytest.mark.parametrize(
    ("number", "says"),
    [("259:0", "/dev/nvme0n1 is mounted at /data"), ("259:1", "/dev/nvme0n1p1 is mounted at /data")],
)
def test_a_drive_in_use_is_refused_with_the_reason(machine: Machine, number: str, says: str) -> None:
    machine.put("/proc/self/mountinfo", f"22 1 {number} / /data rw - ext4 none rw")
    with pytest.raises(Refused, match=says):
        take(machine)
    found = safety.reasons(find(machine), machine.system, machine.devices)
    assert found == [f"{says}: unmount it first"]


def test_what_is_signed_is_refused_until_it_is_given_up_by_name(machine: Machine) -> None:
    node = machine.root / "dev/nvme0n1"
    images.ext4(node)
    with pytest.raises(Refused, match="holds ext4.*--overwrite-signature ext4"):
        take(machine)
    assert "holds ext4" in safety.reasons(find(machine), machine.system, machine.devices)[0]
    with pytest.raises(Refused, match="holds ext4"):
        take(machine, consent=("xfs",))
    take(machine, consent=("ext4",)).close()


def test_of_several_drives_the_advice_names_the_one(machine: Machine) -> None:
    images.lvm(machine.root / "dev/nvme0n1")
    with pytest.raises(Refused) as caught:
        safety.claim(find(machine), True, S1, (), machine.system, machine.devices, "S1")
    assert str(caught.value).endswith("if all that may be lost: --overwrite-signature S1=LVM2_member")
    with pytest.raises(Refused, match="--overwrite-signature S1=xfs names what is not there"):
        safety.claim(find(machine), True, S1, ("LVM2_member", "xfs"), machine.system, machine.devices, "S1")
    # What the advice says is what the command line takes.
    args = cli.parser().parse_args(["run", "--erase", "--serial", "S1", "--serial", "S2", "--output", "q",
                                    *str(caught.value).split()[-2:], "/dev/nvme0n1", "/dev/nvme1n1"])
    assert [one.consent for one in cli.drives_of(args)] == [("LVM2_member",), ()]


def test_a_name_that_came_to_lead_elsewhere_is_refused(machine: Machine) -> None:
    found = replace(find(machine), name="nvme7n1")
    with pytest.raises(Refused, match="led to /dev/nvme7n1 a moment ago"):
        safety.claim(found, True, S1, (), machine.system, machine.devices)
    take(machine).close()


def test_the_options_are_there() -> None:
    args = cli.parser().parse_args(
        ["run", "--erase", "--serial", "S", "--wwid", "W", "--nsid", "1", "--overwrite-signature", "ext4",
         "--overwrite-signature", "gpt", "--output", "q", "/dev/nvme0n1"]
    )
    assert args.overwrite_signature == ["ext4", "gpt"]
    assert [one.demand for one in cli.drives_of(args)] == [Demand("S", "W", "1")]


# A whole run


INTEGRITY = """#!/bin/sh
# Says whether what it was given is the drive, and which way it came.
for word in "$@"; do [ "$before" = --device-fd ] && device=$word; before=$word; done
echo "$*" >> "$CALLS"
[ "$device" ] || { echo '{"error": "it came by name"}'; exit 2; }
[ "$(cat "/proc/self/fd/$device" | head -c 5)" = drive ] || { echo '{"error": "it is no drive"}'; exit 2; }
[ "$1" = probe ] && { echo '{"findings": [], "facts": {"memory": "ram", "route": "host"}}'; exit; }
[ "$1" = fault ] && { echo '{"error": "EIO"}'; exit 2; }
echo '{"findings": [], "facts": {}, "compared_bytes": 1, "transfers": 1}'
"""


class Run:
    """What a suite needs, with a program that stands for dmabuf-integrity."""

    def __init__(self, machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.folder = machine, folder
        images.put(machine.root / "dev/nvme0n1", 0, b"drive")
        integrity = folder / "integrity"
        integrity.write_text(INTEGRITY)
        integrity.chmod(0o755)
        monkeypatch.setenv("CALLS", str(folder / "calls"))
        monkeypatch.setattr(environment, "facts", lambda *_: [])
        self.tools = Tools(str(integrity), "e", folder)
        self.needs = requirements.load(None)

    def bench(self, guard: Guard) -> execute.Bench:
        return execute.Bench(find(self.machine), self.tools, self.needs, cases.QUICK, 1, self.folder,
                             lambda: None, self.machine.system, Bounces(""), guard)

    def suite(self, guard: Guard, resume: bool = False) -> suite.Suite:
        found = replace(find(self.machine), bytes=1 << 40)
        request = suite.Request(found, self.folder / "q", ["udmabuf"], self.needs, cases.QUICK, True,
                                resume, guard, ["integrity/*"])
        return suite.Suite(request, self.tools, self.machine.system)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def run(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(machine, tmp_path, monkeypatch)


def case(test: str = "read") -> Case:
    return Case(f"integrity/udmabuf/premapped/{test}", "integrity", "integrity.read", "udmabuf", "premapped",
                test)


def test_children_get_the_descriptor_and_no_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with take(run.machine) as guard:
        record = run.bench(guard).run(case())
        assert (record["findings"], "error" in record) == ([], False), record
        assert suite.probe(run.tools, guard, "udmabuf", "premapped")["works"] is True
        words = f" --device-fd {guard.descriptor} "
        assert all(words in line for line in run.calls())
        seen: list[tuple[list[str], dict[str, Any]]] = []

        def fake(argv: list[str], _limit: float, *more: Any, **named: Any) -> process.Ended:
            seen.append((argv, {"env": more[-1], **named}))
            return process.Ended(1, "", "no", 0.1)

        monkeypatch.setattr(process, "run", fake)
        cell = Case("perf/x", "cell", "performance.paths", "udmabuf", "premapped", "datapath-cell",
                    {"BS": "4k", "RW": "read", "DEPTH": "1"})
        run.bench(guard).run(cell)
        assert seen[0][1]["env"]["DEV"] == guard.child_path
        assert seen[0][1]["pass_fds"] == guard.pass_fds


def test_each_case_begins_with_a_look_at_the_drive(run: Run) -> None:
    with take(run.machine) as guard:
        bench = run.bench(guard)
        bench.run(case())
        run.machine.put("/proc/self/mountinfo", "22 1 259:1 / /data rw - ext4 none rw")
        before = len(run.calls())
        with pytest.raises(Gone, match="/dev/nvme0n1p1 is mounted at /data"):
            bench.run(case())
        assert len(run.calls()) == before


def test_a_case_that_failed_as_the_drive_went_away_is_no_finding(run: Run) -> None:
    def pull(argv: list[str], limit: float, *more: Any, **named: Any) -> process.Ended:
        run.machine.pull("nvme0n1")
        return real(argv, limit, *more, **named)

    real = process.run
    with take(run.machine) as guard, pytest.MonkeyPatch.context() as patch:
        bench = run.bench(guard)
        patch.setattr(process, "run", pull)
        with pytest.raises(Gone, match="the drive went away"):
            bench.run(case("fault"))


def test_a_drive_that_goes_away_ends_the_run_and_it_is_inconclusive(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = execute.Bench.run

    def some(bench: execute.Bench, one: Case) -> dict[str, Any]:
        if len(done) == 2:
            run.machine.pull("nvme0n1")
        record = real(bench, one)
        done.append(one.id)
        return record

    monkeypatch.setattr(execute.Bench, "run", some)
    with take(run.machine) as guard:
        verdicts = run.suite(guard).execute()
    stored = json.loads((run.folder / "q/run.json").read_text())
    assert len(done) == 2
    assert "/dev/nvme0n1 is not used any more: the drive went away" in stored["ended"]
    assert "finished" not in stored
    whole = results.summary(verdicts, stored)
    assert whole.status == INCONCLUSIVE
    assert whole.text.startswith("/dev/nvme0n1 is not used any more: the drive went away")
    good = [replace(one, status=PASS) for one in verdicts]
    assert results.summary(good, stored).status == INCONCLUSIVE
    assert results.summary(good, {**stored, "ended": "", "quick": False}).status == PASS


def test_only_the_same_drive_goes_on(run: Run) -> None:
    with take(run.machine) as guard:
        first = run.suite(guard)
        first.execute()
        first.store.release()
    run.machine.put("/sys/block/nvme0n1/wwid", "eui.0025385b11c0ffef")
    with take(run.machine) as guard:
        with pytest.raises(QualError, match="its identity was .*c0ffee.* and is .*c0ffef"):
            run.suite(guard, resume=True).execute()


def test_the_descriptor_goes_with_the_run(run: Run) -> None:
    with take(run.machine) as guard:
        number = guard.descriptor
    with pytest.raises(OSError):
        os.fstat(number)
