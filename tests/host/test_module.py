# SPDX-License-Identifier: GPL-2.0-only
"""What the engine makes of the module's answers, on a stand-in that answers as told and moves nothing."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]

EOPNOTSUPP = 95
PREMAPPED, REGISTERED, BVEC = 1, 2, 3
NOT_BLOCK, NOT_NVME, NOT_DIRECT, KERNEL, MEMLOCK, NO_PATH_FITS = 7, 8, 9, 22, 23, 30


def module(fio: Fio, settings: str, **options: Any) -> Any:
    """A job on the stand-in module. Its I/O fails (EIO, EFAULT, EOPNOTSUPP), which fio is told to ignore."""
    defaults = {"size": "64k", "direct": 1, "dmabuf_datapath": "premapped", "continue_on_error": "all",
                "ignore_error": "5:14:95,5:14:95"}
    return fio(stand_in=True, env={"STAND_IN_MODULE": settings}, **{**defaults, **options})


def said(result: Any) -> str:
    return "\n".join(line for line in result.stderr.splitlines() if line.startswith("libdmabuf: "))


def test_counters_that_match_prove_the_path(fio: Fio) -> None:
    """The control for the test below: nothing moved, nothing counted."""
    result = module(fio, "reads=0")
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True
    assert result.reports[0]["errors"] == 16


def test_a_job_whose_path_is_not_proven_fails(fio: Fio) -> None:
    result = module(fio, "reads=5")
    assert result.status != 0
    assert result.reports[0]["proven"] is False
    assert "NOT PROVEN: the module counted 5 reads" in result.stderr
    assert "datapath premapped is not proven" in result.stderr
    assert result.json["jobs"][0]["error"] == 71  # EPROTO


@pytest.mark.parametrize("thread", [0, 1])
def test_it_fails_as_process_and_as_thread(fio: Fio, thread: int) -> None:
    assert module(fio, "reads=5", thread=thread).status != 0


def test_counters_that_cannot_be_read_prove_nothing(fio: Fio) -> None:
    result = module(fio, "info_errno=19")
    assert result.status != 0
    assert result.reports[0]["module"] is None
    assert result.reports[0]["proven"] is False


def test_a_registration_the_module_does_not_know_of_is_not_proven(fio: Fio) -> None:
    result = module(fio, "registrations=0", dmabuf_datapath="registered")
    assert result.status != 0
    assert "did not register" in result.reports[0]["proof"]


@pytest.mark.parametrize("reason,words", [
    (NOT_NVME, ["not NVMe over PCI", "NOT_NVME", "registered"]),
    (NOT_BLOCK, ["not a block device", "NOT_BLOCK"]),
    (NOT_DIRECT, ["O_DIRECT", "direct=1"]),
    (MEMLOCK, ["RLIMIT_MEMLOCK", "ulimit -l"]),
    (250, ["UNKNOWN"]),
])
def test_a_refused_mapping_says_why(fio: Fio, reason: int, words: list[str]) -> None:
    result = module(fio, f"error={EOPNOTSUPP},reason={reason}")
    assert result.status != 0
    for word in ["premapped", *words]:
        assert word in said(result)
    assert result.json["jobs"][0]["error"] == EOPNOTSUPP
    assert not result.reports


@pytest.mark.parametrize("reason,said_of_it", [(NOT_NVME, True), (NOT_BLOCK, True), (MEMLOCK, False)])
def test_auto_names_the_file_system_where_that_is_why(fio: Fio, tmp_path: Path, reason: int, said_of_it: bool) -> None:
    result = module(fio, f"path={REGISTERED},refused1={reason},registrations=1", dmabuf_datapath="auto")
    type_ = subprocess.run(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(tmp_path)], text=True,
                           capture_output=True, check=True).stdout.strip()
    (line,) = [line for line in said(result).splitlines() if "auto took registered" in line]
    assert (f"; it lies on {type_}" in line) == said_of_it


def test_auto_says_what_it_took_and_what_it_passed_over(fio: Fio) -> None:
    result = module(fio, f"path={REGISTERED},refused1={NOT_NVME},registrations=1", dmabuf_datapath="auto")
    assert "auto took registered" in said(result)
    assert "passed over: premapped: the target is not NVMe over PCI (NOT_NVME); it lies on " in said(result)
    assert result.reports[0]["datapath"] == "registered"
    assert result.reports[0]["datapath_requested"] == "auto"


@pytest.mark.parametrize("path,options,says", [
    (PREMAPPED, {"nowait": 1}, "nowait is a flag"),
    (PREMAPPED, {"cmdprio_percentage": 50}, "carries no priority"),
    (PREMAPPED, {"prioclass": 1}, "do not carry the job's I/O priority"),
    (BVEC, {"nowait": 1}, "nowait is a flag"),
    (BVEC, {"readfua": 1}, "readfua"),
    (BVEC, {"dmabuf_max_command_kb": 128}, "dmabuf_max_command_kb is for premapped commands"),
    (REGISTERED, {"dmabuf_max_command_kb": 128}, "dmabuf_max_command_kb is for premapped commands"),
])
def test_what_auto_took_is_refused_where_it_cannot_do_what_is_asked(fio: Fio, path: int, options: dict[str, Any],
                                                                    says: str) -> None:
    """The job itself is no error, and with another path of auto's it runs; no I/O is issued without what was asked for."""
    result = module(fio, f"path={path},registrations=1", dmabuf_datapath="auto", **options)
    assert result.status != 0, result.stderr
    assert says in said(result)
    assert not result.reports


def test_auto_never_takes_a_control(fio: Fio) -> None:
    settings = f"error={EOPNOTSUPP},reason={NO_PATH_FITS},refused1={NOT_NVME},refused2={KERNEL}"
    result = module(fio, settings, dmabuf_datapath="auto")
    assert result.status != 0
    assert not result.reports
    assert "premapped: the target is not NVMe over PCI (NOT_NVME); registered: this kernel lacks" in said(result)


def test_a_path_of_the_future_is_refused(fio: Fio) -> None:
    result = module(fio, "path=17", dmabuf_datapath="auto")
    assert result.status != 0
    assert "datapath number 17" in said(result)
    assert not result.reports


@pytest.mark.parametrize("datapath,features,missing", [
    ("premapped", 0x1E, "premapped"),
    ("registered", 0x1D, "registered"),
    ("bvec", 0x0F, "bvec"),
    ("auto", 0x0C, "premapped, registered or bvec"),
])
def test_a_module_without_the_feature(fio: Fio, datapath: str, features: int, missing: str) -> None:
    result = module(fio, f"features={features}", dmabuf_datapath=datapath)
    assert result.status != 0
    assert f"does not have datapath {missing}" in said(result)
    assert not result.reports


def test_a_module_of_another_abi(fio: Fio) -> None:
    result = module(fio, "query_errno=25")
    assert result.status != 0
    assert "does not answer this engine's QUERY (ENOTTY)" in said(result)


def test_time_outs_need_the_feature_and_the_module_to_agree(fio: Fio) -> None:
    assert "no time-out (feature TIMEOUT)" in said(module(fio, "features=0x17", dmabuf_timeout_ms=100))
    assert "EINVAL" in said(module(fio, "config_errno=22", dmabuf_timeout_ms=100))
    assert module(fio, "", dmabuf_timeout_ms=100).status == 0


def test_blocks_longer_than_the_module_moves(fio: Fio) -> None:
    result = module(fio, "max_io_bytes=65536", bs="128k", size="1m")
    assert result.status != 0
    assert "bs=131072 is more than the module moves at once on premapped (65536 bytes)" in said(result)
