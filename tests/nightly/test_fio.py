# SPDX-License-Identifier: GPL-2.0-only
"""What a run of fio is worth: valid, failed, or neither good nor bad."""

import json
from pathlib import Path
from typing import Any

import pytest
from dmabuf_nightly import fio, health, machine
from dmabuf_nightly.errors import NightlyError
from dmabuf_nightly.jobfile import Job
from dmabuf_nightly.plan import Case, Host

OURS = Job("", {"ioengine": "external:/x/libdmabuf.so", "bs": "4k", "iodepth": "8"})
CASE = Case("c", Path(), runtime=10.0)
REPORT: dict[str, Any] = {
    "job": "j", "datapath": "premapped", "exporter": "udmabuf", "proven": True, "proof": "counted",
    "issued": {"reads": 1000, "writes": 0},
}


def job(**changes: Any) -> dict[str, Any]:
    side = {"total_ios": 1000, "iops": 100.0, "bw_bytes": 409600, "io_bytes": 1 << 30,
            "runtime": 10_000, "clat_ns": {"bins": {"5000": 500, "7000": 500}}}
    none: dict[str, Any] = {"total_ios": 0, "runtime": 0}
    return {"jobname": "j", "groupid": 0, "error": 0, "read": side, "write": none, "usr_cpu": 10.0,
            "sys_cpu": 20.0, "job_runtime": 10_000, **changes}


def judge(jobs: list[dict[str, Any]], report: Any = REPORT, status: int = 0,
          case: Case = CASE) -> fio.Outcome:
    text = json.dumps({"fio version": "fio-3", "jobs": jobs})
    lines = None if report is None else json.dumps(report)
    return fio.judge(status, f"note: x\n{text}\n", "", lines, OURS, case)


def test_a_proven_run_is_valid() -> None:
    outcome = judge([job()])
    assert (outcome.status, outcome.reasons) == (fio.VALID, [])
    assert outcome.metrics["read_iops"] == 100
    assert outcome.metrics["cpu_per_gib"] == pytest.approx(3.0)  # 30 % of 10 s for 1 GiB
    assert outcome.metrics["read_clat_p50"] == 5000
    assert "read_clat_p99" not in outcome.metrics  # 10 samples beyond it
    assert (outcome.datapath, outcome.block_bytes, outcome.depth) == ("premapped", 4096, 8)


@pytest.mark.parametrize(
    ("jobs", "report", "status", "case", "wanted", "said"),
    [
        ([job()], None, 0, CASE, "inconclusive", "left no report"),
        ([job()], {**REPORT, "proven": False}, 0, CASE, "inconclusive", "not proven"),
        ([job()], {**REPORT, "issued": {"reads": 9, "writes": 0}}, 0, CASE, "inconclusive", "counted 9"),
        ([job(error=71)], {**REPORT, "proven": False}, 1, CASE, "inconclusive", "not proven"),
        ([job(error=5)], REPORT, 1, CASE, "failed", "Input/output error"),
        ([job(error=524)], REPORT, 1, CASE, "failed", "Not supported, the kernel's own errno 524 (error 524)"),
        ([job()], REPORT, 1, CASE, "failed", "status 1"),
        ([job()], REPORT, 0, Case("c", Path(), runtime=20.0), "inconclusive", "10 s instead of 20 s"),
        ([job()], REPORT, 0, Case("c", Path(), runtime=10.0, datapath="bvec"), "inconclusive",
         "premapped ran, and the plan wants bvec"),
        ([job(), job(groupid=1)], REPORT, 0, CASE, "failed", "one after the other"),
        ([], REPORT, 0, CASE, "failed", "no job"),
    ],
)
def test_what_is_wrong_is_named(jobs: list[dict[str, Any]], report: Any, status: int, case: Case,
                                wanted: str, said: str) -> None:
    outcome = judge(jobs, report, status, case)
    assert outcome.status == wanted
    assert said in outcome.reasons[0]


def test_output_that_is_no_json_is_refused() -> None:
    for text in ("", "fio: bad option", '{"jobs": [', "[]"):
        with pytest.raises(NightlyError):
            fio.parse_output(text)


