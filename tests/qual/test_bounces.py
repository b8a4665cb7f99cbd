# SPDX-License-Identifier: GPL-2.0-only
"""What swiotlb copied is told by the kernel's tracepoint."""

from pathlib import Path

from dmabuf_qual.bounces import TRIGGER, Bounces

HIST = """# event histogram
#
# trigger info: hist:keys=dev_name:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ dev_name: udmabuf                                            } hitcount:         20
{ dev_name: 0000:00:04.0                                       } hitcount:       1600

Totals:
    Hits: 1620
"""


def test_only_the_drive_counts(tmp_path: Path) -> None:
    (tmp_path / "hist").write_text(HIST)
    (tmp_path / "trigger").write_text("")
    with Bounces("0000:00:04.0", tmp_path) as bounces:
        assert (tmp_path / "trigger").read_text() == TRIGGER
        assert bounces.count() == 1600
    assert (tmp_path / "trigger").read_text() == "!" + TRIGGER
    assert bounces.count() is None
    with Bounces("0000:01:00.0", tmp_path) as bounces:
        assert bounces.count() == 0


def test_a_kernel_without_the_tracepoint_is_none_that_did_not_copy(tmp_path: Path) -> None:
    with Bounces("0000:00:04.0", tmp_path / "none") as bounces:
        assert bounces.count() is None and not bounces.counting
