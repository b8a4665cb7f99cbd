# SPDX-License-Identifier: GPL-2.0-only
"""What a job loses, and what it is told, when it comes from fio's engine io_uring."""

import json
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]

# Linux 6.12 has discards by io_uring.
KERNEL = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
DISCARDS = KERNEL >= (6, 12)


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A block device of 4 MiB, all bytes 0xaa."""
    image = tmp_path / "image"
    image.write_bytes(b"\xaa" * (4 << 20))
    attached = subprocess.run(["losetup", "--find", "--show", str(image)], text=True, capture_output=True, check=False)
    if attached.returncode:
        pytest.skip(f"no loop device here: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    subprocess.run(["blockdev", "--setrw", device], check=True)
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


def depths(result: Any) -> dict[str, float]:
    """fio's own distribution of I/Os in flight, without the empty classes."""
    levels = result.json["jobs"][0]["iodepth_level"]
    return {level: share for level, share in levels.items() if share}


@pytest.mark.parametrize("options", [{}, {"registerfiles": 1}, {"sqthread_poll": 1}])
def test_trims_are_in_flight_together(fio: Fio, loop_device: str, options: dict[str, Any]) -> None:
    result = fio(filename=loop_device, rw="randtrim", bs="64k", size="4m", iodepth=16, dmabuf_datapath="host", **options)
    assert result.status == 0, result.stderr
    issued = result.reports[0]["issued"]
    assert (issued["trims"], issued["syncs"], result.reports[0]["errors"]) == (64, 0, 0)
    assert result.total("trim", "total_ios") == 64
    with open(loop_device, "rb") as opened:
        assert opened.read() == bytes(4 << 20)
    if DISCARDS:
        assert issued["queued_trims"] == 64
        assert "16" in depths(result), depths(result)
        assert "one at a time" not in result.stderr
    else:
        assert issued["queued_trims"] == 0
        assert "one at a time" in result.stderr


def test_trims_in_flight_have_their_times(fio: Fio, loop_device: str) -> None:
    """From issue to completion, as fio measures it: some time, and no nonsense."""
    for depth in (1, 16):
        result = fio(filename=loop_device, rw="randtrim", bs="64k", size="4m", iodepth=depth, dmabuf_datapath="host")
        times = result.json["jobs"][0]["trim"]["clat_ns"]
        assert times["N"] == 64
        assert 0 < times["min"] <= times["max"] < 10**10, times


def test_trims_that_have_to_wait_are_named(fio: Fio, loop_device: str) -> None:
    """A write must not pass the trim of its own block: fio promises that the trim comes first."""
    result = fio(filename=loop_device, rw="trimwrite", bs="64k", size="4m", dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    issued = result.reports[0]["issued"]
    assert issued["trims"] > 0
    assert issued["queued_trims"] == 0
    assert result.stderr.count("one at a time") == 1
    assert "this job also writes" in result.stderr
    alone = fio(filename=loop_device, rw="trimwrite", bs="64k", size="4m", iodepth=1, dmabuf_datapath="host")
    assert "one at a time" not in alone.stderr, "with one I/O at a time nothing is lost"


def test_a_trim_that_fails_is_named(fio: Fio, loop_device: str) -> None:
    """A loop device on a file takes discards of whole blocks only."""
    result = fio(filename=loop_device, rw="trim", bs=768, size="64k", iodepth=4, dmabuf_datapath="host")
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 22
    assert result.reports[0]["errors"] >= 1
