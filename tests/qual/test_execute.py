# SPDX-License-Identifier: GPL-2.0-only
"""A case's record says what came of it: what hung, what could not be done, what was not bounced."""

import dataclasses
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dmabuf_common import process
from dmabuf_common.process import Ended
from dmabuf_common.sysfs import System
from dmabuf_qual import cases, execute, requirements, suite
from dmabuf_qual.drive import Drive
from dmabuf_qual.execute import Bench
from dmabuf_qual.tools import Tools

BYTES = 1 << 30
DRIVE = Drive("/dev/nvme9n1", "nvme9n1", "nvme9n1", "nvme9", "0000:09:00.0", "M", "S", "F", BYTES, 512, 0,
              False, 131072)
CELL = cases.cell("drm:/dev/dri/card1", "premapped", "randread", "4k", 32, 1)
READ = cases.integrity("read", "drm:/dev/dri/card1", "premapped")
PREPARE = cases.Case("steady/precondition", "precondition", "performance.steady", "udmabuf", "premapped",
                     "precondition", {"DEPTH": "32"})


class Stand:
    """A bench whose programs answer as they are told to."""

    def __init__(self, folder: Path) -> None:
        self.argv: list[str] = []
        self.limit = 0.0
        self.env: dict[str, str] = {}
        self.ended = Ended(0, "", "", 1.0)
        self.files: dict[str, str] = {}
        self.copied: list[int | None] = [None]
        made = Bench.__new__(Bench)
        made.drive, made.tools = DRIVE, Tools("integrity", "external:/x", folder)
        made.needs, made.scale = requirements.load(None), cases.Scale(1 << 20, 60, 1, True)
        made.seed, made.keep, made.tick = 7, folder, lambda: None
        made.system = System(folder)
        made.bounces = SimpleNamespace(count=self.count)  # type: ignore[assignment]
        identity = SimpleNamespace(wwid="w", serial="S")
        # What keeps the drive to itself has tests of its own.
        vars(made)["guard"] = SimpleNamespace(check=lambda: None, child_path=DRIVE.path, pass_fds=(),
                                              descriptor=3, identity=identity)
        self.bench = made

    def count(self) -> int | None:
        return self.copied.pop(0) if len(self.copied) > 1 else self.copied[0]

    def run(self, argv: list[str], limit: float, _tick: Any = None, env: Any = None, **_: Any) -> Ended:
        self.argv, self.env, self.limit = list(argv), env or {}, limit
        for word in argv:
            for option, text in self.files.items():
                if word.startswith(f"--{option}="):
                    Path(word.partition("=")[2]).write_text(text)
        return self.ended

    def says(self, **said: Any) -> None:
        """What dmabuf-integrity prints."""
        status = 2 if "error" in said else 77 if {"not_applicable", "missing"} & said.keys() else 0
        status = 1 if said.get("findings") else status
        self.ended = Ended(status, json.dumps({"findings": [], "facts": {}, "compared_bytes": 1, "transfers": 1, **said}),
                           "", 1.0)

    def measures(self, way: str = "read", ios: int = 60_000, written: int = 0) -> None:
        """What fio and the engine report."""
        none = {"total_ios": 0, "iops": 0.0, "io_bytes": 0, "bw_bytes": 0, "clat_ns": {"mean": 0.0}}
        side = {"total_ios": ios, "iops": ios / 60, "io_bytes": written or ios * 4096, "bw_bytes": 1 << 20,
                "clat_ns": {"mean": 2e6}} if ios else none
        job = {"read": none, "write": none, "usr_cpu": 10.0, "sys_cpu": 20.0, "job_runtime": 60_000, way: side}
        issued = {"reads": 0, "writes": 0, f"{way}s": ios}
        line = {"proven": True, "datapath": "premapped", "proof": "p", "issued": issued, "retries": 0,
                "module": None, "map_ns": 5_000_000}
        self.files = {"output": "fio: a note\n" + json.dumps({"jobs": [job]}), "dmabuf_report": json.dumps(line) + "\n"}


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand(tmp_path)
    monkeypatch.setattr(process, "run", made.run)
    return made