def test_trouble_during_a_run_is_a_reason() -> None:
    before = health.Snapshot({"throttle": 1, "aer_dev_fatal x": 0}, {"tainted": "0"})
    assert health.reasons(before, before, ["nvme nvme0: 2/0/0 default/read/poll queues"]) == []
    after = health.Snapshot(
        {"throttle": 3, "aer_dev_fatal x": 1},
        {"tainted": "512", "link speed": "8 of 16", "link width": "4 of 4"},
    )
    found = "\n".join(health.reasons(before, after, ["WARNING: CPU: 0 PID: 1 at x.c:1"]))
    for said in ("the CPU throttled (2 more)", "PCIe errors (aer_dev_fatal x)", "tainted during",
                 "link speed is 8 and could be 16", "the kernel complained: WARNING"):
        assert said in found
    assert "link width is" not in found


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [({"media_errors": 3}, {}, "media_errors could be read before the run, and not after it"),
     ({}, {"media_errors": 3}, "media_errors could not be read before the run, and could after it"),
     ({"aer_dev_fatal x": 5}, {"aer_dev_fatal x": 1}, "aer_dev_fatal x fell from 5 to 1")],
)
def test_a_counter_that_vanishes_or_falls_is_a_reason(
    then: dict[str, int], now: dict[str, int], said: str
) -> None:
    found = health.reasons(health.Snapshot(then), health.Snapshot(now), [])
    assert len(found) == 1 and found[0].startswith(said)


SMART = "the drive's SMART log (needs root)"
LOG = "the kernel's log (/dev/kmsg needs root)"
SMART_SEEN = {"critical_warning": "0"}


@pytest.mark.parametrize(
    ("target", "steady", "unseen", "readable", "said"),
    [("/dev/nvme0n1", {}, [SMART], True, [SMART]),
     ("/dev/nvme0n1", SMART_SEEN, [], False, [LOG]),
     ("/dev/nvme0n1", SMART_SEEN, ["the CPU's throttle counters"], True, []),
     ("/tmp/file", {}, [SMART], False, []),  # a file on somebody's own drive
     ("/dev/loop0", {}, [], False, [])],
)
def test_a_drive_that_cannot_be_watched_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, target: str, steady: dict[str, str], unseen: list[str],
    readable: bool, said: list[str],
) -> None:
    class Log:
        def messages(self) -> list[str]:
            return []

        def close(self) -> None:
            pass

    facts = {"key": {"CPU": "x"}, "subject": {}, "state": {}}
    seen = health.Snapshot({}, steady, {}, unseen)
    log = Log()
    log.readable = readable  # type: ignore[attr-defined]
    monkeypatch.setattr(machine, "KernelLog", lambda: log)
    monkeypatch.setattr(machine, "look", lambda *_: machine.Look(facts, seen))
    watch = machine.Around(Host(), target, "").done()
    assert watch.reasons == [f"{what} could not be seen" for what in said]


MODULE = {"reads": 1000, "writes": 0, "read_bytes": 1 << 30, "write_bytes": 0, "commands": 2000}


def test_a_run_tells_what_a_report_shows_of_it() -> None:
    outcome = judge([job(), job(usr_cpu=60.0)], [])
    assert outcome.cpu_percent == 80  # of the busier one
    outcome = judge([job()], {**REPORT, "module": MODULE})
    assert outcome.commands == {"count": 2000, "requests": 1000, "bytes": 1 << 30}
    job_file = Job("", {**OURS.values, "readwrite": "randread"})
    text = json.dumps({"fio version": "fio-3", "jobs": [job()]})
    assert fio.judge(0, text, "", json.dumps(REPORT), job_file, CASE).load == "randread"


@pytest.mark.parametrize(
    "changes",
    [{"module": None}, {"module": {**MODULE}, "datapath": "bvec"}, {"module": {**MODULE}, "datapath": "registered"}, {}],
)
def test_what_are_no_commands_of_the_drive_is_not_taken_for_them(changes: dict[str, Any]) -> None:
    """bvec's are calls of the block layer, which makes of each as many commands as it likes."""
    assert judge([job()], {**REPORT, **changes}).commands is None
