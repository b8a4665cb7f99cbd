# SPDX-License-Identifier: GPL-2.0-only
"""I/O through fio: what arrives, what is counted, what is said about it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]

# datapath, and whether it needs the stand-in for /dev/udmabuf
PATHS = [("host", False), ("bounce", True)]


def check_counts(result: Any) -> None:
    """The engine's counts equal fio's."""
    for kind in ("read", "write"):
        issued = sum(report["issued"][f"{kind}s"] for report in result.reports)
        assert issued == result.total(kind, "total_ios"), kind
        issued_bytes = sum(report["issued"][f"{kind}_bytes"] for report in result.reports)
        assert issued_bytes == result.total(kind, "io_bytes"), kind


def check_clean(result: Any, datapath: str) -> None:
    assert result.status == 0, result.stderr
    assert result.reports
    for report in result.reports:
        assert report["version"] == 1
        assert report["datapath"] == report["datapath_requested"] == datapath
        assert report["proven"] is True
        assert report["errors"] == report["short"] == report["retries"] == 0
        assert f"libdmabuf: job {report['job']}: datapath {datapath} (asked: {datapath})" in result.stderr
    check_counts(result)


@pytest.mark.parametrize("datapath,stand_in", PATHS)
@pytest.mark.parametrize("iodepth", [1, 3, 32, 200])
@pytest.mark.parametrize("rw", ["read", "randread", "write", "randwrite", "randrw"])
def test_every_direction_at_every_depth(fio: Fio, datapath: str, stand_in: bool, rw: str, iodepth: int) -> None:
    result = fio(rw=rw, iodepth=iodepth, size="4m", dmabuf_datapath=datapath, stand_in=stand_in)
    check_clean(result, datapath)
    moved = sum(report["issued"]["read_bytes"] + report["issued"]["write_bytes"] for report in result.reports)
    assert moved == 4 << 20


@pytest.mark.parametrize("datapath,stand_in", PATHS)
@pytest.mark.parametrize("bs", ["512", "4k", "64k", "4k-128k", "1m"])
@pytest.mark.parametrize("direct", [0, 1])
def test_verify_finds_what_was_written(fio: Fio, datapath: str, stand_in: bool, bs: str, direct: int) -> None:
    size = {"bsrange": bs} if "-" in bs else {"bs": bs}
    result = fio(
        rw="randrw", verify="crc32c", iodepth=16, size="4m", direct=direct, dmabuf_datapath=datapath,
        stand_in=stand_in, **size,
    )
    assert result.status == 0, result.stderr
    assert result.reports[0]["proven"] is True
    assert result.reports[0]["issued"]["writes"] > 0
    # Verification reads everything that was written once more.
    assert result.reports[0]["issued"]["read_bytes"] == 4 << 20


@pytest.mark.parametrize("datapath,stand_in", PATHS)
def test_verify_notices_damage(fio: Fio, tmp_path: Path, datapath: str, stand_in: bool) -> None:
    common = {"rw": "write", "verify": "crc32c", "size": "1m", "dmabuf_datapath": datapath, "stand_in": stand_in}
    assert fio(do_verify=0, **common).status == 0
    with open(tmp_path / "target", "r+b") as target:
        target.seek(300_000)
        byte = target.read(1)
        target.seek(300_000)
        target.write(bytes([byte[0] ^ 0xFF]))
    result = fio("--verify_only", **common)
    assert result.status != 0
    assert "verify" in result.stderr


@pytest.mark.parametrize("datapath,stand_in", PATHS)
def test_what_fio_says_it_wrote_is_in_the_file(fio: Fio, tmp_path: Path, datapath: str, stand_in: bool) -> None:
    pattern = "0xdeadbeef"
    check_clean(
        fio(rw="write", bs="8k", size="1m", buffer_pattern=pattern, dmabuf_datapath=datapath, stand_in=stand_in),
        datapath,
    )
    assert (tmp_path / "target").read_bytes() == bytes.fromhex("deadbeef") * (1 << 18)


def test_bounce_reads_what_is_in_the_file(fio: Fio, tmp_path: Path) -> None:
    """The read lands in the dma-buf's memory: fio's pattern check looks there."""
    (tmp_path / "target").write_bytes(bytes.fromhex("0badcafe") * (1 << 18))
    options: dict[str, str | int] = {
        "rw": "read", "size": "1m", "verify": "pattern", "verify_pattern": "0x0badcafe", "bs": "64k",
        "dmabuf_datapath": "bounce",
    }
    assert fio(stand_in=True, **options).status == 0
    with open(tmp_path / "target", "r+b") as target:
        target.seek(777_777)
        target.write(b"x")
    assert fio(stand_in=True, **options).status != 0


@pytest.mark.parametrize("datapath,stand_in", PATHS)
@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_syncs_are_issued_and_counted(fio: Fio, datapath: str, stand_in: bool, sync: str) -> None:
    result = fio(rw="randwrite", size="1m", iodepth=8, dmabuf_datapath=datapath, stand_in=stand_in, **{sync: 16})
    check_clean(result, datapath)
    syncs = result.reports[0]["issued"]["syncs"]
    assert syncs >= 15
    if sync == "fsync":  # fio's JSON does not count fdatasync
        assert syncs == result.total("sync", "total_ios")


def test_a_final_fsync_is_one_sync(fio: Fio) -> None:
    result = fio(rw="write", size="1m", end_fsync=1, dmabuf_datapath="host")
    check_clean(result, "host")
    assert result.reports[0]["issued"]["syncs"] == 1


def test_sync_file_range(fio: Fio) -> None:
    result = fio(rw="write", size="1m", sync_file_range="wait_before,write,wait_after:32", dmabuf_datapath="host")
    check_clean(result, "host")
    assert result.reports[0]["issued"]["syncs"] >= 7


def test_sync_file_range_of_a_file_without_writes_is_nothing(fio: Fio, tmp_path: Path) -> None:
    """Of several files one may be synced again before anything was written to it. Its range is empty, and fio's
    own call then does nothing; io_uring took it for an offset that no file has."""
    result = fio("--nrfiles=4", filename=None, directory=str(tmp_path), rw="randwrite", size="4m", iodepth_batch=16,
                 sync_file_range="write:1", dmabuf_datapath="host")
    check_clean(result, "host")
    assert result.reports[0]["errors"] == 0
    assert result.reports[0]["issued"]["syncs"] >= 256
    assert "sync_file_range" not in result.stderr


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A block device of 4 MiB, all bytes 0xaa."""
    image = tmp_path / "image"
    image.write_bytes(b"\xaa" * (4 << 20))
    attached = subprocess.run(
        ["losetup", "--find", "--show", str(image)], text=True, capture_output=True, check=False
    )
    if attached.returncode:
        pytest.skip(f"no loop device here: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    # The read-only flag belongs to the device and outlives what is attached to it.
    subprocess.run(["blockdev", "--setrw", device], check=True)
    yield device
    subprocess.run(["blockdev", "--setrw", device], check=True)
    subprocess.run(["losetup", "--detach", device], check=True)


def test_trims_are_done_and_counted(fio: Fio, loop_device: str) -> None:
    result = fio(filename=loop_device, rw="randtrim", bs="64k", size="4m", dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    assert result.reports[0]["issued"]["trims"] == 64
    assert result.reports[0]["issued"]["reads"] == 0
    with open(loop_device, "rb") as opened:
        assert opened.read() == bytes(4 << 20)


@pytest.mark.parametrize("datapath,stand_in", PATHS)
def test_block_devices(fio: Fio, loop_device: str, datapath: str, stand_in: bool) -> None:
    """fio opens them in its main process first, to learn their size."""
    result = fio(filename=loop_device, rw="randrw", size="4m", direct=1, dmabuf_datapath=datapath, stand_in=stand_in)
    check_clean(result, datapath)


def test_a_read_only_device_is_not_written(fio: Fio, loop_device: str) -> None:
    subprocess.run(["blockdev", "--setro", loop_device], check=True)
    result = fio(filename=loop_device, rw="randwrite", size="4m", dmabuf_datapath="host")
    assert result.status != 0
    assert "libdmabuf: job t: " in result.stderr
    assert "read-only" in result.stderr or "cannot be opened for writing" in result.stderr
    assert not result.reports
    check_clean(fio(filename=loop_device, rw="randread", size="4m", dmabuf_datapath="host"), "host")


@pytest.mark.parametrize("flag", ["--thread", "--thread=0"])
@pytest.mark.parametrize("datapath,stand_in", PATHS)
def test_several_jobs(fio: Fio, datapath: str, stand_in: bool, flag: str) -> None:
    result = fio(flag, rw="randrw", numjobs=3, size="2m", dmabuf_datapath=datapath, stand_in=stand_in)
    check_clean(result, datapath)
    assert sorted(report["job_number"] for report in result.reports) == [1, 2, 3]


def test_jobs_of_different_datapaths_in_one_process(fio: Fio, library: str) -> None:
    """Each job has its own table of hooks; threads would see each other's."""
    result = fio(
        "--name=second", "--rw=randread", "--size=2m", "--thread", f"--ioengine=external:{library}",
        "--dmabuf_datapath=bounce", "--dmabuf_report=report.json",
        rw="randread", size="2m", thread=1, dmabuf_datapath="host", stand_in=True,
    )
    assert result.status == 0, result.stderr
    assert {report["datapath"] for report in result.reports} == {"host", "bounce"}


@pytest.mark.parametrize("registerfiles", [0, 1])
def test_several_files_opened_and_closed_in_turn(fio: Fio, tmp_path: Path, registerfiles: int) -> None:
    names = ":".join(str(tmp_path / f"file{i}") for i in range(4))
    result = fio(
        filename=names, rw="randrw", size="4m", openfiles=2, file_service_type="random:4", loops=2, fsync=8,
        registerfiles=registerfiles, dmabuf_datapath="host",
    )
    check_clean(result, "host")
    assert result.reports[0]["target"] == names


def test_a_submission_thread(fio: Fio) -> None:
    result = fio(rw="randrw", size="2m", sqthread_poll=1, sqthread_poll_cpu=0, dmabuf_datapath="host")
    check_clean(result, "host")


@pytest.mark.parametrize("batch", [
    {"iodepth_batch": 8},
    {"iodepth_batch": 8, "iodepth_batch_complete_min": 4, "iodepth_batch_complete_max": 16},
    {"iodepth_batch_complete_min": 0},
    {"iodepth_low": 4},
])
def test_batches(fio: Fio, batch: dict[str, int]) -> None:
    result = fio(rw="randrw", size="4m", iodepth=32, dmabuf_datapath="host", **batch)
    check_clean(result, "host")


def test_time_based_jobs_and_rate_limits_end(fio: Fio) -> None:
    result = fio("--time_based", runtime=1, rate_iops=2000, size="1m", dmabuf_datapath="host")
    check_clean(result, "host")
    assert 1500 < result.reports[0]["issued"]["reads"] < 2500


def test_buffers_at_odd_offsets(fio: Fio) -> None:
    result = fio(rw="randrw", verify="md5", bs="12k", size="3m", iomem_align=512, direct=1,
                 dmabuf_datapath="bounce", stand_in=True)
    assert result.status == 0, result.stderr


def test_huge_pages_hold_the_buffer(fio: Fio) -> None:
    free = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()
                if line.startswith("HugePages_Free"))
    if not free:
        pytest.skip("no free huge pages here")
    result = fio(rw="randrw", verify="crc32c", size="1m", dmabuf_hugepages=1, dmabuf_datapath="bounce",
                 stand_in=True)
    assert result.status == 0, result.stderr
    assert result.reports[0]["buffer_bytes"] % (1 << 21) == 0


def test_cpu_access_is_bracketed(fio: Fio, tmp_path: Path) -> None:
    """Every beginning has its end, and a plain read job does not pay for each I/O on top of the copies."""
    log = tmp_path / "sync.log"
    result = fio(rw="read", size="1m", dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_LOG": str(log)})
    check_clean(result, "bounce")
    counts = dict(part.split("=") for part in log.read_text().split())
    assert counts["open"] == "0"
    # one for fio's first fill, one per copy
    assert int(counts["begins"]) == int(counts["ends"]) == 1 + 256


@pytest.mark.parametrize("options", [{"rw": "write"}, {"rw": "randrw", "verify": "crc32c"}])
def test_no_cpu_access_begins_within_another(fio: Fio, tmp_path: Path, options: dict[str, Any]) -> None:
    """To begin one for reading may drop what fio has just written, where devices do not look into caches."""
    log = tmp_path / "sync.log"
    result = fio(size="1m", dmabuf_datapath="bounce", stand_in=True, env={"STAND_IN_LOG": str(log)}, **options)
    assert result.status == 0, result.stderr
    counts = dict(part.split("=") for part in log.read_text().split())
    assert (counts["open"], counts["worst"]) == ("0", "1"), counts
    assert counts["begins"] == counts["ends"]


def test_the_report_names_what_ran(fio: Fio, tmp_path: Path) -> None:
    report = fio(dmabuf_datapath="bounce", stand_in=True).reports[0]
    assert report["exporter"] == "udmabuf"
    assert report["device"] == "/dev/udmabuf"
    assert report["target"] == str(tmp_path / "target")
    assert report["copies"] == {"to_buffer_bytes": 16 << 20, "from_buffer_bytes": 0}
    assert report["module"] is None
    assert report["buffer_bytes"] >= 16 * 4096
    host = fio(dmabuf_datapath="host").reports[0]
    assert (host["exporter"], host["device"], host["memory"], host["route"]) == ("none", "", "system", "memory")
    assert host["copies"] == {"to_buffer_bytes": 0, "from_buffer_bytes": 0}


def test_an_interrupted_job_still_reports(fio: Fio) -> None:
    """fio ends its jobs by a signal to itself; what was done up to then is counted."""
    # On a busy machine it takes a while until the job begins.
    interrupt = '"$@" & until [ -e started ]; do sleep 0.1; done; sleep 2; kill -INT $!; wait $!'
    result = fio("--time_based", runtime=60, size="1m", rate_iops=1000, dmabuf_datapath="host", exec_prerun="touch started",
                 prefix=("bash", "-c", interrupt, "bash"))
    assert result.reports, result.stderr
    assert result.reports[0]["proven"] is True
    assert 0 < result.reports[0]["issued"]["reads"] < 50_000


@pytest.mark.parametrize("options", [
    {}, {"thread": 1, "numjobs": 2}, {"iomem_align": 4096}, {"bsrange": "4k-64k"}, {"verify": "crc32c", "bs": "12k"},
])
def test_a_dma_buf_for_each_slot(fio: Fio, options: dict[str, Any]) -> None:
    result = fio(rw="randrw", size="4m", direct=1, dmabuf_datapath="bounce", dmabuf_buffers="io_u", stand_in=True,
                 **options)
    assert result.status == 0, result.stderr
    assert len(result.reports) == options.get("numjobs", 1)
    for report in result.reports:
        assert (report["proven"], report["buffers"]) == (True, 16)
        assert report["buffer_bytes"] == 16 * (64 << 10 if "bsrange" in options else 12288 if "bs" in options else 4096)
    assert fio(dmabuf_datapath="bounce", stand_in=True).reports[0]["buffers"] == 1
