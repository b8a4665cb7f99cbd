# SPDX-License-Identifier: GPL-2.0-only
"""What fio may ask of an engine, and what the engine then does: memory that changes in the middle of a job,
I/O that is in flight at its end, waiting without sleeping, calls that fail."""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_uring import by_io_uring

Fio = Callable[..., Any]

# datapath, options that it needs here
PATHS = [
    ("host", {}), ("bounce", {"stand_in": True}),
    ("syscall", {"stand_in": True, "env": {"STAND_IN_MODULE": "x=1"}}),
    ("premapped", {"stand_in": True, "env": {"STAND_IN_MODULE": "x=1"}, "dmabuf_submit": "ioctl", "iodepth": 1, "direct": 1}),
    ("bvec", {"stand_in": True, "env": {"STAND_IN_MODULE": "x=1"}, "dmabuf_submit": "ioctl", "iodepth": 1, "direct": 1}),
]

READ_WRITE = {"read": "reads", "write": "writes"}


def write_log(folder: Path, ios: list[tuple[str, int, int]], name: str = "target") -> str:
    """An I/O log of fio's; each I/O is (read or write, offset, length)."""
    log = folder / "log"
    lines = ["fio version 2 iolog", f"{name} add", f"{name} open", *(f"{name} {kind} {at} {length}" for kind, at, length in ios),
             f"{name} close"]
    log.write_text("\n".join(lines) + "\n")
    return str(log)


def growing(count: int) -> list[tuple[str, int, int]]:
    """I/Os of three lengths, each longer than all before it, in chunks of a replayed log of their own."""
    return [("read" if i % 2 else "write", i % 16 * length, length)
            for length in (4096, 16384, 262144) for i in range(count)]


def replay(fio: Fio, log: str, datapath: str, options: dict[str, Any], **more: Any) -> Any:
    target = {} if datapath == "syscall" else {"filename": None}
    if datapath == "syscall":
        more |= {"filename": None}
    return fio(**{"read_iolog": log, "read_iolog_chunked": 1, "size": None, "rw": "randrw", "iodepth": 8, "bs": None,
                  "dmabuf_datapath": datapath, **target, **options, **more})


