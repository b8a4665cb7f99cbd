# SPDX-License-Identifier: GPL-2.0-only
"""What the drive's health, the kernel's log and preflight say against a run."""

import dataclasses

import pytest
from judged import found, record, verdict

from dmabuf_common.nvme import Health
from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS
from dmabuf_qual import rules

HEALTH = dataclasses.asdict(Health(critical=0, temperature_c=40, used_percent=1, written_bytes=1, media_errors=0,
                                   spare_threshold=10))


def test_laid_down_and_not_looked_at_is_inconclusive() -> None:
    assert verdict("integrity.drive", record("lay")).status == INCONCLUSIVE
    assert verdict("integrity.drive", record("lay"), record("check")).status == PASS
    bad = record("lay", findings=[found("IO_ERROR")])
    assert verdict("integrity.drive", bad).names == ["IO_ERROR"]


def test_health_and_log_need_to_have_been_looked_at() -> None:
    log = {"lines": [], "complete": True, "newest": 7}
    state = {"health_before": HEALTH, "health_after": HEALTH, "parts": [{"log": log}]}
    assert verdict("drive.health", **state).status == PASS
    for name in ("health_before", "health_after"):
        assert verdict("drive.health", **{**state, name: None}).status == INCONCLUSIVE
    assert verdict("drive.log", **state).status == PASS
    worse = {**state, "health_after": {**HEALTH, "media_errors": 1}}
    assert verdict("drive.health", **worse).names == ["MEDIA_ERRORS"]
    hot = {**state, "health_after": {**HEALTH, "critical": 2}}
    assert verdict("drive.health", **hot).status == INCONCLUSIVE
    bad = {**log, "lines": ["nvme0: I/O timeout"]}
    assert verdict("drive.log", parts=[{"log": bad}]).status == FAIL
    assert verdict("drive.log", record("read", kernel_log=bad), **state).names == ["KERNEL_LOG"]
    assert verdict("drive.log", record("read", kernel_log={**log, "complete": False}), **state).status == INCONCLUSIVE
    assert verdict("drive.log", record("read", kernel_log=None), **state).status == INCONCLUSIVE
    assert verdict("drive.log", parts=[{}, {"log": log}]).status == INCONCLUSIVE


@pytest.mark.parametrize("name", ["media_errors", "unsafe_shutdowns", "num_err_log_entries"])
def test_a_counter_that_fell_or_is_missing_is_inconclusive(name: str) -> None:
    judged = health({name: 9}, {name: 0})
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and name in judged.text
    without = {key: value for key, value in HEALTH.items() if key != name}
    for before, after in ((without, without), (HEALTH, without), (without, HEALTH)):
        judged = verdict("drive.health", health_before=before, health_after=after)
        assert judged.status == INCONCLUSIVE and name in judged.text


def health(before: dict[str, int], after: dict[str, int]) -> rules.Judged:
    return verdict("drive.health", health_before={**HEALTH, **before}, health_after={**HEALTH, **after})


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [({}, {"critical": 4}, "CRITICAL_WARNING"), ({"critical": 8}, {}, "CRITICAL_WARNING"),
     ({"critical": 6}, {"critical": 2}, "CRITICAL_WARNING"),
     ({"used_percent": 91}, {"used_percent": 91}, "WORN"),
     ({"media_errors": 3}, {"media_errors": 4}, "MEDIA_ERRORS"),
     ({}, {"spare_percent": 9}, "SPARE_LOW"), ({"spare_percent": 9}, {"spare_percent": 9}, "SPARE_LOW")],
)
def test_what_is_wrong_with_a_drive_has_its_name(
    before: dict[str, int], after: dict[str, int], name: str
) -> None:
    judged = health(before, after)
    assert (judged.status, judged.names) == (FAIL, [name])
    assert name in judged.text and judged.remedy


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [({"critical": 2}, {}, "too hot"), ({}, {"warning_temp_time": 1}, "too hot"),
     ({}, {"critical_comp_time": 1}, "too hot"), ({}, {"thm_temp1_trans_count": 1}, "throttled"),
     ({}, {"thm_temp2_trans_count": 1}, "throttled"), ({}, {"unsafe_shutdowns": 1}, "lost power"),
     ({}, {"num_err_log_entries": 2}, "2 errors")],
)
def test_what_makes_a_drives_figures_doubtful_is_inconclusive(
    before: dict[str, int], after: dict[str, int], says: str
) -> None:
    judged = health(before, after)
    assert (judged.status, judged.names) == (INCONCLUSIVE, [])
    assert says in judged.text and judged.remedy


def test_what_was_there_before_the_run_is_not_the_runs() -> None:
    old = {"media_errors": 5, "unsafe_shutdowns": 9, "warning_temp_time": 7, "thm_temp1_trans_count": 3,
           "num_err_log_entries": 100, "used_percent": 90, "spare_percent": 10}
    assert health(old, old).status == PASS


def check(name: str, level: str) -> dict[str, str]:
    return {"name": name, "level": level, "text": "a text", "remedy": "a remedy"}


def test_what_preflight_found_is_judged() -> None:
    good = {"preflight": [check("link", "ok"), check("emulated", "warn")]}
    assert verdict("machine.ready", parts=[good]).status == PASS
    assert verdict("machine.ready").status == INCONCLUSIVE
    assert verdict("machine.ready", parts=[good, {}]).status == INCONCLUSIVE
    slow = {"preflight": [check("LINK_DOWNTRAINED", "warn")]}
    judged = verdict("machine.ready", parts=[good, slow])
    assert judged.status == INCONCLUSIVE and "LINK_DOWNTRAINED" in judged.text
    bounced = {"preflight": [check("LINK_DOWNTRAINED", "warn"), check("BOUNCED", "stop")]}
    judged = verdict("machine.ready", parts=[bounced, good])
    assert (judged.status, judged.names) == (FAIL, ["BOUNCED"])
    # One name may stand for several things.
    both = {"preflight": [check("exporter", "stop"), check("exporter", "ok")]}
    assert verdict("machine.ready", parts=[both]).names == ["exporter"]


def test_spare_that_was_used_during_the_run_is_doubtful() -> None:
    judged = health({"spare_percent": 100}, {"spare_percent": 99})
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and "100 % to 99 %" in judged.text and judged.remedy
    assert health({"spare_percent": 99}, {"spare_percent": 99}).status == PASS


def test_what_the_drive_said_between_two_cases_counts_although_it_is_over() -> None:
    def between(critical: int, temperature: int) -> rules.Judged:
        hot = {**record("read"), "health": {"critical": critical, "temperature_c": temperature}}
        return verdict("drive.health", record("write"), hot, health_before=HEALTH, health_after=HEALTH)

    fine = between(0, 71)
    assert fine.status == PASS and ("hottest", "71", "°C") in fine.evidence
    judged = between(2, 90)
    assert (judged.status, judged.names) == (INCONCLUSIVE, []) and "too hot" in judged.text
    assert "integrity/udmabuf/premapped/read" in judged.text
    judged = between(4, 40)
    assert (judged.status, judged.names) == (FAIL, ["CRITICAL_WARNING"])
    assert "integrity/udmabuf/premapped/read" in judged.text