def names(record: dict[str, Any]) -> list[str]:
    return [one["name"] for one in record["findings"]]


def after(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def test_a_case_says_where_and_with_what_it_works(stand: Stand) -> None:
    stand.says()
    record = stand.bench.run(READ)
    assert names(record) == [] and record["compared_bytes"] == 1
    assert after(stand.argv, "--exporter") == "drm"
    assert after(stand.argv, "--exporter-device") == "/dev/dri/card1"
    assert after(stand.argv, "--datapath") == "premapped"
    assert after(stand.argv, "--max-command") == "131072"
    assert after(stand.argv, "--offset") == "0"
    stand.bench.run(cases.integrity("lay", "", ""))
    assert after(stand.argv, "--offset") == str(cases.RETENTION_OFFSET)
    assert "--exporter" not in stand.argv and "--datapath" not in stand.argv
    stand.bench.run(cases.integrity("size", "udmabuf", "bvec", buffer="99"))
    assert after(stand.argv, "--buffer") == "99" and "--exporter-device" not in stand.argv


def test_memory_that_the_cpu_reads_word_by_word_is_waited_for_longer(stand: Stand) -> None:
    stand.says()
    waited = {}
    for exporter in ("drm:/dev/dri/card1", "vfio:0000:01:00.0"):
        stand.bench.run(cases.integrity("load", exporter, "premapped"))
        waited[exporter] = stand.limit - execute.SLACK_S
    assert waited["vfio:0000:01:00.0"] == pytest.approx(10 * waited["drm:/dev/dri/card1"])


@pytest.mark.parametrize(("said", "key"), [("not_applicable", "skip"), ("missing", "missing")])
def test_what_does_not_apply_and_what_is_missing_are_told_apart(stand: Stand, said: str, key: str) -> None:
    stand.says(**{said: "the reason"})
    record = stand.bench.run(cases.integrity("liar", "", "premapped"))
    assert record[key] == "the reason"
    assert {"skip", "missing"} & record.keys() == {key}


def test_what_hangs_has_its_name(stand: Stand) -> None:
    stand.ended = Ended(-9, "", "", 1.0, hung=True, blocked="nvme_wait")
    for case, name in ((READ, "IO_HANG"), (CELL, "IO_HANG"),
                       (cases.integrity("revoke", "", "premapped"), "INVALIDATE_HANG")):
        record = stand.bench.run(case)
        assert names(record) == [name] and "nvme_wait" in record["findings"][0]["text"]


def test_what_could_not_be_done_is_no_finding_and_a_refusal_is_one(stand: Stand) -> None:
    stand.ended = Ended(2, "", "no such file", 1.0)
    for case in (READ, CELL):
        record = stand.bench.run(case)
        assert names(record) == [] and "no such file" in record["error"]
    stand.says(error="cannot open /dev/x: (ENOENT)")
    assert "cannot open" in stand.bench.run(READ)["error"]
    stand.says(error="no (MAP, EIO)")
    assert names(stand.bench.run(READ)) == ["REFUSED_MAP"]
    stand.ended = Ended(1, "", "no (ATTACH, EIO)", 1.0)
    assert names(stand.bench.run(CELL)) == ["REFUSED_ATTACH"]


@pytest.mark.parametrize(
    ("status", "said"),
    [(-11, {}), (1, {}), (2, {}), (77, {}), (3, {}), (0, {"error": "x"}), (0, {"not_applicable": "x"}),
     (0, {"findings": [{"name": "STALE_DATA", "text": "x", "count": 1}]})],
)
def test_a_status_that_does_not_go_with_what_was_said_is_an_error(
    stand: Stand, status: int, said: dict[str, Any]
) -> None:
    stand.says(**said)
    stand.ended = dataclasses.replace(stand.ended, status=status)
    record = stand.bench.run(READ)
    assert names(record) == [] and f"status {status}" in record["error"]


def test_what_is_no_object_is_an_error(stand: Stand) -> None:
    stand.ended = Ended(0, "[]", "", 1.0)
    assert "nothing of use" in stand.bench.run(READ)["error"]


def probed(stand: Stand, ended: Ended) -> str:
    stand.ended = ended
    said = suite.probe(stand.bench.tools, stand.bench.guard, "udmabuf", "bvec")
    assert said["works"] == (said["name"] == "")
    return str(said["name"])


def test_a_probe_that_hangs_or_breaks_is_not_a_datapath_that_is_not_there(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run", lambda *_a, **_k: stand.ended)

    def said(error: str, number: int) -> Ended:
        return Ended(2, json.dumps({"case": "probe", "error": error, "errno": number}), "", 1.0)

    assert probed(stand, Ended(0, '{"facts": {}, "findings": []}', "", 1.0)) == ""
    assert probed(stand, Ended(-9, "", "", 60.0, hung=True)) == "IO_HANG"
    assert probed(stand, Ended(-11, "", "", 1.0)) == "PROBE_FAILED"
    assert probed(stand, Ended(-11, '{"facts": {}, "findings": []}', "", 1.0)) == "PROBE_FAILED"
    assert probed(stand, said("no (MAP, EIO)", errno.EIO)) == "REFUSED_MAP"
    assert probed(stand, said("out of memory", errno.ENOMEM)) == "PROBE_FAILED"
    assert probed(stand, said("this kernel has none", errno.EOPNOTSUPP)) == "NOT_AVAILABLE"


def test_what_swiotlb_copied_during_a_case_is_a_finding(stand: Stand) -> None:
    stand.says()
    for copied, found, seen in (([5, 5], [], True), ([5, 8], ["BOUNCED"], True), ([None], [], False)):
        stand.copied = list(copied)  # type: ignore[arg-type]
        record = stand.bench.run(READ)
        assert (names(record), record["bounces_seen"]) == (found, seen)
    stand.says(not_applicable="x")
    stand.copied = [5, 8]
    assert names(stand.bench.run(READ)) == []


def test_a_measurement_has_its_figures(stand: Stand) -> None:
    stand.measures()
    record = stand.bench.run(CELL)
    assert names(record) == [] and stand.env["RUNTIME"] == "60"
    assert (record["runtime_s"], record["size"]) == (60.0, "100%")
    figures = record["figures"]
    assert figures["read_iops"] == 1000 and figures["read_mib_s"] == 1 and figures["read_mean_us"] == 2000
    assert figures["map_ms"] == 5 and "write_iops" not in figures
    # 30 % of a CPU for 60 s, for 60 000 blocks.
    assert figures["cpu_s_per_gib"] == pytest.approx(18 / (60_000 * 4096 / (1 << 30)))


def test_a_measurement_that_did_nothing_says_why_if_fio_does(stand: Stand) -> None:
    stand.measures(ios=0)
    record = stand.bench.run(CELL)
    assert names(record) == ["NOTHING_DONE"] and "error" not in record
    assert set(record["figures"]) == {"map_ms"}
    stand.ended = Ended(1, "", "the drive is gone", 1.0)
    record = stand.bench.run(CELL)
    assert names(record) == [] and "the drive is gone" in record["error"]


def test_preconditioning_has_to_write_the_whole_drive_twice(stand: Stand) -> None:
    stand.measures("write", written=2 * BYTES)
    assert names(stand.bench.run(PREPARE)) == []
    stand.measures("write", written=2 * BYTES - 131072)
    assert names(stand.bench.run(PREPARE)) == ["ENDED_EARLY"]
    # Of a part of the drive, that part.
    stand.bench.scale = cases.Scale(1, 60, 1, True, "256m")
    stand.measures("write", written=512 << 20)
    assert names(stand.bench.run(PREPARE)) == []


def test_a_direction_that_chance_may_leave_out_is_not_missed(stand: Stand) -> None:
    assert execute.LEAST_EXPECTED == 20
    for ios, found in ((399, []), (400, ["NOTHING_DONE"])):
        stand.measures(ios=ios)
        mixed = cases.Case("steady/round-01/95-4k", "pts", "performance.steady", "udmabuf", "premapped",
                           "pts-iops", {"READS": "95", "BS": "4k", "DEPTH": "32"})
        assert names(stand.bench.run(mixed)) == found
