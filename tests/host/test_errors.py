# SPDX-License-Identifier: GPL-2.0-only
"""What must fail, by name, with a nonzero status, and leave nothing behind."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]

needs_no_module = pytest.mark.skipif(Path("/dev/dmabuf_rw").exists(), reason="this machine has the module")


def check_refused(result: Any, *words: str) -> None:
    """One line of ours says why; fio fails; no job ran."""
    assert result.status != 0, result.stderr
    ours = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf: job t: ")]
    assert len(ours) == 1, result.stderr
    for word in words:
        assert word in ours[0]
    assert not result.reports


@needs_no_module
@pytest.mark.parametrize("datapath", ["auto", "premapped", "registered", "bvec", "syscall"])
def test_without_the_module(fio: Fio, datapath: str) -> None:
    check_refused(fio(direct=1, dmabuf_datapath=datapath), "/dev/dmabuf_rw", "not loaded", "modprobe")


@pytest.mark.parametrize("code,words", [(13, ["EACCES", "root"]), (1, ["EPERM", "root"]), (24, ["EMFILE", "ulimit"])])
def test_the_module_may_not_be_opened(fio: Fio, code: int, words: list[str]) -> None:
    result = fio(dmabuf_datapath="registered", stand_in=True, env={"STAND_IN_FAIL": f"open-module:{code}"})
    check_refused(result, "/dev/dmabuf_rw", *words)


def test_premapped_without_direct(fio: Fio) -> None:
    check_refused(fio(direct=0, dmabuf_datapath="premapped"), "O_DIRECT", "direct=1")


@pytest.mark.skipif(Path("/dev/udmabuf").exists(), reason="this machine has udmabuf")
def test_missing_udmabuf(fio: Fio) -> None:
    check_refused(fio(dmabuf_datapath="bounce"), "no /dev/udmabuf", "modprobe udmabuf")


@pytest.mark.parametrize("exporter,device", [
    ("heap", "no-such-heap"), ("drm", "card99"), ("drm", "/dev/dri/nothing"), ("udmabuf", "/dev/nothing"),
])
def test_missing_exporter_device(fio: Fio, exporter: str, device: str) -> None:
    result = fio(dmabuf_datapath="bounce", dmabuf_exporter=exporter, dmabuf_device=device)
    check_refused(result, device)


def test_devices_are_dealt_out_in_turn(fio: Fio) -> None:
    result = fio(numjobs=3, dmabuf_datapath="bounce", dmabuf_exporter="heap", dmabuf_device="left:right")
    said = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf:")]
    assert sum("/dev/dma_heap/left" in line for line in said) == 2
    assert sum("/dev/dma_heap/right" in line for line in said) == 1


@pytest.mark.parametrize("thread", [0, 1])
def test_the_exporter_refuses(fio: Fio, thread: int) -> None:
    """fio 3.33 goes on after a failed allocation; the engine must not."""
    result = fio(thread=thread, dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_FAIL": "create:12"})
    check_refused(result, "udmabuf refused", "ENOMEM")


def test_cpu_access_fails_at_the_start(fio: Fio) -> None:
    result = fio(dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_FAIL": "sync:5"})
    check_refused(result, "CPU access", "EIO")


@pytest.mark.parametrize("rw", ["read", "write", "randrw"])
def test_cpu_access_fails_midway(fio: Fio, rw: str) -> None:
    """The job ends, with an error, and does not hang on what was in flight."""
    result = fio(rw=rw, dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_FAIL": "sync:5:40"})
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 5


@pytest.mark.parametrize("options,words", [
    ({"dmabuf_hugepages": 1, "dmabuf_exporter": "heap"}, ["dmabuf_hugepages", "heap"]),
    ({"dmabuf_timeout_ms": 100, "dmabuf_datapath": "host"}, ["dmabuf_timeout_ms", "host"]),
    ({"dmabuf_max_command_kb": 128, "dmabuf_datapath": "host"}, ["dmabuf_max_command_kb", "host"]),
    ({"dmabuf_max_command_kb": 6, "direct": 1, "dmabuf_datapath": "premapped"}, ["dmabuf_max_command_kb=6"]),
    ({"sqthread_poll_cpu": 0, "dmabuf_datapath": "host"}, ["sqthread_poll=1"]),
    ({"iodepth": 40000, "dmabuf_datapath": "host"}, ["iodepth=40000", "32768"]),
    ({"iodepth": 20000, "bs": 512, "dmabuf_datapath": "host"}, ["iodepth=20000", "16384"]),
])
def test_combinations_that_cannot_work(fio: Fio, options: dict[str, Any], words: list[str]) -> None:
    check_refused(fio(**{"dmabuf_datapath": "bounce", **options}), *words)


def test_the_report_cannot_be_written(fio: Fio) -> None:
    check_refused(fio(dmabuf_datapath="host", dmabuf_report="/no/such/folder/r"), "dmabuf_report=/no/such/folder/r")


def test_a_full_disk_under_the_report_fails_the_job(fio: Fio) -> None:
    result = fio(dmabuf_datapath="host", dmabuf_report="/dev/full")
    assert result.status != 0
    assert "cannot write dmabuf_report=/dev/full: ENOSPC" in result.stderr


NOBODY = ("setpriv", "--reuid=65534", "--clear-groups")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_more_buffers_than_may_be_pinned(fio: Fio, public_folder: Path) -> None:
    """uid 65534 may pin 64 KiB and the job needs 2 MiB."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, before[1]))
    try:
        result = fio(bs="64k", iodepth=32, dmabuf_datapath="host", report=False, prefix=NOBODY,
                     filename=str(public_folder / "target"), library=str(public_folder / "libdmabuf.so"))
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    check_refused(result, "MEMLOCK", "2097152 bytes", "65536 bytes", "ulimit -l")


