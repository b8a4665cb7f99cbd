# SPDX-License-Identifier: GPL-2.0-only
"""What people reported of fio and its engines, tried on this one: the table is in docs/testing.md."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment
from test_parity import plain_environment

JOBS = Path(__file__).parents[2] / "jobs"
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

HOST: tuple[str, dict[str, Any]] = ("host", {})


@pytest.mark.parametrize("datapath,more,block,options,words", [
    (*HOST, 512, {"bs": 24577}, "bs=24577"),
    ("bounce", {"stand_in": True}, 512, {"bs": 24577}, "bs=24577"),
    ("premapped", MODULE, 512, {"bs": 24577}, "bs=24577"),
    (*HOST, 4096, {"bs": 512}, "bs=512"),
    (*HOST, 4096, {"bs": None, "bssplit": "64k/80:4608/20"}, "bs=4608"),
    (*HOST, 4096, {"bs": None, "bsrange": "4k-10000"}, "bs=10000"),
    (*HOST, 512, {"bs": None, "bsrange": "4k-1m", "bs_unaligned": 1}, "bs_unaligned=1"),
    (*HOST, 4096, {"bs": "4k", "blockalign": 512}, "blockalign=512"),
    (*HOST, 4096, {"bs": "4k", "offset": 512}, "offset=512"),
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
    (4096, {"bs": None, "bssplit": "4k/50:64k/50", "direct": 1}),
    (4096, {"bs": 24577, "direct": 0}),
])
def test_what_fits_is_moved(fio: Fio, loop_device: Callable[[int], str], block: int, options: dict[str, Any]) -> None:
    for rw in ("write", "randread"):
        result = fio(filename=loop_device(block), size="8m", rw=rw, dmabuf_datapath="host", verify="crc32c" if rw == "write" else None,
                     **options)
        assert result.status == 0, result.stderr
        assert result.reports[0]["proven"] is True


def test_the_end_of_a_file_is_short_and_no_error(fio: Fio, tmp_path: Path) -> None:
    """The kernel moves what there is."""
    target = tmp_path / "target"
    target.write_bytes(os.urandom((8 << 20) + 4000))
    log = tmp_path / "log"
    reads = [(at, 1 << 20) for at in range(0, 9 << 20, 1 << 20)]
    log.write_text("fio version 2 iolog\n" + "\n".join(
        [f"{target} add", f"{target} open", *(f"{target} read {at} {length}" for at, length in reads), f"{target} close"]) + "\n")
    result = fio(filename=None, size=None, bs=None, rw="read", direct=1, read_iolog=str(log), iodepth=1, dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert (report["short"], report["errors"], report["proven"]) == (1, 0, True)
    assert report["issued"]["read_bytes"] == (8 << 20) + 4000


def test_lengths_of_a_replayed_log_are_its_own(fio: Fio, tmp_path: Path, loop_device: Callable[[int], str]) -> None:
    device = loop_device(512)
    log = tmp_path / "log"
    log.write_text(f"fio version 2 iolog\n{device} add\n{device} open\n{device} read 0 4096\n{device} close\n")
    result = fio(filename=None, size=None, bs=1000, rw="read", direct=1, read_iolog=str(log), dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    assert result.reports[0]["issued"]["reads"] == 1


# --- logs at a depth of 1024: fio's own abort (axboe/fio #2114) ---

def job_file(tmp_path: Path, *words: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """fio with job files of this project, on a file."""
    library = environment("LIBDMABUF")
    (tmp_path / "target").write_bytes(os.urandom(16 << 20))
    variables = plain_environment() | {"DEV": str(tmp_path / "target"), "SIZE": "16m", "RUNTIME": "1",
                                       "ENGINE": f"external:{library}"} | (env or {})
    return subprocess.run([*prefix, environment("FIO"), f"--ioengine=external:{library}", "--dmabuf_datapath=host", *words],
                          cwd=tmp_path, env=variables, text=True, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("log", ["bw", "iops", "lat"])
def test_the_job_with_a_thousand_ios_in_flight_can_be_logged(tmp_path: Path, log: str) -> None:
    done = job_file(tmp_path, f"--write_{log}_log={tmp_path}/log", str(JOBS / "stress/depth-1024.fio"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proven" in done.stderr
    assert list(tmp_path.glob(f"log_{log}.*.log"))


def test_no_job_has_a_depth_at_which_fio_cannot_log() -> None:
    files = list(JOBS.rglob("*.fio"))
    assert len(files) > 20
    for path in files:
        for depth in re.findall(r"^iodepth=(\d+)$", path.read_text(), re.MULTILINE):
            # A log's spare room is the next power of two, at least 1024; it has to be more than the depth.
            assert int(depth) < 1024 or int(depth) & (int(depth) - 1), path


# --- fdatasync, and what fio makes of it ---

@pytest.mark.parametrize("depth", [1, 16])
def test_fdatasync_is_counted_as_such_and_not_as_short(fio: Fio, depth: int) -> None:
    """fio up to 3.42 counts it beyond the end of an array, in the short_ios of reads."""
    result = fio(rw="write", size="1m", iodepth=depth, fdatasync=8, dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert (report["short"], report["errors"], report["proven"]) == (0, 0, True)
    assert report["issued"]["writes"] == 256
    # With more than one in flight fio asks for more than one in eight.
    syncs = report["issued"]["syncs"]
    assert syncs == 31 if depth == 1 else syncs >= 31
    assert result.total("read", "short_ios") in (0, syncs)


def test_nothing_judges_by_fios_count_of_short_ios() -> None:
    top = Path(__file__).parents[2]
    places = [path for folder in ("scripts", "tests", "engine") for path in (top / folder).rglob("*") if path.is_file()]
    assert len(places) > 200
    for path in places:
        if path != Path(__file__).resolve() and path.suffix != ".pyc":
            assert b"short_ios" not in path.read_bytes(), path


def test_a_rate_with_fdatasync_goes_on(fio: Fio) -> None:
    result = fio(rw="write", size="256k", rate_iops=100, fdatasync=1, iodepth=1, dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    assert result.reports[0]["issued"]["writes"] == 64
    assert result.json["jobs"][0]["write"]["runtime"] >= 500, "64 writes, of 100 in a second"


# --- NVMe over something else than PCI ---

def test_paths_over_tcp_are_named_as_none_over_pci(fio: Fio) -> None:
    result = fio(direct=1, dmabuf_datapath="premapped", stand_in=True,
                 env={"STAND_IN_MODULE": "error=95,reason=13"})
    assert result.status != 0
    for words in ("no usable path over PCI", "TCP", "MULTIPATH", "dmabuf_datapath=registered"):
        assert words in result.stderr


# --- polling what cannot be polled ---

def test_a_file_system_that_cannot_be_polled_is_no_broken_drive(fio: Fio) -> None:
    """Nothing in sysfs says so of a file system without a disk."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as target:
        target.truncate(1 << 20)
        result = fio("--hipri", filename=target.name, size="1m", direct=1, rw="read", dmabuf_datapath="host")
    assert result.status != 0
    assert "cannot be polled" in result.stderr and "drop hipri" in result.stderr


