# SPDX-License-Identifier: GPL-2.0-only
"""Where the memory was stands in every verdict and at the head of the report."""

from pathlib import Path
from typing import Any

from dmabuf_common.sysfs import System
from dmabuf_common.verdict import PASS
from dmabuf_qual import cases, requirements, results, rules, whereabouts

NEEDS = requirements.load(None)
BMC, GPU = "0000:02:00.0", "0000:41:00.0"


def tried(memory: str, works: bool = True) -> dict[str, Any]:
    return {"premapped": {"works": works, "name": "", "text": "", "facts": {"memory": memory} if works else {}},
            "bvec": {"works": False, "name": "REFUSED_KERNEL", "text": "no"}}


def run_of(paths: dict[str, Any], **devices: str) -> dict[str, Any]:
    return {"scale": cases.QUICK.as_words(), "requirements": NEEDS, "quick": True, "only": [], "emulated": False,
            "paths": paths, "devices": devices}


def words(run: dict[str, Any]) -> str:
    return results.summary([rules.Judged("a.b", PASS, "")], run).text


def test_system_memory_is_called_so() -> None:
    assert "; memory: udmabuf system memory; " in words(run_of({"udmabuf": tried("system")}))


def test_device_memory_is_called_by_its_address() -> None:
    spec = "drm:/dev/dri/card1"
    run = run_of({"udmabuf": tried("system"), spec: tried("peer")}, **{spec: GPU})
    assert f"memory: {spec} device memory of {GPU}; " in words(run)
    assert "NOT" not in words(run) and whereabouts.notes(run) == []
    unknown = run_of({"udmabuf": tried("system"), spec: tried("peer")})
    assert f"memory: {spec} device memory, PCI address not known" in words(unknown)


def test_a_framebuffer_in_the_machines_own_memory_is_no_device_memory() -> None:
    spec = "drm:/dev/dri/card1"
    run = run_of({"udmabuf": tried("system"), spec: tried("system")}, **{spec: BMC})
    assert f"memory: {spec} system memory, NOT device memory of {BMC}" in words(run)
    notes = whereabouts.notes(run)
    assert len(notes) == 1 and spec in notes[0] and 'memory = "peer"' in notes[0]
    assert "partly device memory" in words(run_of({"udmabuf": tried("system"), spec: tried("mixed")}))
    both = tried("system")
    both["bvec"] = tried("peer")["premapped"]
    assert "partly device memory" in words(run_of({"udmabuf": tried("system"), spec: both}))
    # Of a heap nothing else was meant.
    assert whereabouts.notes(run_of({"udmabuf": tried("system"), "heap": tried("system")})) == []
    assert "heap system memory" in words(run_of({"udmabuf": tried("system"), "heap": tried("system")}))


def case(memory: str | None, exporter: str, path: str = "premapped", kind: str = "integrity") -> dict[str, Any]:
    told = {} if memory is None else {"memory": memory}
    made = cases.integrity("read", exporter, path) if kind == "integrity" else cases.cell(exporter, path, "read", "4k", 1, 1)
    return {"id": made.id, "kind": kind, "requirement": made.requirement, "exporter": exporter, "path": path,
            "test": made.test, "params": made.params, "started": 0.0, "seconds": 1.0, "findings": [],
            **({"facts": told} if kind == "integrity" else {"report": told})}


def test_what_the_cases_had_counts_and_not_what_the_probe_had() -> None:
    spec = "drm:/dev/dri/card1"
    run = run_of({"udmabuf": tried("system"), spec: tried("peer")}, **{spec: GPU})

    def said(*records: dict[str, Any]) -> tuple[str, int]:
        return results.summary([rules.Judged("a.b", PASS, "")], run, records).text, len(whereabouts.notes(run, records))

    # The probe's 8 MiB were in the device; it was full when the cases made their buffers.
    for kind in ("integrity", "cell"):
        text, notes = said(case("system", spec, kind=kind), case("system", "udmabuf"))
        assert f"memory: {spec} system memory, NOT device memory of {GPU}; " in text and notes == 1
    text, notes = said(case("system", spec), case("peer", spec, "bvec"))
    assert f"{spec} partly device memory of {GPU}; " in text and notes == 1
    text, notes = said(case("peer", spec), case(None, spec), case("system", spec, "bounce"))
    assert f"{spec} device memory of {GPU}; " in text and notes == 0
    # What was not done has no memory yet; the probe's is all that is known.
    assert said(case(None, spec))[0] == said()[0]


def test_the_report_has_what_the_cases_had(tmp_path: Path) -> None:
    spec = "drm:/dev/dri/card1"
    run = {**run_of({"udmabuf": tried("system"), spec: tried("peer")}, **{spec: GPU}), "environment": [],
           "comparability_key": "k", "parts": [], "model": "M", "serial": "S", "started": "2026-01-01T00:00:00Z", "seed": 1}
    record = case("system", spec)
    document = results.document(tmp_path, run, {record["id"]: record}, NEEDS)
    assert "NOT device memory" in document.verdict.text and spec in document.notes[0]


def test_an_exporter_without_a_device_says_itself_which_it_took(tmp_path: Path) -> None:
    made = tried("peer")
    made["premapped"]["facts"]["pci"] = GPU
    assert whereabouts.addresses(System(tmp_path), {"cuda": made, "udmabuf": made}) == {"cuda": GPU, "udmabuf": ""}


def test_a_card_by_its_number_is_known_where_the_probe_does_not_say(tmp_path: Path) -> None:
    folder = tmp_path / f"sys/devices/pci0000:00/{BMC}/drm/card1"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(folder.parents[1])
    (tmp_path / "sys/class/drm").mkdir(parents=True)
    (tmp_path / "sys/class/drm/card1").symlink_to(folder)
    assert whereabouts.addresses(System(tmp_path), {"drm:1": tried("system")}) == {"drm:1": BMC}
    # What the exporter itself says counts more than what its name would mean.
    made = tried("peer")
    made["premapped"]["facts"]["pci"] = GPU
    assert whereabouts.addresses(System(tmp_path), {"drm:1": made}) == {"drm:1": GPU}


def test_what_is_not_known_is_said_to_be_so() -> None:
    assert "memory: not known" in words({**run_of({}), "paths": {}})
    spec = "cuda:0"
    assert f"{spec} not known, none of its datapaths works" in words(
        run_of({"udmabuf": tried("system"), spec: tried("", works=False)}))


def test_the_report_says_it_first(tmp_path: Path) -> None:
    spec = "drm:/dev/dri/card1"
    run = {**run_of({"udmabuf": tried("system"), spec: tried("system")}, **{spec: BMC}), "environment": [],
           "comparability_key": "k", "parts": [], "model": "M", "serial": "S", "started": "2026-01-01T00:00:00Z", "seed": 1}
    document = results.document(tmp_path, run, {}, NEEDS)
    assert spec in document.notes[0] and "the machine's own" in document.notes[0]
