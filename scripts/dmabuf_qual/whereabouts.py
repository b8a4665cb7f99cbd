# SPDX-License-Identifier: GPL-2.0-only
"""Where the memory is that a run is about: the machine's own, or that of which device. A run that meant
the one and had the other must not look like what was meant."""

from collections.abc import Iterable
from typing import Any

from dmabuf_common.sysfs import System

from . import cases
from .exporters import is_own, of_devices, place
from .store import Record


def address(system: System, spec: str, facts: dict[str, Any]) -> str:
    """The PCI address of an exporter's device; "" where it is not known, or nobody means one."""
    if not (of_devices(spec) or is_own(spec)):
        return ""
    return place(system, spec, str(facts.get("pci") or ""), str(facts.get("exporter_device", "")))


def addresses(system: System, paths: dict[str, Any]) -> dict[str, str]:
    """Of all exporters, by what their probes said."""
    found = {}
    for spec, tried in paths.items():
        facts: dict[str, Any] = next((what["facts"] for what in tried.values() if what.get("facts")), {})
        found[spec] = address(system, spec, facts)
    return found


def memory_of(record: Record) -> Any:
    """Where a case's memory was by its addresses; None when it does not say."""
    facts = record.get("facts") or {}
    return facts.get("memory") or (record.get("report") or {}).get("memory")


def probed(tried: dict[str, Any]) -> list[str]:
    """Where an exporter's memory was when its datapaths were tried."""
    return sorted({str(what["facts"].get("memory")) for what in tried.values() if what["works"] and what.get("facts")})


def _seen(spec: str, records: Iterable[Record]) -> set[str]:
    """Where it was in the cases that say so. What the CPU copies is not the exporter's."""
    mine = [r for r in records if r["exporter"] == spec and r["path"] not in cases.CONTROLS]
    return {str(memory) for memory in map(memory_of, mine) if memory is not None}


def _of(spec: str, tried: dict[str, Any], where: str, seen: set[str]) -> str:
    """One exporter's, in words: what its cases had, or what was tried had where there are none yet."""
    kinds = seen or set(probed(tried))
    if not seen and not any(what["works"] for what in tried.values()):
        return f"{spec} not known, none of its datapaths works"
    if kinds == {"peer"}:
        return f"{spec} device memory of {where}" if where else f"{spec} device memory, PCI address not known"
    if kinds == {"system"}:
        meant = f", NOT device memory{f' of {where}' if where else ''}" if of_devices(spec) else ""
        return f"{spec} system memory{meant}"
    if kinds & {"mixed", "peer"}:
        return f"{spec} partly device memory{f' of {where}' if where else ''}"
    return f"{spec} not known"


def words(run: dict[str, Any], records: Iterable[Record] = ()) -> str:
    """For the verdict's sentence: of the exporters that were asked for; the control where it is alone."""
    paths, every = run.get("paths") or {}, list(records)
    specs = [spec for spec in paths if spec != cases.CONTROL] or list(paths)
    if not specs:
        return "memory: not known"
    known = run.get("devices", {})
    return "memory: " + ", ".join(_of(spec, paths[spec], known.get(spec, ""), _seen(spec, every)) for spec in specs)


def notes(run: dict[str, Any], records: Iterable[Record] = ()) -> list[str]:
    """For the head of the report: whose memory was not what was meant."""
    paths, every = run.get("paths") or {}, list(records)
    known = run.get("devices", {})
    texts = [_of(spec, tried, known.get(spec, ""), _seen(spec, every)) for spec, tried in paths.items()
             if of_devices(spec)]
    wrong = [text for text in texts if "system memory" in text or "partly device" in text]
    return [f"The memory was the machine's own where a device's was meant: {text}. This run says nothing about a "
            'device\'s memory; with memory = "peer" in the requirements it fails.' for text in wrong]


def another(run: dict[str, Any], paths: dict[str, Any], devices: dict[str, str]) -> tuple[str, Any, Any] | None:
    """What of the memory is not what it was when the run began: its name, what it was, what it is. An
    exporter that does not work now says nothing of it."""
    for spec, tried in (run.get("paths") or {}).items():
        was, now = probed(tried), probed(paths.get(spec, {}))
        if was and now and was != now:
            return f"memory of {spec}", was, now
        was_at, is_at = run.get("devices", {}).get(spec, ""), devices.get(spec, "")
        if was_at and is_at and was_at != is_at:
            return f"device of {spec}", was_at, is_at
    return None
