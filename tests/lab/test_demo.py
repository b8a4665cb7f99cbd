# SPDX-License-Identifier: GPL-2.0-only
"""The demo accepts a report only when it proves what was asked for."""

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GUEST = Path(__file__).resolve().parents[2] / "scripts/dmabuf_lab/guest"

JOB = {"read": {"total_ios": 100}, "write": {"total_ios": 0}}
MODULE = {"reads": 100, "writes": 0, "commands": 100, "registrations": 1}
REPORT: dict[str, Any] = {
    "datapath": "premapped",
    "proven": True,
    "proof": "a sentence",
    "issued": {"reads": 100, "writes": 0},
    "module": MODULE,
    "copies": {"to_buffer_bytes": 0, "from_buffer_bytes": 0},
}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_guest", GUEST / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_guest"] = module
    spec.loader.exec_module(module)
    return module


def report(datapath: str, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REPORT), "datapath": datapath, **changes}


def test_a_complete_report_is_a_proof(demo: ModuleType) -> None:
    lane = demo.Lane("drm", "premapped")
    assert "100 NVMe commands" in demo.check_report(lane, JOB, report("premapped"))
    lane = demo.Lane("drm", "registered")
    assert "100 fixed-buffer" in demo.check_report(lane, JOB, report("registered"))


@pytest.mark.parametrize(
    ("lane", "changes"),
    [
        ("premapped", {"datapath": "host"}),
        ("premapped", {"proven": False}),
        ("premapped", {"proven": "yes"}),
        ("premapped", {"issued": {"reads": 99, "writes": 0}}),
        ("premapped", {"issued": {"reads": 100, "writes": 1}}),
        ("premapped", {"module": {**MODULE, "reads": 99}}),
        ("registered", {"module": {**MODULE, "registrations": 0}}),
        ("bounce", {}),
    ],
)
def test_anything_that_does_not_agree_is_refused(
    demo: ModuleType, lane: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(demo.Failed):
        demo.check_report(demo.Lane("udmabuf", lane), JOB, {**report(lane), **changes})


def test_no_report_is_refused(demo: ModuleType) -> None:
    with pytest.raises(demo.Failed, match="no report"):
        demo.check_report(demo.Lane("udmabuf", "premapped"), JOB, {})


def test_blocks_differ_by_their_offset_and_are_full_size(demo: ModuleType) -> None:
    first, second = demo.block(0), demo.block(demo.VERIFY_BLOCK)
    assert len(first) == len(second) == demo.VERIFY_BLOCK
    assert first != second


def test_the_table_is_aligned(demo: ModuleType) -> None:
    rows = [["exporter", "datapath", "IOPS", "MiB/s", "proof"], ["drm", "x", "12345", "1.0", "y"]]
    lines = demo.table(rows).splitlines()
    assert lines[0].index("proof") == lines[1].index("y")