def test_a_device_that_cannot_be_polled_is_refused(fio: Fio, loop_device: Callable[[int], str]) -> None:
    result = fio("--hipri", filename=loop_device(512), size="1m", direct=1, dmabuf_datapath="host")
    assert result.status != 0
    assert "has no polled queues" in result.stderr
    assert not result.reports


# --- trims of what was written, to be verified ---

@pytest.mark.parametrize("options", [
    {"rw": "randwrite", "verify": "crc32c", "verify_backlog": 200, "trim_percentage": 5, "trim_backlog": 50},
    {"rw": "trimwrite", "bs": "64k"}, {"rw": "randtrim", "bs": "64k"},
])
def test_trims_have_the_verdict_and_the_number_of_fios_engine(fio: Fio, tmp_path: Path, loop_device: Callable[[int], str],
                                                              options: dict[str, Any]) -> None:
    job: dict[str, Any] = {"bs": "16k", "size": "8m", "iodepth": 16, "direct": 1, "randseed": 1} | options
    words = [f"--filename={loop_device(512)}", *(f"--{key}={value}" for key, value in job.items())]
    theirs = subprocess.run([environment("FIO"), "--name=t", "--ioengine=io_uring", "--output-format=json", *words], cwd=tmp_path,
                            text=True, capture_output=True, check=False, timeout=120)
    result = fio(filename=loop_device(512), dmabuf_datapath="host", **job)
    if theirs.returncode:  # fio 3.33 itself aborts: trims in a job that is none of trims
        assert "fio_ro_check: Assertion" in theirs.stderr and "fio_ro_check: Assertion" in result.stderr
        assert "trim_percentage" in options
        return
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert report["issued"]["trims"] == result.total("trim", "total_ios") > 0
    assert result.total("trim", "total_ios") == json.loads(theirs.stdout)["jobs"][0]["trim"]["total_ios"]
    assert report["proven"] is True


# --- lengths of any number of bytes ---

SYSCALL: dict[str, Any] = {"filename": None, "dmabuf_datapath": "syscall", **MODULE}


def test_a_dma_buf_takes_any_number_of_bytes(fio: Fio) -> None:
    result = fio(rw="randwrite", size="4m", bs=None, bsrange="1000-65536",
                 bs_unaligned=1, verify="md5", serialize_overlap=1, **SYSCALL)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert report["proven"] is True
    assert report["issued"]["read_bytes"] == report["issued"]["write_bytes"] > 0
    assert (report["short"], report["errors"]) == (0, 0)


