# SPDX-License-Identifier: GPL-2.0-only
"""Peer requests that an IOMMU stops: IOMMU_UNMAPPED_PEER.

Where drive and peer are below one PCIe switch whose access control does not redirect, the kernel gives
the drive bus addresses, and the switch is to pass the requests on by itself. A switch that sends them
up all the same, as one that QEMU makes up does, hands the IOMMU addresses that it does not know: they
end there, while the drive may report success. The kernel's log has the fault, by the drive's address.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from dmabuf_common import pci
from dmabuf_common.sysfs import System

NAME = "IOMMU_UNMAPPED_PEER"
# What requests that end in the IOMMU look like to who compares the bytes.
LOOKS = frozenset({"READ_NOT_LANDED", "WRITE_NOT_FETCHED", "WRITE_NOT_LANDED", "DATA_CORRUPTED",
                   "FOREIGN_DATA_UNDER_LOAD", "MULTI_SEGMENT_MISADDRESSED", "STALE_DATA", "IO_ERROR"})

# Intel names the requester, before Linux 7 without its domain; AMD and the others as any device's message.
_INTEL = re.compile(r"DMAR: .*Request device \[(?P<who>(?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\] "
                    r"fault addr (?:0x)?(?P<at>[0-9a-f]+)")
_OTHER = re.compile(r"(?P<who>[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): .*IO_PAGE_FAULT.*"
                    r"address=(?:0x)?(?P<at>[0-9a-f]+)")


def faults(lines: Iterable[str], drives: Collection[str], peer: str, system: System) -> list[str]:
    """The faults of a drive, by the addresses of all its controllers, at addresses of the peer's BARs."""
    short = {address.partition(":")[2] for address in drives}
    found = []
    for line in lines:
        match = _INTEL.search(line) or _OTHER.search(line)
        if match and match["who"] in {*short, *drives} and pci.holds(system, peer, int(match["at"], 16)):
            found.append(line)
    return found


def _peer(record: dict[str, Any]) -> str:
    """The PCI device whose memory a case used; "" for the machine's own memory."""
    facts = record.get("facts") or {}
    return str(facts.get("pci", "")) if facts.get("memory") in ("peer", "mixed") else ""


def named(
    record: dict[str, Any], lines: Iterable[str], earlier: Iterable[dict[str, Any]],
    drives: Collection[str], system: System,
) -> dict[str, Any]:
    """The record of a case, with what is wrong named where an IOMMU stopped the drive's requests.

    `lines`: what the kernel said during the case. It says the same only ten times in five seconds:
    what an `earlier` case of the same exporter and memory was found to be is this, too.
    """
    peer = _peer(record)
    if not peer or not LOOKS & {one["name"] for one in record["findings"]}:
        return record
    seen = faults(lines, drives, peer, system)
    before = any(one["exporter"] == record["exporter"] and _peer(one) == peer
                 and any(finding["name"] == NAME for finding in one["findings"]) for one in earlier)
    if not seen and not before:
        return record
    said = seen[0].strip() if seen else "as in an earlier case"
    text = (f"an IOMMU stopped the drive's requests to the memory of {peer} ({said}): they were sent with bus "
            "addresses, for the switch above both to pass on, and it sent them up; let its access control "
            "redirect (pci=config_acs=…), or use a machine whose switch does not send them up")
    finding = {"name": NAME, "text": text, "count": max(len(seen), 1)}
    return {**record, "findings": [finding, *record["findings"]]}
