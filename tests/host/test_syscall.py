# SPDX-License-Identifier: GPL-2.0-only
"""datapath syscall: the dma-buf is the file. And the calls that wait for each I/O.

On the stand-in, whose dma-buf is a memfd and whose rw fd is that memfd, or a lie.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]

WITNESS = Path(__file__).resolve().parents[1] / "vm/fio/buffer_witness.py"
SUBMITS = [("uring", 16), ("sync", 1), ("mmap", 1)]
NO_CPU_VIEW, EOPNOTSUPP, EPROTO = 20, 95, 71


def syscall(fio: Fio, submit: str = "uring", iodepth: int = 16, settings: str = "x=1", **options: Any) -> Any:
    """A job whose files are dma-bufs; fio gives them names of its own."""
    env = {"STAND_IN_MODULE": settings} | options.pop("env", {})
    defaults = {"filename": None, "size": "4m", "dmabuf_datapath": "syscall", "dmabuf_submit": submit,
                "iodepth": iodepth}
    return fio(stand_in=True, env=env, **{**defaults, **options})


def check_clean(result: Any, submit: str, files: int = 1) -> None:
    assert result.status == 0, result.stderr
    assert result.reports
    for kind in ("read", "write"):
        for ours, fios in (("s", "total_ios"), ("_bytes", "io_bytes")):
            issued = sum(report["issued"][f"{kind}{ours}"] for report in result.reports)
            assert issued == result.total(kind, fios), kind
    for report in result.reports:
        assert (report["datapath"], report["submit"], report["proven"]) == ("syscall", submit, True)
        assert report["errors"] == report["short"] == report["retries"] == 0
        moved = report["issued"]["reads"] + report["issued"]["writes"]
        assert report["calls"] == (moved if submit != "uring" else 0)
        if submit == "mmap":
            assert report["files"]["count"] == 0
            assert report["copies"]["from_buffer_bytes"] == report["issued"]["read_bytes"]
            assert report["copies"]["to_buffer_bytes"] == report["issued"]["write_bytes"]
        else:
            assert report["files"]["count"] == report["files"]["same_as_dmabuf"] == files
            assert report["memory"] == "system"


@pytest.mark.parametrize("submit,iodepth", SUBMITS)
@pytest.mark.parametrize("rw", ["read", "randread", "write", "randwrite", "randrw"])
def test_every_direction(fio: Fio, submit: str, iodepth: int, rw: str) -> None:
    result = syscall(fio, submit, iodepth, rw=rw)
    check_clean(result, submit)
    issued = result.reports[0]["issued"]
    assert issued["read_bytes"] + issued["write_bytes"] == 4 << 20


@pytest.mark.parametrize("submit,iodepth", SUBMITS)
def test_nothing_touches_the_disk(fio: Fio, tmp_path: Path, submit: str, iodepth: int) -> None:
    """Neither is a file made, nor one of that name written or removed."""
    check_clean(syscall(fio, submit, iodepth, rw="randrw"), submit)
    assert {path.name for path in tmp_path.iterdir()} <= {"report.json", "local-t-0-verify.state"}
    (tmp_path / "t.0.0").write_text("mine")
    check_clean(syscall(fio, submit, iodepth, rw="write", unlink=1), submit)
    assert (tmp_path / "t.0.0").read_text() == "mine"


@pytest.mark.parametrize("submit,iodepth", SUBMITS)
@pytest.mark.parametrize("options", [
    {"bs": "512"}, {"bs": "64k", "direct": 1}, {"bsrange": "4k-128k"}, {"bs": "1m", "iodepth_batch": 4},
    {"nrfiles": 3, "openfiles": 1, "file_service_type": "random:4", "fsync": 16},
    {"numjobs": 2, "thread": 0, "nrfiles": 2}, {"numjobs": 2, "thread": 1, "nrfiles": 2},
    {"create_serialize": 0}, {"filesize": "1m", "nrfiles": 4, "size": "4m"}, {"offset": "1m"},
    {"filename": "one:two", "verify_backlog": 32},
])
def test_verify_finds_what_was_written(fio: Fio, submit: str, iodepth: int, options: dict[str, Any]) -> None:
    result = syscall(fio, submit, iodepth, rw="randrw", verify="crc32c", **options)
    assert result.status == 0, result.stderr
    assert len(result.reports) == options.get("numjobs", 1)
    for report in result.reports:
        assert report["proven"] is True
        assert report["issued"]["writes"] > 0
        if options.get("fsync"):
            assert report["issued"]["syncs"] > 10


def witness(*words: str) -> str:
    """Its command line. It is started by fio and must not be preloaded with the stand-in."""
    return " ".join(["env", "-u", "LD_PRELOAD", sys.executable, "-B", str(WITNESS), *words])


@pytest.mark.parametrize("submit,iodepth", SUBMITS)
@pytest.mark.parametrize("thread", [0, 1])
def test_what_fio_writes_is_in_the_dma_buf(fio: Fio, tmp_path: Path, submit: str, iodepth: int, thread: int) -> None:
    """Another process looks at every byte after the run, by mmap."""
    common: dict[str, Any] = {"rw": "randwrite", "nrfiles": 2, "thread": thread, "buffer_pattern": "0x0badcafe"}
    result = syscall(fio, submit, iodepth, exec_postrun=witness("check", "0badcafe"), **common)
    check_clean(result, submit, files=2)
    assert "witness: check 2 dma-bufs, 4194304 bytes" in (tmp_path / "t.postrun.txt").read_text()
    # ... and would see it if it were not so.
    syscall(fio, submit, iodepth, exec_postrun=witness("check", "0badcaff"), **common)
    assert "WRONG at byte 3 of" in (tmp_path / "t.postrun.txt").read_text()


@pytest.mark.parametrize("submit,iodepth", SUBMITS)
@pytest.mark.parametrize("serialize", [0, 1])
def test_what_fio_reads_is_from_the_dma_buf(fio: Fio, submit: str, iodepth: int, serialize: int) -> None:
    """Another process put it there before the run."""
    common: dict[str, Any] = {"rw": "randread", "verify": "pattern", "verify_pattern": "0x0badcafe", "bs": "8k",
              "create_serialize": serialize}
    assert syscall(fio, submit, iodepth, **common).status != 0, "nothing is there"
    if serialize:  # else fio 3.33 does not know the file before it opens it
        result = syscall(fio, submit, iodepth, exec_prerun=witness("fill", "0badcafe"), **common)
        check_clean(result, submit)
        twice = f"{witness('fill', '0badcafe')} && {witness('damage', '777777')}"
        assert syscall(fio, submit, iodepth, exec_prerun=twice, **common).status != 0, "one byte"


def test_syncs_have_nothing_to_do_and_are_counted(fio: Fio) -> None:
    for submit, iodepth in SUBMITS:
        result = syscall(fio, submit, iodepth, rw="write", fsync=64, end_fsync=1)
        check_clean(result, submit)
        assert result.reports[0]["issued"]["syncs"] >= 15


def check_refused(result: Any, *words: str) -> None:
    assert result.status != 0
    ours = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf: job t: ")]
    assert len(ours) == 1, result.stderr
    for word in words:
        assert word in ours[0], ours
    assert not result.reports


@pytest.mark.parametrize("name", ["/dev/null", "-"])
def test_a_device_is_not_the_dma_buf(fio: Fio, name: str) -> None:
    check_refused(syscall(fio, filename=name), "dma-buf itself", f"leave {name} alone", "drop filename")


def test_without_a_size_fio_says_so(fio: Fio) -> None:
    result = syscall(fio, size=None)
    assert result.status != 0
    assert "size=" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("options,words", [
    ({"rw": "randtrim"}, ["trim", "syscall"]),
    ({"submit": "sync", "iodepth": 4}, ["dmabuf_submit=sync", "iodepth=4"]),
    ({"submit": "mmap", "iodepth": 1, "registerfiles": 1}, ["registerfiles", "mmap"]),
    ({"submit": "ioctl", "iodepth": 1}, ["dmabuf_submit=ioctl", "premapped or bvec"]),
    ({"submit": "sync", "iodepth": 1, "dmabuf_datapath": "bvec"}, ["dmabuf_submit=sync", "syscall"]),
    ({"submit": "ioctl", "iodepth": 1, "dmabuf_datapath": "auto"}, ["dmabuf_submit=ioctl", "auto"]),
    ({"submit": "mmap", "iodepth": 1, "dmabuf_timeout_ms": 9}, ["dmabuf_timeout_ms", "mmap"]),
    ({"settings": "features=0xbf"}, ["datapath syscall", "newer module"]),
    ({"settings": f"open_errno={EOPNOTSUPP},open_reason={NO_CPU_VIEW}"}, ["as a file", "NO_CPU_VIEW"]),
    ({"settings": "open_lie=1"}, ["not the dma-buf", "read() does not see"]),
    ({"settings": "open_lie=2"}, ["not the dma-buf", "4198400 bytes"]),
    ({"env": {"STAND_IN_FAIL": "create:12"}}, ["udmabuf refused"]),
    ({"size": "60g"}, ["lower size"]),
])
def test_what_cannot_work_is_refused_in_a_sentence(fio: Fio, options: dict[str, Any], words: list[str]) -> None:
    check_refused(syscall(fio, **options), *words)


def test_the_mmap_control_needs_no_module(fio: Fio) -> None:
    result = syscall(fio, "mmap", 1, rw="randrw", env={"STAND_IN_FAIL": "open-module:2"})
    check_clean(result, "mmap")


# The engine's own calls: two reads to see that the file is the dma-buf, before and after.
@pytest.mark.parametrize("code,name,words", [(5, "EIO", "dmesg"), (19, "ENODEV", "REVOKED"),
                                             (110, "ETIMEDOUT", "FENCE_TIMEOUT")])
@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_call_that_fails_fails_the_job_and_is_explained(
    fio: Fio, kind: str, code: int, name: str, words: str
) -> None:
    result = syscall(fio, "sync", 1, rw=kind, env={"STAND_IN_FAIL": f"p{kind}:{code}:100"})
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == code
    assert name in result.stderr and words in result.stderr
    assert result.reports[0]["errors"] == 1
    assert result.reports[0]["issued"][f"{kind}s"] == 97  # the 98th of fio's own is the 100th


def test_again_and_interrupted_calls_are_made_again(fio: Fio) -> None:
    result = syscall(fio, "sync", 1, rw="read", env={"STAND_IN_FAIL": "pread:11:50:3"})
    assert result.status == 0, result.stderr
    assert (result.reports[0]["retries"], result.reports[0]["calls"]) == (3, 1024 + 3)
    result = syscall(fio, "sync", 1, rw="read", env={"STAND_IN_FAIL": "pread:4:50:3"})
    assert result.status == 0, result.stderr
    assert (result.reports[0]["retries"], result.reports[0]["calls"]) == (0, 1024 + 3)


def test_again_for_ever_is_an_error(fio: Fio) -> None:
    result = syscall(fio, "sync", 1, rw="read", env={"STAND_IN_FAIL": "pread:11:50"})
    assert result.json["jobs"][0]["error"] == 11
    assert result.reports[0]["retries"] == 100


def test_a_file_that_is_not_the_dma_buf_in_the_end_proves_nothing(fio: Fio) -> None:
    """2 reads of the engine's, 1024 of fio's, then the first of the last check fails."""
    result = syscall(fio, "sync", 1, rw="read", env={"STAND_IN_FAIL": "pread:5:1027"})
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == EPROTO
    assert "NOT PROVEN: 0 of 1 files were seen to be the dma-buf" in result.stderr
    assert result.reports[0]["issued"]["reads"] == 1024


@pytest.mark.parametrize("datapath", ["premapped", "bvec"])
@pytest.mark.parametrize("thread", [0, 1])
def test_the_modules_rw_call_moves_and_is_counted(fio: Fio, tmp_path: Path, datapath: str, thread: int) -> None:
    common: dict[str, Any] = {"filename": str(tmp_path / "target"), "direct": 1, "dmabuf_datapath": datapath, "thread": thread}
    result = syscall(fio, "ioctl", 1, rw="randrw", verify="crc32c", bsrange="4k-64k", **common)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert (report["datapath"], report["submit"], report["proven"]) == (datapath, "ioctl", True)
    for key in ("reads", "writes", "read_bytes", "write_bytes"):
        assert report["module"][key] == report["issued"][key] > 0
    assert report["calls"] == report["issued"]["reads"] + report["issued"]["writes"]
    pattern = syscall(fio, "ioctl", 1, rw="write", bs="32k", buffer_pattern="0xdeadbeef", fsync=8, **common)
    assert pattern.status == 0, pattern.stderr
    assert pattern.reports[0]["issued"]["syncs"] >= 15
    assert (tmp_path / "target").read_bytes() == bytes.fromhex("deadbeef") * (1 << 20)


def test_a_failed_rw_call_fails_the_job(fio: Fio, tmp_path: Path) -> None:
    common: dict[str, Any] = {"filename": str(tmp_path / "target"), "dmabuf_datapath": "bvec", "rw": "read"}
    result = syscall(fio, "ioctl", 1, settings="rw_errno=5", **common)
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 5
    check_refused(syscall(fio, "ioctl", 1, settings="features=0x7f", **common), "the ioctl IO", "newer module")
    result = syscall(fio, "ioctl", 1, settings="reads=1", **common)
    assert result.json["jobs"][0]["error"] == EPROTO, "the module counts more than was asked"


@pytest.mark.parametrize("datapath", ["premapped", "bvec"])
def test_mapping_again_every_so_many_ios(fio: Fio, tmp_path: Path, datapath: str) -> None:
    """Each of the mappings counts its own I/Os; none is lost."""
    common: dict[str, Any] = {"filename": f"{tmp_path}/a:{tmp_path}/b", "direct": 1, "dmabuf_datapath": datapath,
                              "rw": "randrw", "verify": "crc32c", "size": "1m"}
    result = syscall(fio, "ioctl", 1, dmabuf_remap_every=10, **common)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    ios = report["issued"]["reads"] + report["issued"]["writes"]
    assert report["module"]["reads"] + report["module"]["writes"] == ios
    assert report["remaps"] == (ios - 1) // 10
    assert syscall(fio, "ioctl", 1, **common).reports[0]["remaps"] == 0


def test_a_mapping_that_fails_later_ends_the_job(fio: Fio, tmp_path: Path) -> None:
    result = syscall(fio, "ioctl", 1, settings="error=12,reason=25,error_from=2", filename=str(tmp_path / "target"),
                     direct=1, dmabuf_datapath="bvec", rw="write", dmabuf_remap_every=100)
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 12
    assert "out of memory (NO_MEMORY, ENOMEM)" in result.stderr
    assert result.reports[0]["issued"]["writes"] == 200
    assert result.reports[0]["proven"] is True


@pytest.mark.parametrize("datapath", ["premapped", "bvec"])
def test_a_dma_buf_for_each_slot_by_the_modules_call(fio: Fio, tmp_path: Path, datapath: str) -> None:
    result = syscall(fio, "ioctl", 1, filename=f"{tmp_path}/a:{tmp_path}/b", direct=1, dmabuf_datapath=datapath,
                     rw="randrw", verify="crc32c", bs="16k", dmabuf_buffers="io_u", dmabuf_remap_every=10)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert (report["proven"], report["buffers"], report["buffer_bytes"]) == (True, 1, 16384)
    assert report["remaps"] > 10