def test_a_block_shorter_than_its_checksum_crashes_nothing(fio: Fio) -> None:
    result = fio(rw="write", size="64k", bs=44, verify="crc64", **SYSCALL)
    assert "got signal" not in result.stderr + result.stdout
    if not result.status:
        assert result.reports[0]["proven"] is True


# --- an engine's name given twice ---

@pytest.mark.parametrize("thread", [[], ["--thread"]])
def test_several_job_files_may_name_the_engine(tmp_path: Path, thread: list[str]) -> None:
    """The command line, the environment and each file's include: fio up to 3.41 keeps a pointer in a freed name."""
    report = tmp_path / "report"
    files = [tmp_path / "one.fio", tmp_path / "two.fio"]
    for path in files:  # the engine's options of the command line are gone with its second name: fio's
        path.write_text(f"[global]\ninclude {JOBS}/include/target.fio\ndmabuf_datapath=host\ndmabuf_report={report}\nrw=randread\n"
                        f"[{path.stem}]\nioengine=${{ENGINE}}\n")
    done = job_file(tmp_path, *thread, *(str(path) for path in files), env={"MALLOC_PERTURB_": "165"})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["proven"] and line["datapath"] == "host" for line in lines)


# --- files of the user ---

@pytest.mark.parametrize("options", [{}, {"unlink": 1}, {"unlink_each_loop": 1, "loops": 2}, {"overwrite": 1}, {"create_only": 1},
                                     {"allow_file_create": 0}, {"fallocate": "none"}])
def test_a_file_of_the_same_name_is_left_alone_and_said_so(fio: Fio, tmp_path: Path, options: dict[str, Any]) -> None:
    kept = tmp_path / "kept"
    kept.write_text("keep\n")
    result = fio(rw="randrw", size="1m", **{**SYSCALL, "filename": str(kept)}, **options)
    assert result.status == 0, result.stderr
    assert kept.read_text() == "keep\n"
    assert result.stderr.count(f"the file {kept} is left alone") == 1, result.stderr


def test_where_there_is_no_such_file_nothing_is_said(fio: Fio, tmp_path: Path) -> None:
    result = fio(rw="randrw", size="1m", **{**SYSCALL, "filename": str(tmp_path / "none")})
    assert result.status == 0, result.stderr
    assert "left alone" not in result.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("unlink", [0, 1])