def check_all_counted(result: Any) -> None:
    """What fio says it issued is what the engine saw the end of."""
    assert result.status == 0, result.stderr
    report = result.reports[0]
    for kind, plural in READ_WRITE.items():
        assert report["issued"][plural] == result.total(kind, "total_ios")
    assert (report["proven"], report.get("unreaped", 0), report["errors"]) == (True, 0, 0), report
    if report["module"] and report["module"]["reads"] + report["module"]["writes"]:
        assert report["module"]["commands"] == report["issued"]["reads"] + report["issued"]["writes"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(os.urandom(16 << 20))
    return path


# Of a replayed log fio 3.33 and 3.41 do not ask for the last I/Os that are in flight.
@pytest.mark.parametrize("datapath,options", [*(row for row in PATHS if row[0] != "syscall"), ("host", {"sqthread_poll": 1})])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_last_ios_of_a_replayed_log_are_counted(fio: Fio, tmp_path: Path, target: Path, datapath: str,
                                                    options: dict[str, Any], batch: int) -> None:
    log = write_log(tmp_path, [("read", i * 2 % 4096 * 4096, 4096) for i in range(1023)])
    for chunked in (0, 1):
        result = replay(fio, log, datapath, options, read_iolog_chunked=chunked,
                        iodepth_batch=min(batch, options.get("iodepth", 8)))
        check_all_counted(result)
        assert result.reports[0]["issued"]["reads"] == 1023


def test_the_last_ios_of_a_replayed_log_have_their_errors(fio: Fio, tmp_path: Path, target: Path) -> None:
    """fio does not ask for them: the engine says which failed and why, or goes on as fio is told to."""
    log = write_log(tmp_path, [("read", i * 4096, 4096) for i in range(6)] + [("read", 1 << 30, 4096), ("read", 65536, 4096)])
    result = replay(fio, log, "host", {})
    assert result.status == 1
    assert result.json["jobs"][0]["error"] == 5
    assert (result.reports[0]["issued"]["reads"], result.reports[0]["errors"]) == (7, 1)
    assert "one of the last I/Os, a read at offset 1073741824, failed: Input/output error (EIO)" in result.stderr
    result = replay(fio, log, "host", {}, continue_on_error="all")
    assert result.status == 0, result.stderr
    assert result.json["jobs"][0]["total_err"] == result.reports[0]["errors"] == 1
    assert "one of the last" not in result.stderr


@pytest.mark.parametrize("datapath,options", [row for row in PATHS if row[0] != "syscall"])
@pytest.mark.parametrize("thread", [0, 1])
def test_a_replayed_log_may_have_longer_ios_later(fio: Fio, tmp_path: Path, target: Path, datapath: str,
                                                  options: dict[str, Any], thread: int) -> None:
    ios = growing(300)
    result = replay(fio, write_log(tmp_path, ios), datapath, options, thread=thread)
    check_all_counted(result)
    report = result.reports[0]
    for kind, plural in READ_WRITE.items():
        assert report["issued"][f"{kind}_bytes"] == sum(length for what, _, length in ios if what == kind)
    assert report["buffer_bytes"] >= 262144 * options.get("iodepth", 8)


@pytest.mark.parametrize("datapath,options", [("host", {}), ("bounce", {"stand_in": True})])
def test_longer_ios_have_their_own_data(fio: Fio, tmp_path: Path, target: Path, datapath: str,
                                        options: dict[str, Any]) -> None:
    """What is written from the new memory is what fio has put there."""
    ios = [("write", i * length, length) for length in (4096, 65536, 1 << 18) for i in range(60)]
    result = replay(fio, write_log(tmp_path, ios), datapath, options, buffer_pattern="0x0badcafe")
    check_all_counted(result)
    assert target.read_bytes()[:60 << 18] == bytes.fromhex("0badcafe") * (60 << 16)


def test_longer_ios_in_a_dma_buf_for_each_slot(fio: Fio, tmp_path: Path, target: Path) -> None:
    result = replay(fio, write_log(tmp_path, growing(300)), "bounce", {"stand_in": True}, dmabuf_buffers="io_u")
    check_all_counted(result)
    assert result.reports[0]["buffer_bytes"] == 8 * 262144


def test_longer_ios_that_get_no_memory_end_the_job(fio: Fio, tmp_path: Path, target: Path) -> None:
    """fio does not look whether it got any, and fills its buffers."""
    log = write_log(tmp_path, growing(300))
    for thread in (0, 1):
        result = replay(fio, log, "bounce", {"stand_in": True, "env": {"STAND_IN_FAIL": "create:12:2"}}, thread=thread,
                        refill_buffers=1)
        assert result.status == 1, result.stderr
        assert result.json["jobs"][0]["error"] == 12
        assert "udmabuf refused" in result.stderr
        issued = result.reports[0]["issued"]
        assert 0 < issued["reads"] + issued["writes"] < 900


def test_longer_ios_than_the_module_moves_are_refused(fio: Fio, tmp_path: Path, target: Path) -> None:
    options = {"stand_in": True, "env": {"STAND_IN_MODULE": "max_io_bytes=65536"},
        "dmabuf_submit": "ioctl", "iodepth": 1, "direct": 1}
    result = replay(fio, write_log(tmp_path, growing(300)), "premapped", options)
    assert result.status == 1, result.stderr
    assert "bs=262144 is more than the module moves at once" in result.stderr


@pytest.mark.parametrize("datapath,options", [("host", {}), ("bounce", {"stand_in": True})])
def test_files_that_fio_adds_later(fio: Fio, tmp_path: Path, datapath: str, options: dict[str, Any]) -> None:
    """They are not in the ring's table of files, and are read and written all the same."""
    lines = ["fio version 2 iolog"]
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        lines += [f"{name} add", f"{name} open", *(f"{name} write {i * 4096} 4096" for i in range(256))]
    lines += [f"{name} close" for name in ("one", "two", "three", "four")]
    log = tmp_path / "log"
    log.write_text("\n".join(lines) + "\n")
    result = replay(fio, str(log), datapath, options, registerfiles=1, buffer_pattern="0x0badcafe")
    check_all_counted(result)
    for name in ("one", "two", "three", "four"):
        assert (tmp_path / name).read_bytes() == bytes.fromhex("0badcafe") * (1 << 18), name


@pytest.mark.parametrize("buffers", ["job", "io_u"])
def test_trims_that_are_longer_than_all_else_make_no_slot_longer(fio: Fio, target: Path, buffers: str) -> None:
    """fio after 3.42 gives its buffers no room for them; each slot is where fio has it."""
    result = fio(rw="randwrite", bs="4k,4k,1m", size="4m", buffer_pattern="0x0badcafe", dmabuf_datapath="bounce", dmabuf_buffers=buffers,
                 stand_in=True)
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True
    assert target.read_bytes()[:4 << 20] == bytes.fromhex("0badcafe") * (1 << 20)


# A filter for io_uring_enter(), as words of BPF: what is not to be called fails with EIO, or kills.
ENTER = 426
TO_SUBMIT, LEAST, FLAGS = 1, 2, 3
GETEVENTS = 1
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050005, 0x80000000


def filtered(argument: int, bits: int, verdict: int = FAIL) -> tuple[str, ...]:
    """A command line under which io_uring_enter() may not have one of `bits` in its argument."""
    program = [(0x20, 0, 0, 0), (0x15, 0, 3, ENTER), (0x20, 0, 0, 16 + 8 * argument), (0x45, 0, 1, bits),
               (0x06, 0, 0, verdict), (0x06, 0, 0, ALLOW)]
    return (sys.executable, "-B", __file__, repr(program))


def apply_filter(program: list[tuple[int, int, int, int]], words: list[str]) -> None:
    """Becomes `words`, under the filter."""
    data = b"".join(code.to_bytes(2, sys.byteorder) + bytes([yes, no]) + value.to_bytes(4, sys.byteorder)
                    for code, yes, no, value in program)
    held = ctypes.create_string_buffer(data)

    class Program(ctypes.Structure):
        """struct sock_fprog"""

        _fields_ = [("count", ctypes.c_ushort), ("first", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    filters = Program(len(program), ctypes.addressof(held))
    no_new_privileges, set_seccomp, by_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, by_filter, ctypes.byref(filters), 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(words[0], words)


@pytest.mark.parametrize("iodepth", [1, 16])
@pytest.mark.parametrize("options", [{}, {"registerfiles": 1}, {"iodepth_batch_complete_min": 0}])
def test_sqthread_poll_makes_no_call_to_wait(fio: Fio, iodepth: int, options: dict[str, Any]) -> None:
    result = fio(sqthread_poll=1, rw="randrw", size="4m", iodepth=iodepth, dmabuf_datapath="host",
                 prefix=filtered(FLAGS, GETEVENTS), **options)
    assert result.status == 0, result.stderr
    job = result.json["jobs"][0]
    assert job["read"]["slat_ns"]["N"] == 0, "the time until a thread of the kernel is told is no latency"
    assert job["read"]["clat_ns"]["N"] > 0
    slept = fio(rw="randread", size="1m", dmabuf_datapath="host", prefix=filtered(FLAGS, GETEVENTS))
    assert slept.status != 0, "without it the filter shows"


@pytest.mark.parametrize("datapath,stand_in", [("host", False), ("bounce", True)])
def test_without_a_least_number_of_completions_it_does_not_sleep(fio: Fio, datapath: str, stand_in: bool) -> None:
    common: dict[str, Any] = {"rw": "randrw", "size": "4m", "dmabuf_datapath": datapath, "stand_in": stand_in,
                              "prefix": filtered(LEAST, 0xFFFFFFFF)}
    result = fio(iodepth_batch_complete_min=0, **common)
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True
    assert fio(**common).status != 0, "without it the filter shows"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs")
@pytest.mark.parametrize("syncs", [{"fsync": 1}, {"fdatasync": 1}, {"sync_file_range": "write:1"},
                                   {"end_fsync": 1}, {"fsync_on_close": 1}, {"read_iolog": "log"}])
def test_a_polled_ring_syncs_by_calls(fio: Fio, tmp_path: Path, syncs: dict[str, Any]) -> None:
    """What is in tmpfs cannot be polled for, so that the writes fail; the syncs are no part of that."""
    target = Path("/dev/shm") / f"libdmabuf-test-{os.getpid()}"
    if "read_iolog" in syncs:
        lines = [f"{target} write {i * 4096} 4096\n{target} {('sync', 'datasync')[i % 2]} 0 0" for i in range(16)]
        (tmp_path / "log").write_text("\n".join(["fio version 2 iolog", f"{target} add", f"{target} open", *lines,
                                                 f"{target} close", ""]))
        target.write_bytes(bytes(65536))
    try:
        result = fio("--hipri", rw="write", size="64k", direct=1, filename=None if "read_iolog" in syncs else str(target),
                     dmabuf_datapath="host", continue_on_error="all", ignore_error="95,95:22,95", **syncs)
    finally:
        target.unlink(missing_ok=True)
    assert "takes no fsync" not in result.stderr
    assert result.reports, result.stderr
    if "end_fsync" not in syncs and "fsync_on_close" not in syncs:
        assert result.reports[0]["issued"]["syncs"] >= 1
    assert result.reports[0]["errors"] == 16, "the writes"
    assert "fsync" not in result.stderr and "sync_file_range" not in result.stderr


@pytest.mark.parametrize("thread", [0, 1])
def test_a_job_that_fio_gives_up_before_its_ios_fails(fio: Fio, tmp_path: Path, thread: int) -> None:
    """fio goes on to the next job then, and ends with status 0, of any engine."""
    result = fio(thread=thread, dmabuf_datapath="host", exec_prerun="false")
    assert result.status == 1
    assert result.json["jobs"][0]["error"] == errno.ECANCELED
    assert "libdmabuf: job t: fio gave the job up before its first I/O, and names no error; " in result.stderr
    assert "t.prerun.txt" in result.stderr
    assert fio(thread=thread, dmabuf_datapath="host", exec_prerun="true", exec_postrun="false").status == 0
    assert fio(thread=thread, dmabuf_datapath="host", exec_prerun="true", create_only=1).status == 0


# /dev/zero takes writes, and no call that makes them durable.
@pytest.mark.parametrize("option,call", [("fsync", "fsync"), ("fdatasync", "fdatasync"), ("sync_file_range", "sync_file_range")])
@pytest.mark.parametrize("datapath,options", [PATHS[0], PATHS[1], PATHS[4]])
def test_a_failed_sync_is_called_what_it_is(fio: Fio, option: str, call: str, datapath: str, options: dict[str, Any]) -> None:
    value = "write:8" if option == "sync_file_range" else 8
    # More than are in flight at once: before the first write has ended there is no range to sync.
    result = fio(**{"filename": "/dev/zero", "rw": "write", "size": "1m", "dmabuf_datapath": datapath, **options, option: value,
                    "direct": 0})
    assert result.reports[0]["errors"] >= 1, "of which fio takes no notice where they are asynchronous"
    ours = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf: job t: ") and "datapath" not in line]
    assert len(ours) == 1, result.stderr
    code = "ESPIPE" if option == "sync_file_range" else "EINVAL"
    assert ours[0].startswith(f"libdmabuf: job t: {call} of /dev/zero failed: ") and f"({code})" in ours[0]


# The second is before the first submission: nothing of it has been handed to the kernel.
@pytest.mark.parametrize("iodepth", [4, 8])
def test_after_a_fatal_error_nothing_more_is_submitted(fio: Fio, iodepth: int) -> None:
    result = fio(rw="write", iodepth=iodepth, iodepth_batch=4, dmabuf_datapath="registered", stand_in=True, direct=1,
                 env={"STAND_IN_MODULE": "registrations=1", "STAND_IN_FAIL": "sync:5:2:1"},
                 prefix=filtered(TO_SUBMIT, 0xFFFFFFFE, KILL))  # the commands of set-up and teardown go alone
    assert "got signal" not in result.stderr and result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == 5
    report = result.reports[0]
    assert (report["issued"]["writes"], report["errors"], report.get("unreaped", 0)) == (0, 0, 0)


def test_after_a_fatal_error_teardown_takes_no_ios_along(fio: Fio, tmp_path: Path, target: Path) -> None:
    """At the end of a log fio asks for nothing back: they are still in the ring when a command takes the dma-buf out of its table."""
    log = write_log(tmp_path, [("write", i * 4096, 4096) for i in range(3)])
    before = target.read_bytes()
    result = replay(fio, log, "registered", {}, read_iolog_chunked=0, iodepth_batch=4, direct=1, stand_in=True,
                    env={"STAND_IN_MODULE": "registrations=1", "STAND_IN_FAIL": "sync:5:2:1"},
                    prefix=filtered(TO_SUBMIT, 0xFFFFFFFE, KILL))
    assert "got signal" not in result.stderr + result.stdout and result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == 5
    report = result.reports[0]
    assert (report["issued"]["writes"], report["errors"], report["unreaped"]) == (0, 0, 0)
    assert target.read_bytes() == before


# Before it takes other memory fio waits for all that it has queued, and for ever for what does not come back.
@pytest.mark.parametrize("nth", [2, 4, 8, 15, 41, 100])
@pytest.mark.parametrize("datapath", ["bounce", "registered"])
def test_after_a_fatal_error_fio_has_all_units_back(fio: Fio, tmp_path: Path, target: Path, datapath: str, nth: int) -> None:
    ios = [("write", i * length, length) for length in (4096, 16384, 65536) for i in range(40)]
    options: dict[str, Any] = {"stand_in": True, "env": {"STAND_IN_FAIL": f"sync:5:{nth}", "STAND_IN_MODULE": "registrations=1"}}
    result = replay(fio, write_log(tmp_path, ios), datapath, options, iodepth=16, iodepth_batch=8, thread=1,
                    prefix=("timeout", "-s", "KILL", "40"))
    if datapath == "registered" and result.json["jobs"][0]["error"] == 14:
        return  # the stand-in's slots are empty, which an earlier write has met
    assert result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == 5


def cpu_accesses(log: Path) -> int:
    """Begins and ends of the CPU's access to dma-bufs, as the stand-in's only process with any has logged them."""
    counts = dict(word.split("=") for word in log.read_text().split())
    return int(counts["begins"]) + int(counts["ends"])


# At the end of a log fio asks for nothing more; after a call that is waited for nothing comes.
@pytest.mark.parametrize("way", ["late", "late for each slot", "waited for"])
@pytest.mark.parametrize("before_last", [0, 1])
def test_the_last_copy_that_fails_fails_the_job(fio: Fio, tmp_path: Path, target: Path, way: str, before_last: int) -> None:
    """Of the last read: no other I/O would meet the error."""
    target.write_bytes(bytes(1 << 20))
    log = write_log(tmp_path, [("read", i * 4096, 4096) for i in range(8)])
    checks = {"rw": "read", "size": "32k", "verify": "pattern", "verify_pattern": "0x00", "verify_async": 1, "direct": 1}

    def run(**variables: str) -> Any:
        common: dict[str, Any] = {"stand_in": True, "env": variables | {"STAND_IN_MODULE": "x=1"}}
        if way == "waited for":
            return fio(dmabuf_datapath="premapped", dmabuf_submit="ioctl", iodepth=1, **checks, **common)
        return replay(fio, log, "bounce", common, dmabuf_buffers="io_u" if "slot" in way else "job")

    good = run(STAND_IN_LOG=str(tmp_path / "accesses"))
    assert (good.status, good.reports[0]["proven"]) == (0, True), good.stderr
    result = run(STAND_IN_FAIL=f"sync:5:{cpu_accesses(tmp_path / 'accesses') - before_last}")
    assert result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == 5
    assert result.reports[0]["proven"] is False
    assert "(null)" not in result.stderr + result.stdout


# What can do no more I/O fails all that comes, which fio may be told to go on after.
@pytest.mark.parametrize("module,options,code", [
    ("error=95,error_from=2", {"dmabuf_remap_every": 8, "ignore_error": "95,95,95"}, 95),
    ("x=1", {"verify": "crc32c", "env": {"STAND_IN_MODULE": "x=1", "STAND_IN_FAIL": "sync:5:21:1"}}, 5),
])
def test_a_job_that_can_do_no_more_fails_whatever_it_is_to_go_on_after(fio: Fio, module: str, options: dict[str, Any],
                                                                       code: int) -> None:
    result = fio(**{"rw": "randrw", "size": "1m", "iodepth": 1, "direct": 1, "continue_on_error": "all", "stand_in": True,
                    "dmabuf_datapath": "premapped", "dmabuf_submit": "ioctl", "env": {"STAND_IN_MODULE": module}, **options})
    issued = result.reports[0]["issued"]
    assert 0 < issued["reads"] + issued["writes"] < 100
    assert result.status == 1, result.stderr
    assert result.json["jobs"][0]["error"] == code
    name = {5: "EIO", 95: "EOPNOTSUPP"}[code]
    assert f"libdmabuf: job t: after an error ({name}) no more I/O was issued" in result.stderr


@pytest.mark.parametrize("options", [{"rw": "randwrite"}, {"rw": "randrw"}, {"rw": "randwrite", "dmabuf_buffers": "io_u"},
                                     {"rw": "randwrite", "verify_backlog": 64, "thread": 1}])
def test_threads_that_verify_see_the_data_at_any_time(fio: Fio, options: dict[str, Any]) -> None:
    """The dma-buf's memory is there for the CPU between the begin and the end of its access only."""
    common = {"size": "16m", "bs": "64k", "verify": "sha512", "dmabuf_datapath": "bounce", "stand_in": True,
              "iodepth_batch": 4, "iodepth_batch_complete_min": 4, "env": {"STAND_IN_STRICT": "1"}}
    plain = fio(**common, **options)
    assert plain.status == 0, plain.stderr
    result = fio(verify_async=3, **common, **options)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert report["proven"] is True
    assert report["issued"]["reads"] >= 128


@pytest.mark.parametrize("datapath,options", PATHS[:2])
def test_threads_that_verify_find_one_wrong_byte(fio: Fio, target: Path, datapath: str, options: dict[str, Any]) -> None:
    common: dict[str, Any] = {"rw": "write", "bs": "64k", "size": "4m", "verify": "pattern", "verify_pattern": "0x1d8109b7",
                              "verify_fatal": 1, "verify_async": 4, "dmabuf_datapath": datapath, **options}
    written = fio(do_verify=0, **common)
    assert written.status == 0, written.stderr
    good = fio(verify_only=1, **common)
    assert good.status == 0, good.stderr
    assert good.reports[0]["issued"]["reads"] == 64
    with open(target, "r+b") as file:
        file.seek(1234567)
        file.write(b"\0")
    assert fio(verify_only=1, **common).status != 0


def test_trims_of_what_was_written_are_refused_for_a_dma_buf(fio: Fio, tmp_path: Path) -> None:
    common: dict[str, Any] = {"rw": "randwrite", "filename": None, "dmabuf_datapath": "syscall", "stand_in": True,
                              "env": {"STAND_IN_MODULE": "x=1"}}
    result = fio(verify="crc32c", trim_percentage=10, trim_backlog=16, **common)
    assert result.status != 0
    assert "dmabuf_datapath=syscall has nothing to trim" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("submit,datapath", [("uring", "host"), ("sync", "syscall"), ("mmap", "syscall"), ("ioctl", "premapped")])
def test_offloaded_submission_is_refused_in_words(fio: Fio, submit: str, datapath: str) -> None:
    result = fio(io_submit_mode="offload", dmabuf_datapath=datapath, dmabuf_submit=submit, iodepth=1 if submit != "uring" else 16,
                 filename=None, direct=1, stand_in=True, env={"STAND_IN_MODULE": "x=1"})
    assert result.status != 0
    assert "io_submit_mode=offload submits from other threads" in result.stderr and "rate_iops" in result.stderr
    assert f"dmabuf_submit={submit}" in result.stderr
    assert "Use a sync engine" not in result.stderr + result.stdout
    assert not result.reports


def test_a_replayed_log_has_fios_own_counts(fio: Fio, tmp_path: Path, target: Path) -> None:
    """As many as fio's own engine is asked for."""
    log = write_log(tmp_path, growing(100))
    theirs = by_io_uring(tmp_path, f"--read_iolog={log}", "--read_iolog_chunked=1", "--iodepth=8")
    ours = replay(fio, log, "host", {})
    for kind in READ_WRITE:
        assert ours.total(kind, "total_ios") == theirs["jobs"][0][kind]["total_ios"]


if __name__ == "__main__":
    import ast

    apply_filter(ast.literal_eval(sys.argv[1]), sys.argv[2:])
