# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that takes only a part of what is submitted: each I/O is done once or is said to have failed, and
fio gets all of them back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from test_contract import replay, write_log

Fio = Callable[..., Any]
PATTERN = bytes.fromhex("0badcafe")
BLOCK = 4096


def run(fio: Fio, folder: Path, spec: str, ios: list[tuple[str, int, int]], **options: Any) -> tuple[Any, int]:
    """Replays the I/Os while the kernel takes a part of one batch; also how many entries it took in all."""
    target, log = folder / "target", folder / "taken"
    target.write_bytes(bytes(16 << 20))
    log.unlink(missing_ok=True)
    result = replay(
        fio, write_log(folder, ios), "host", {}, preload=(f"{environment('FAKES')}/partial.so",),
        env={"PARTIAL_SUBMIT": spec, "PARTIAL_LOG": str(log)}, prefix=("timeout", "-s", "KILL", "40"),
        **{"iodepth": 16, "iodepth_batch": 8, "thread": 1, "buffer_pattern": "0x0badcafe"} | options)
    submissions = [[int(word) for word in line.split()] for line in log.read_text().splitlines()]
    assert [taken for taken, of in submissions if taken < of] == [int(spec.split(":")[1])], submissions
    return result, sum(taken for taken, _ in submissions)


def written(folder: Path) -> int:
    """Blocks of the target that have the pattern; all others are as they were."""
    data = (folder / "target").read_bytes()
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    assert {block for block in blocks} <= {PATTERN * (BLOCK // 4), bytes(BLOCK)}
    return blocks.count(PATTERN * (BLOCK // 4))


# Before a longer I/O fio takes other memory, and waits for all that it has queued before that.
@pytest.mark.parametrize("nth,taken", [(1, 1), (2, 1), (1, 2), (3, 2), (1, 4), (1, 7)])
@pytest.mark.parametrize("least", [1, 4, 8])
def test_after_an_error_the_rest_of_a_batch_fails(fio: Fio, tmp_path: Path, nth: int, taken: int, least: int) -> None:
    """The I/Os that the kernel took are waited for and counted, the others fail, and none is for ever in flight."""
    ios = [("write", i * BLOCK, BLOCK) for i in range(64)] + [("write", i * BLOCK, 2 * BLOCK) for i in range(64, 96, 2)]
    result, entries = run(fio, tmp_path, f"{nth}:{taken}:5", ios, iodepth_batch_complete_min=least)
    assert result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == 5
    report = result.reports[0]
    assert (report["issued"]["writes"], report["errors"], report["unreaped"]) == (entries, 0, 0)
    assert written(tmp_path) == entries


def test_without_an_error_the_rest_of_a_batch_is_submitted_once(fio: Fio, tmp_path: Path) -> None:
    result, entries = run(fio, tmp_path, "2:3:0", [("write", i * BLOCK, BLOCK) for i in range(64)])
    assert result.status == 0, result.stderr
    assert (entries, result.reports[0]["issued"]["writes"], written(tmp_path)) == (64, 64, 64)
    assert result.total("write", "total_ios") == 64


def test_those_that_the_kernel_took_have_their_time(fio: Fio, tmp_path: Path) -> None:
    """Though they are in no batch that was submitted as a whole."""
    log = tmp_path / "taken"
    result = fio(rw="write", size="1m", dmabuf_datapath="host", thread=1, iodepth_batch=8,
                 preload=(f"{environment('FAKES')}/partial.so",), env={"PARTIAL_SUBMIT": "2:3:5", "PARTIAL_LOG": str(log)})
    assert log.read_text().splitlines() == ["8 8", "3 8"]
    assert (result.status, result.json["jobs"][0]["error"], result.reports[0]["issued"]["writes"]) == (1, 5, 11)
    for latency in ("slat_ns", "clat_ns", "lat_ns"):
        figures = result.json["jobs"][0]["write"][latency]
        assert figures["N"] == 11 and 0 < figures["min"] <= figures["max"] < 100e9, (latency, figures)


@pytest.mark.parametrize("datapath", ["premapped", "bvec"])
def test_a_call_of_the_modules_that_moves_a_part_is_no_whole(fio: Fio, tmp_path: Path, datapath: str) -> None:
    """fio asks for the rest, which it takes for more of what the job is to do: io_size is more than the file's size."""
    target = tmp_path / "target"
    common: dict[str, Any] = {"size": "1m", "io_size": "3m", "bs": "64k", "iodepth": 1, "direct": 1, "verify": "pattern",
                              "verify_pattern": "0x0badcafe", "dmabuf_datapath": datapath, "dmabuf_submit": "ioctl",
                              "stand_in": True, "env": {"STAND_IN_MODULE": "rw_most=20480"}}
    target.write_bytes(bytes(1 << 20))
    wrote = fio(rw="write", do_verify=0, **common)
    assert wrote.status == 0, wrote.stderr
    assert target.read_bytes() == PATTERN * (1 << 18)
    read = fio(rw="read", **common)
    assert read.status == 0, read.stderr
    for result, kind in ((wrote, "write"), (read, "read")):
        report = result.reports[0]
        module = report["module"]
        assert report["proven"] is True, report
        assert (report["calls"], report["issued"][f"{kind}_bytes"]) == (module[f"{kind}s"], module[f"{kind}_bytes"])
        assert module["reads"] + module["writes"] == module[f"{kind}s"]
        # Of four calls for a block three move a part.
        assert report["short"] >= 3 * 16
        assert report["issued"][f"{kind}_bytes"] >= 1 << 20
    spoilt = bytearray(target.read_bytes())
    spoilt[777_777] ^= 1
    target.write_bytes(spoilt)
    assert fio(rw="read", **common).status != 0


def test_a_sync_of_a_range_has_all_of_it(fio: Fio, tmp_path: Path) -> None:
    """Its length has 32 bits in an entry of io_uring, and in files a range may be longer."""
    target, log = tmp_path / "target", tmp_path / "entries"
    with open(target, "wb") as file:
        file.truncate(12 << 30)  # none of it is there
    result = fio(rw="randwrite", size="12g", number_ios=96, iodepth=1, sync_file_range="write:16", dmabuf_datapath="host",
                 preload=(f"{environment('FAKES')}/partial.so",),
                 env={"PARTIAL_SUBMIT": "0:0:0", "PARTIAL_ENTRIES": str(log)})
    target.unlink()
    assert result.status == 0, result.stderr
    write_fixed, sync_file_range = 5, 8
    written: list[int] = []  # since the last sync
    longer = 0
    for opcode, offset, length in ([int(word) for word in line.split()] for line in log.read_text().splitlines()):
        if opcode == write_fixed:
            written += [offset, offset + length]
        elif opcode == sync_file_range and written:
            assert offset <= min(written)
            assert length == 0 or offset + length >= max(written), "0 is up to the file's end"
            longer += max(written) - offset > 1 << 32
            written = []
    assert longer >= 4
