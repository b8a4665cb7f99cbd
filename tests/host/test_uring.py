# SPDX-License-Identifier: GPL-2.0-only
"""The options of fio's engine io_uring do here what they do there."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

Fio = Callable[..., Any]


def by_io_uring(folder: Path, *options: str) -> dict[str, Any]:
    """fio's own result with its own engine."""
    variables = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    words = [environment("FIO"), "--name=t", "--filename=target", "--size=16m", "--bs=4k", "--iodepth=16",
             "--randseed=1", "--ioengine=io_uring", "--output-format=json", *options]
    done = subprocess.run(words, cwd=folder, env=variables, text=True, capture_output=True, check=True)
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def priorities(document: dict[str, Any], kind: str) -> dict[str, int]:
    """How many I/Os completed by priority, as fio counted them."""
    return {f"{entry['prioclass']}/{entry['prio']}": entry["clat_ns"]["N"]
            for entry in document["jobs"][0][kind]["prios"]}


@pytest.mark.parametrize("options", [
    ["--cmdprio_percentage=30", "--cmdprio_class=2", "--cmdprio=3"],
    ["--cmdprio_percentage=10,60", "--cmdprio_class=2,3"],
    ["--cmdprio_bssplit=4k/40/2/1:4k/20/3/0", "--cmdprio_class=2"],
])
def test_priorities_are_those_of_engine_io_uring(fio: Fio, tmp_path: Path, options: list[str]) -> None:
    """By the same seed the same I/Os have them."""
    theirs = by_io_uring(tmp_path, "--rw=randrw", *options)
    ours = fio(*options, rw="randrw", dmabuf_datapath="host")
    assert ours.status == 0, ours.stderr
    for kind in ("read", "write"):
        wanted = priorities(theirs, kind)
        assert len(wanted) >= 2
        assert priorities(ours.json, kind) == wanted


def test_priorities_exclude_each_other(fio: Fio) -> None:
    result = fio("--cmdprio_percentage=10", "--cmdprio_bssplit=4k/10", dmabuf_datapath="host")
    assert result.status != 0
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("datapath,stand_in,settings", [
    ("premapped", True, "x=1"), ("bvec", True, "x=1"), ("syscall", True, "x=1"),
])
def test_commands_carry_no_priority_and_say_so(fio: Fio, datapath: str, stand_in: bool, settings: str) -> None:
    result = fio("--cmdprio_percentage=10", dmabuf_datapath=datapath, direct=1, stand_in=stand_in, filename=None,
                 env={"STAND_IN_MODULE": settings})
    assert result.status != 0
    assert f"the I/O of dmabuf_datapath={datapath} carries no priority" in result.stderr


@pytest.mark.parametrize("option", ["--prio=3", "--prioclass=2"])
def test_premapped_does_not_carry_the_jobs_priority_and_says_so(fio: Fio, option: str) -> None:
    result = fio(option, dmabuf_datapath="premapped", direct=1, stand_in=True, filename=None, env={"STAND_IN_MODULE": "x=1"})
    assert result.status != 0
    assert "dmabuf_datapath=premapped do not carry the job's I/O priority" in result.stderr
    kept = fio(option, dmabuf_datapath="host", direct=1)
    assert kept.status == 0, kept.stderr


def test_what_auto_took_is_held_to_the_options(fio: Fio) -> None:
    result = fio("--cmdprio_percentage=10", dmabuf_datapath="auto", direct=1, stand_in=True,
                 env={"STAND_IN_MODULE": "path=3"})
    assert result.status != 0
    assert "the I/O of dmabuf_datapath=bvec carries no priority" in result.stderr
    assert not result.reports


def test_nowait_fails_where_it_would_wait(fio: Fio, tmp_path: Path) -> None:
    """What is in the page cache is read; what is not, is EAGAIN, and is not asked again."""
    target = tmp_path / "target"
    target.write_bytes(os.urandom(1 << 20))
    warm = fio(nowait=1, rw="read", size="1m", invalidate=0, dmabuf_datapath="host")
    assert warm.status == 0, warm.stderr
    os.sync()
    with open(target, "rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    cold = fio(nowait=1, rw="read", size="1m", invalidate=0, iodepth=1, dmabuf_datapath="host")
    if cold.status == 0:
        pytest.skip("this file system keeps its pages")
    assert cold.json["jobs"][0]["error"] == 11
    assert cold.reports[0]["retries"] == 0


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("datapath,stand_in", [("host", False), ("bounce", True), ("syscall", True)])
def test_force_async(fio: Fio, every: int, datapath: str, stand_in: bool) -> None:
    options = {"filename": None, "env": {"STAND_IN_MODULE": "x=1"}} if datapath == "syscall" else {}
    result = fio(force_async=every, rw="randrw", size="2m", verify="crc32c", dmabuf_datapath=datapath,
                 stand_in=stand_in, **options)
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True


def test_fixedbufs_on_a_dma_buf_as_the_file(fio: Fio) -> None:
    result = fio("--fixedbufs", rw="randrw", size="2m", verify="crc32c", dmabuf_datapath="syscall", filename=None,
                 stand_in=True, env={"STAND_IN_MODULE": "x=1"})
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True


def test_hipri_on_what_cannot_be_polled(fio: Fio) -> None:
    """A loop device, an ordinary disk: refused by name where it says so, else the kernel's EOPNOTSUPP."""
    result = fio("--hipri", direct=1, dmabuf_datapath="host", size="1m")
    if result.status == 0:
        pytest.skip("this machine's disk has polled queues")
    assert "no polled queues" in result.stderr or result.json["jobs"][0]["error"] == 95
