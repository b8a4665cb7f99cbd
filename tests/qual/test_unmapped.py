# SPDX-License-Identifier: GPL-2.0-only
"""Requests that an IOMMU stops are named so, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import unmapped

DRIVE, PEER = "0000:03:00.0", "0000:04:00.0"
INTEL = ("DMAR: [DMA Write NO_PASID] Request device [03:00.0] fault addr 0xfe201000 [fault reason 0x05] "
         "PTE Write access is not set")
INTEL_7 = ("DMAR: [DMA Read NO_PASID] Request device [0000:03:00.0] fault addr 0xfe201000 [fault reason 0x06] "
           "PTE Read access is not set")
AMD = "nvme 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000c address=0xfe201000 flags=0x0020]"


@pytest.fixture
def system(tmp_path: Path) -> System:
    folder = tmp_path / "sys/bus/pci/devices" / PEER
    folder.mkdir(parents=True)
    none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    (folder / "resource").write_text(
        "0x00000000fe100000 0x00000000fe1000ff 0x0000000000040200\n" + none
        + "0x00000000fe200000 0x00000000fe2fffff 0x000000000014220c\n" + none)
    return System(tmp_path)


def record(*names: str, memory: str = "peer", exporter: str = "vfio:x") -> dict[str, Any]:
    return {"exporter": exporter, "findings": [{"name": name, "text": "t", "count": 7} for name in names],
            "facts": {"memory": memory, "pci": PEER, "route": "switch"}}


def names(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["findings"]]


@pytest.mark.parametrize("line", [INTEL, INTEL_7, AMD])
def test_a_fault_of_the_drive_at_the_peers_memory_is_the_first_name(system: System, line: str) -> None:
    found = unmapped.named(record("READ_NOT_LANDED"), [line, line], [], {DRIVE}, system)
    assert names(found) == ["IOMMU_UNMAPPED_PEER", "READ_NOT_LANDED"]
    assert found["findings"][0]["count"] == 2
    assert PEER in found["findings"][0]["text"] and line in found["findings"][0]["text"]


@pytest.mark.parametrize("line", [
    INTEL.replace("03:00.0", "05:00.0"),     # another device's
    INTEL_7.replace("0000:03", "0001:03"),   # in another domain
    INTEL.replace("fe201000", "fe301000"),   # other memory
    AMD.replace("0000:03:00.0", "0000:05:00.0"),
    "nvme nvme0: I/O tag 3 timeout",
])
def test_what_is_another_fault_changes_nothing(system: System, line: str) -> None:
    before = record("READ_NOT_LANDED")
    assert unmapped.named(before, [line], [], {DRIVE}, system) == before


def test_a_case_that_is_right_or_in_the_machines_memory_is_left_alone(system: System) -> None:
    for before in (record(), record("READ_NOT_LANDED", memory="system"), record("SIZE_CAP")):
        assert unmapped.named(before, [INTEL], [], {DRIVE}, system) == before
    error = {"exporter": "x", "findings": [], "error": "e"}
    assert unmapped.named(error, [INTEL], [], {DRIVE}, system) == error


def test_the_kernel_need_not_say_it_again(system: System) -> None:
    first = unmapped.named(record("READ_NOT_LANDED"), [INTEL], [], {DRIVE}, system)
    again = unmapped.named(record("WRITE_NOT_FETCHED"), [], [first], {DRIVE}, system)
    assert names(again) == ["IOMMU_UNMAPPED_PEER", "WRITE_NOT_FETCHED"]
    other = record("WRITE_NOT_FETCHED", exporter="cuda:0")
    assert unmapped.named(other, [], [first], {DRIVE}, system) == other
    right = record()
    assert unmapped.named(right, [], [first], {DRIVE}, system) == right