@needs_root
def test_a_write_job_on_a_file_that_may_only_be_read(fio: Fio, public_folder: Path) -> None:
    target = public_folder / "target"
    target.write_bytes(bytes(16 << 20))
    target.chmod(0o444)
    result = fio(rw="randwrite", dmabuf_datapath="host", report=False, prefix=NOBODY, filename=str(target),
                 library=str(public_folder / "libdmabuf.so"))
    assert result.status != 0
    assert f"{target} cannot be opened for writing (EACCES)" in result.stderr


def test_an_io_error_is_an_error(fio: Fio) -> None:
    """/dev/full takes no byte: every write fails, none is counted."""
    result = fio(filename="/dev/full", rw="write", size="64k", iodepth=4, dmabuf_datapath="host")
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 28
    assert result.reports[0]["errors"] >= 1
    assert result.reports[0]["issued"]["writes"] == 0


def test_ignored_errors_are_still_counted(fio: Fio) -> None:
    result = fio(filename="/dev/full", rw="write", size="64k", iodepth=4, dmabuf_datapath="host",
                 ignore_error=",ENOSPC", continue_on_error="write")
    assert result.reports[0]["errors"] == 16
    assert result.json["jobs"][0]["total_err"] == 16


def test_failures_leave_no_process_behind(fio: Fio, tmp_path: Path) -> None:
    fio(numjobs=2, dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_FAIL": "create:12"})
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path) not in process.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


WITHOUT_IO_URING = str(Path(__file__).with_name("without_io_uring.py"))


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_a_container_that_forbids_io_uring_is_named_and_the_way_out(fio: Fio, error: str) -> None:
    """The sysctl allows it, as containers' filters are no matter of it."""
    assert Path("/proc/sys/kernel/io_uring_disabled").read_text() == "0\n", "this machine itself forbids it"
    result = fio(dmabuf_datapath="host", prefix=("/usr/bin/python3", WITHOUT_IO_URING, error))
    assert result.status != 0
    assert f"io_uring is forbidden here ({error})" in result.stderr
    assert "io_uring_disabled is 0" in result.stderr
    for words in ("seccomp", "containers", "dmabuf_submit=ioctl", "dmabuf_submit=sync", "io_uring_setup"):
        assert words in result.stderr, words
    assert not result.reports


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "KILL"])
def test_what_needs_no_ring_works_where_none_may_be_made(fio: Fio, error: str) -> None:
    result = fio(filename=None, rw="randrw", verify="crc32c", size="4m", iodepth=1, dmabuf_datapath="syscall",
                 dmabuf_submit="mmap", stand_in=True, prefix=("/usr/bin/python3", WITHOUT_IO_URING, error))
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True
