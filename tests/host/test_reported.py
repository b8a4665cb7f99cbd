# SPDX-License-Identifier: GPL-2.0-only
"""What people reported of fio and its engines, tried on this one: the table is in docs/testing.md."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]
MODULE = {"stand_in": True, "env": {"STAND_IN_MODULE": "x=1"}}


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Gives a block device of 16 MiB, of logical blocks of so many bytes."""
    attached: list[str] = []

    def attach(block: int) -> str:
        image = tmp_path / f"image-{len(attached)}"
        image.write_bytes(bytes(16 << 20))
        done = subprocess.run(["losetup", "--find", "--show", "--sector-size", str(block), str(image)], text=True,
                              capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no loop device here: {done.stderr.strip()}")
        attached.append(done.stdout.strip())
        subprocess.run(["blockdev", "--setrw", attached[-1]], check=True)
        return attached[-1]

    yield attach
    for device in attached:
        subprocess.run(["losetup", "--detach", device], check=True)


# --- transfers that do not fit the target's logical block ---

@pytest.mark.parametrize("datapath,more", [("host", {}), ("bounce", {"stand_in": True}), ("premapped", MODULE)])
@pytest.mark.parametrize("block,options,words", [
    (512, {"bs": 24577}, "bs=24577"),
    (4096, {"bs": 512}, "bs=512"),
    (4096, {"bs": None, "bssplit": "64k/80:4608/20"}, "bs=4608"),
    (4096, {"bs": None, "bsrange": "4k-10000"}, "bs=10000"),
    (512, {"bs": None, "bsrange": "4k-1m", "bs_unaligned": 1}, "bs_unaligned=1"),
    (4096, {"bs": "4k", "blockalign": 512}, "blockalign=512"),
    (4096, {"bs": "4k", "offset": 512}, "offset=512"),
])
def test_what_fits_no_block_is_refused_once(fio: Fio, loop_device: Callable[[int], str], datapath: str, more: dict[str, Any],
                                            block: int, options: dict[str, Any], words: str) -> None:
    device = loop_device(block)
    result = fio(filename=device, size="8m", rw="randwrite", direct=1, dmabuf_datapath=datapath, **options, **more)
    assert result.status != 0
    said = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf:")]
    assert len(said) == 1, result.stderr
    for part in (words, device, f"{block} bytes", "RANGE"):
        assert part in said[0]
    assert not result.reports, "refused before the first I/O"


@pytest.mark.parametrize("block,options", [
    (512, {"bs": None, "bssplit": "64k/80:4608/20", "direct": 1}),
    (512, {"bs": "4k", "blockalign": 512, "offset": 512, "direct": 1}),
    (4096, {"bs": "4k", "offset": 512, "offset_align": "4k", "direct": 1}),
    (4096, {"bs": None, "bssplit": "4k/50:64k/50", "direct": 1}),
    (4096, {"bs": 24577, "direct": 0}),
])
def test_what_fits_is_moved(fio: Fio, loop_device: Callable[[int], str], block: int, options: dict[str, Any]) -> None:
    for rw in ("write", "randread"):
        result = fio(filename=loop_device(block), size="8m", rw=rw, dmabuf_datapath="host", verify="crc32c" if rw == "write" else None,
                     **options)
        assert result.status == 0, result.stderr
        assert result.reports[0]["proven"] is True


def test_lengths_of_a_replayed_log_are_its_own(fio: Fio, tmp_path: Path, loop_device: Callable[[int], str]) -> None:
    device = loop_device(512)
    log = tmp_path / "log"
    log.write_text(f"fio version 2 iolog\n{device} add\n{device} open\n{device} read 0 4096\n{device} close\n")
    result = fio(filename=None, size=None, bs=1000, rw="read", direct=1, read_iolog=str(log), dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    assert result.reports[0]["issued"]["reads"] == 1
