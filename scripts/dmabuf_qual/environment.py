# SPDX-License-Identifier: GPL-2.0-only
"""What a run must store to be compared with another: the machine's fingerprint, and the drive's."""

import json
from collections.abc import Iterable
from pathlib import Path

from dmabuf_common import fingerprint, pci
from dmabuf_common.sysfs import System

from . import VERSION, exporters, paths
from .drive import Drive

Facts = list[list[str]]  # name, value, role


def of_own(spec: str, integrity: str) -> str:
    """What stands for the build of an exporter of the user's: the hash of a plug-in's file, and what it says
    of itself, or why it does not."""
    said = paths.of_exporter(integrity, spec)
    file = exporters.plugin_file(spec)
    words = said.no.text if said.no else said.says if file else said.device
    return " ".join(filter(None, (fingerprint.file_hash(file), words)))


def facts(
    drive: Drive, engine: str, system: System, integrity: str = "", wanted: Iterable[str] = ()
) -> Facts:
    """Facts with their role. `integrity`: the program that compares bytes. `wanted`: the exporters."""
    found = fingerprint.collect(drive.path, engine, system=system, disk=drive.disk)
    key, subject, state = (found[role] for role in ("key", "subject", "state"))
    subject["dmabuf-qual"] = VERSION
    # Where it is not there, no case of it will be done.
    if compares := fingerprint.file_hash(integrity):
        subject["dmabuf-integrity"] = compares
    # Which exporters are asked for is in the key; their builds are judged, as the engine's is.
    for spec in filter(exporters.is_own, wanted):
        subject[f"exporter {spec}"] = of_own(spec, integrity)
    key["tested bytes"] = str(drive.bytes)
    key["multipath"] = "yes" if drive.multipath else "no"
    key["MDTS"] = "unknown" if drive.mdts is None else str(drive.mdts)
    # A drive that trained down is not what it was, and no case of a run looks at it again.
    key["PCIe link"] = state.pop("PCIe link", "unknown")
    group = system.real(f"{pci.DEVICES}/{drive.pci}/iommu_group") if drive.pci else ""
    state["PCI address"] = drive.pci or "none"
    state["IOMMU group"] = Path(group).name or "none"
    state["controller"] = drive.controller or "none"
    for kind, total in pci.aer_totals(system, drive.pci).items() if drive.pci else ():
        state[kind] = str(total)
    return [
        [name, value, role]
        for role, group_of in (("key", key), ("subject", subject), ("state", state))
        for name, value in group_of.items()
    ]


def comparability_key(known: Facts, more: dict[str, object]) -> str:
    """The hash of what must be equal for two runs to be compared."""
    parts = {name: value for name, value, role in known if role == "key"}
    words = {name: json.dumps(value, sort_keys=True, default=str) for name, value in more.items()}
    return fingerprint.digest({**parts, **words})