def test_the_job_after_one_that_removed_its_file_has_its_depth(fio: Fio, tmp_path: Path, unlink: int) -> None:
    result = fio(f"--unlink={unlink}", "--name=after", "--stonewall", f"--filename={tmp_path}/target", "--size=8m", "--rw=randwrite",
                 "--iodepth=16", f"--ioengine=external:{environment('LIBDMABUF')}", "--dmabuf_datapath=host",
                 rw="randwrite", size="8m", dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    # fio's stdout has its lines on the two jobs first.
    levels = [job["iodepth_level"] for job in json.loads(result.stdout[result.stdout.index("{\n"):])["jobs"]]
    assert len(levels) == 2
    for level in levels:
        assert level["16"] > 90, levels


# --- devices that are dealt out ---

@pytest.mark.parametrize("thread", [0, 1])
def test_a_device_that_is_not_there_fails_its_own_job_only(fio: Fio, thread: int) -> None:
    result = fio(numjobs=3, thread=thread, size="1m", dmabuf_datapath="bounce", stand_in=True,
                 dmabuf_device="/dev/udmabuf:/dev/udmabuf:/dev/nothing", offset_increment="1m")
    assert result.status != 0
    said = [line for line in result.stderr.splitlines() if "/dev/nothing" in line and line.startswith("libdmabuf:")]
    assert len(said) == 1, result.stderr
    if not thread:  # threads end together: fio gives up on all of them
        assert len(result.reports) == 2
    assert all(report["proven"] and report["device"] == "/dev/udmabuf" for report in result.reports)


# --- the namespace's character device ---

@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node")
@pytest.mark.parametrize("datapath", ["auto", "host", "premapped"])
def test_a_namespaces_character_device_is_named(fio: Fio, tmp_path: Path, datapath: str) -> None:
    node = tmp_path / "ng0n1"
    os.mknod(node, 0o20600, os.makedev(1, 5))
    result = fio(filename=str(node), direct=1, size=None, dmabuf_datapath=datapath, **MODULE)
    assert result.status != 0
    assert f"{node} takes NVMe commands" in result.stderr
    assert f"{tmp_path}/nvme0n1" in result.stderr
    assert not result.reports


# --- many jobs, and a ramp ---

@pytest.mark.parametrize("thread", [0, 1])
def test_sixteen_jobs_with_a_ramp_all_run(fio: Fio, thread: int) -> None:
    """The report counts what was issued while fio did not count yet."""
    result = fio("--time_based", "--group_reporting", thread=thread, numjobs=16, ramp_time=1, runtime=1, iodepth=4, rate_iops=500,
                 dmabuf_datapath="host")
    assert result.status == 0, result.stderr
    assert len(result.reports) == 16
    assert all(report["proven"] and report["issued"]["reads"] for report in result.reports)
    assert sum(report["issued"]["reads"] for report in result.reports) > result.total("read", "total_ios") > 0


# --- signals ---

def started(tmp_path: Path, wanted: int) -> list[Path]:
    """Waits until so many jobs run."""
    for _ in range(600):
        marks = list(tmp_path.glob("started.*"))
        if len(marks) >= wanted:
            return marks
        time.sleep(0.1)
    pytest.fail("the jobs do not start")


@pytest.mark.parametrize("datapath,more", [("host", []), ("host", ["--thread"]), ("bounce", []), ("syscall", [])])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_stopped_goes_on_and_one_that_is_ended_is_proven(tmp_path: Path, datapath: str, more: list[str],
                                                                       number: signal.Signals) -> None:
    report = tmp_path / "report"
    target = [] if datapath == "syscall" else [f"--filename={tmp_path}/target"]
    words = ["--name=t", *target, "--size=4m", "--rw=randrw", "--bs=4k", "--iodepth=16", "--numjobs=4", "--time_based",
             "--runtime=300", *more, "--exec_prerun=mktemp started.XXXXXX", f"--ioengine=external:{environment('LIBDMABUF')}",
             f"--dmabuf_datapath={datapath}", f"--dmabuf_report={report}"]
    variables = plain_environment() | {"STAND_IN_MODULE": "x=1"}
    variables["LD_PRELOAD"] = ":".join(filter(None, [variables.get("LD_PRELOAD"), environment("STAND_IN")]))
    with subprocess.Popen([environment("FIO"), *words], cwd=tmp_path, env=variables, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as process:
        started(tmp_path, 4)
        time.sleep(1)
        for _ in range(3):
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.2)
            os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.2)
        assert process.poll() is None, process.stderr
        process.send_signal(number)
        try:
            said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(lines) == 4, said
    for line in lines:
        assert (line["proven"], line["errors"], line["unreaped"]) == (True, 0, 0), line
        assert line["issued"]["reads"] > 0


# --- a server's job that is killed: fio's client ends with status 0 ---

def holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(path):
                found.add(int(link.parts[2]))
    return sorted(found)


def holder(path: Path) -> int:
    """The process that works on a file: fio also opens it for a moment to learn its size."""
    seen: list[int] = []

    def stays() -> bool:
        before, seen[:] = seen[:], holders(path)
        return len(seen) == 1 and before == seen

    wait_until(stays, 1)
    return seen[0]


def client_of_a_killed_job(tmp_path: Path, engine: str) -> subprocess.CompletedProcess[str]:
    """fio's client, when the process that did its job at fio's server was killed."""
    place, target, job = tmp_path / "s", tmp_path / "target", tmp_path / "job.fio"
    job.write_text(f"[t]\n{engine}\nfilename={target}\nsize=4m\nrw=randread\ntime_based\nruntime=100\n")
    target.write_bytes(bytes(4 << 20))
    with (tmp_path / "log").open("wb") as log, \
            subprocess.Popen([environment("FIO"), f"--server=sock:{place}"], stdout=log, stderr=log, env=plain_environment()) as server:
        try:
            wait_until(place.exists)
            with subprocess.Popen([environment("FIO"), f"--client=sock:{place}", str(job)], cwd=tmp_path, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment()) as client:
                doing = holder(target)
                os.kill(doing, signal.SIGKILL)
                out, err = client.communicate(timeout=60)
        finally:
            server.terminate()
    return subprocess.CompletedProcess(client.args, client.returncode, out, err)


def wait_until(holds: Callable[[], bool], every: float = 0.05) -> None:
    """On a busy machine as well."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(every)


def test_a_servers_job_that_was_killed_is_status_0_with_fios_engine_too() -> None:
    """fio's own: who would miss the job leaves by _exit(), and the client has no word for a job that vanished."""
    ours = f"ioengine=external:{environment('LIBDMABUF')}\ndmabuf_datapath=host"
    for engine in ("ioengine=io_uring", ours):
        with tempfile.TemporaryDirectory() as folder:  # a socket's name is short
            client = client_of_a_killed_job(Path(folder), engine)
        assert "got signal=9" in client.stdout + client.stderr, engine
        assert client.returncode == 0, engine
