# SPDX-License-Identifier: GPL-2.0-only
"""What a job loses, and what it is told, when it comes from fio's engine io_uring."""

import glob
import os
import platform
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

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
    result = fio(filename=loop_device, rw="randtrim", bs="64k", size="4m", iodepth=16, dmabuf_datapath="host",
                 **options)
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


@pytest.mark.parametrize("datapath", ["host", "premapped"])
def test_reads_of_a_job_without_buffers_are_errors(fio: Fio, loop_device: str, datapath: str) -> None:
    """fio verifies what it trimmed by reads into buffers that it has not made; its own engine crashes there."""
    result = fio(filename=loop_device, rw="trim", bs="64k", size="4m", iodepth=16, direct=1, verify="md5",
                 verify_backlog=1, experimental_verify=1, dmabuf_datapath=datapath, stand_in=True,
                 env={"STAND_IN_MODULE": "x=1"})
    assert "got signal" not in result.stderr + result.stdout
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 22


def test_a_trim_that_fails_is_named(fio: Fio, loop_device: str) -> None:
    """A loop device on a file takes discards of whole blocks only."""
    result = fio(filename=loop_device, rw="trim", bs=768, size="64k", iodepth=4, dmabuf_datapath="host")
    assert result.status != 0
    assert result.json["jobs"][0]["error"] == 22
    assert result.reports[0]["errors"] >= 1
    assert "(null)" not in result.stderr + result.stdout


def test_a_failed_io_has_its_details_in_fios_message(fio: Fio) -> None:
    result = fio(filename="/dev/full", rw="write", size="64k", dmabuf_datapath="host")
    assert result.status != 0
    assert re.search(r"fio: libdmabuf: datapath host, I/O slot \d+$", result.stderr + result.stdout, re.MULTILINE)
    # The stand-in's commands move nothing.
    result = fio(rw="read", size="1m", iodepth=1, direct=1, dmabuf_datapath="premapped", stand_in=True,
                 env={"STAND_IN_MODULE": f"status={0x281}"})
    assert result.status != 0
    assert re.search(r"fio: libdmabuf: datapath premapped, I/O slot 0, byte 0 of dma-buf 0; "
                     r"the drive's last error was sct=0x02, sc=0x81$", result.stderr + result.stdout, re.MULTILINE)


def cached_pages(path: str) -> int:
    """Pages of a file or block device that are in the page cache."""
    shown = subprocess.run(["fincore", "--noheadings", "--raw", "--output", "PAGES", path], text=True,
                           capture_output=True, check=True)
    return int(shown.stdout)


def test_uncached_reads_leave_no_pages(fio: Fio, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(bytes(4 << 20))
    os.sync()
    usual = fio(rw="read", size="4m", bs="64k", invalidate=1, dmabuf_datapath="host")
    assert usual.status == 0, usual.stderr
    assert cached_pages(str(target)) == 1024
    result = fio("--uncached=1", rw="read", size="4m", bs="64k", invalidate=1, dmabuf_datapath="host")
    if result.status and "has no uncached reads and writes" in result.stderr:
        assert not result.reports, "refused before the first I/O"
        pytest.skip("no uncached I/O here, and it was said")
    assert result.status == 0, result.stderr
    assert cached_pages(str(target)) < 512


def test_uncached_where_there_is_none_is_refused(fio: Fio) -> None:
    """A file system in memory keeps its pages: they are the file."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as target:
        target.truncate(1 << 20)
        result = fio("--uncached=1", filename=target.name, size="1m", dmabuf_datapath="host")
        assert result.status != 0
        assert "has no uncached reads and writes" in result.stderr
        assert not result.reports


def test_uncached_changes_nothing_for_direct_io(fio: Fio) -> None:
    """As in fio's engine: what O_DIRECT reads is in no cache."""
    result = fio("--uncached=1", direct=1, size="1m", dmabuf_datapath="host")
    assert result.status == 0, result.stderr


@pytest.mark.parametrize("option,datapath,why", [
    ("--uncached=1", "bvec", "page cache, which those of dmabuf_datapath=bvec cannot have"),
    ("--uncached=1", "syscall", "page cache, which those of dmabuf_datapath=syscall cannot have"),
    ("--readfua=1", "host", "Linux sets in no read"),
    ("--readfua=1", "auto", "set dmabuf_datapath=premapped"),
    ("--writefua=1", "syscall", "writes to memory"),
])
def test_flags_that_a_datapath_cannot_carry_are_refused(fio: Fio, option: str, datapath: str, why: str) -> None:
    result = fio(option, dmabuf_datapath=datapath, stand_in=True, filename=None, env={"STAND_IN_MODULE": "x=1"})
    assert result.status != 0
    assert why in result.stderr
    assert not result.reports


@pytest.mark.parametrize("datapath", ["premapped", "syscall"])
def test_a_hint_that_no_command_carries_is_refused(fio: Fio, datapath: str) -> None:
    """fio gives it to the file; of a write that passes the block layer Linux may make a placement identifier of it."""
    job: dict[str, Any] = {"size": "64k", "direct": 1, "dmabuf_datapath": datapath, "stand_in": True, "filename": None,
                           "env": {"STAND_IN_MODULE": "x=1"}}
    result = fio(rw="write", write_hint="short", **job)
    assert result.status != 0
    assert f"write_hint is for the block layer, which the I/O of dmabuf_datapath={datapath} does not pass" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("datapath,options", [
    ("host", {"rw": "write", "write_hint": "short"}),
    ("bvec", {"rw": "write", "write_hint": "short"}),
    ("premapped", {"rw": "write", "write_hint": "none"}),
    ("premapped", {"rw": "read", "write_hint": "short"}),
])
def test_a_hint_that_nothing_is_lost_of_is_accepted(fio: Fio, datapath: str, options: dict[str, Any]) -> None:
    result = fio(size="64k", direct=1, iodepth=1, dmabuf_datapath=datapath,
                 dmabuf_submit="uring" if datapath == "host" else "ioctl", stand_in=True,
                 env={"STAND_IN_MODULE": "x=1"}, **options)
    assert "block layer" not in result.stderr
    # fio up to 3.33 or so gives it by a call that Linux no longer has.
    assert result.status == 0 or "fcntl write hint" in result.stdout, result.stderr


@pytest.mark.parametrize("options,named", [
    ({"cgroup": "libdmabuf-test"}, "cgroup"),
    ({"cgroup": "libdmabuf-test", "cgroup_weight": 200}, "cgroup"),
    ({"ioscheduler": "mq-deadline"}, "ioscheduler"),
])
@pytest.mark.parametrize("datapath", ["premapped", "syscall"])
def test_limits_and_order_of_the_block_layer_are_refused(fio: Fio, datapath: str, options: dict[str, Any], named: str) -> None:
    """fio joins the group, and changes the scheduler of the target's drive, after this."""
    result = fio(direct=1, dmabuf_datapath=datapath, stand_in=True, filename=None, env={"STAND_IN_MODULE": "x=1"}, **options)
    assert result.status != 0
    assert f": {named} is for the block layer, which the I/O of dmabuf_datapath={datapath} does not pass" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("datapath,scheduler", [("premapped", "none"), ("bvec", "none"), ("bvec", "mq-deadline")])
def test_a_scheduler_that_the_io_passes_is_fios_to_set(fio: Fio, loop_device: str, datapath: str, scheduler: str) -> None:
    """Of a loop device, which is this test's own; "none" is what premapped's commands have."""
    result = fio(filename=loop_device, size="64k", direct=1, iodepth=1, ioscheduler=scheduler, dmabuf_datapath=datapath,
                 dmabuf_submit="ioctl", stand_in=True, env={"STAND_IN_MODULE": "x=1"})
    assert "block layer" not in result.stderr
    # A container may not change it, nor does each kernel have each.
    assert result.status == 0 or "iosched" in result.stdout + result.stderr, result.stderr


@pytest.mark.parametrize("datapath,option", [
    ("premapped", "--priohint=1"), ("syscall", "--prio=3"), ("syscall", "--prioclass=2"), ("syscall", "--priohint=1"),
])
def test_a_priority_that_no_io_has_is_refused(fio: Fio, datapath: str, option: str) -> None:
    if option.startswith("--priohint"):
        need_option("priohint")
    result = fio(option, dmabuf_datapath=datapath, direct=1, stand_in=True, filename=None, env={"STAND_IN_MODULE": "x=1"})
    assert result.status != 0
    assert f"of dmabuf_datapath={datapath} do not carry the job's I/O priority" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("datapath,options", [
    ("host", {}), ("bounce", {}), ("syscall", {"filename": None}), ("registered", {}),
    ("premapped", {"dmabuf_submit": "ioctl", "iodepth": 1}),
])
@pytest.mark.parametrize("memory", ["malloc", "mmap", "mmaphuge"])
def test_memory_of_fios_own_is_refused(fio: Fio, datapath: str, options: dict[str, Any], memory: str) -> None:
    """fio says "conflicts with specified IO engine", and up to 3.33 goes on without buffers: here it crashed."""
    result = fio(rw="randrw", size="64k", direct=1, mem=memory, dmabuf_datapath=datapath, stand_in=True,
                 env={"STAND_IN_MODULE": "registrations=1"}, **options)
    assert result.status == 1
    assert "got signal" not in result.stderr + result.stdout
    assert "libdmabuf: job t: mem (iomem): the memory of the I/O is this engine's" in result.stderr
    assert result.stderr.count("libdmabuf:") == 1
    assert not result.reports


def test_trims_have_no_memory_to_choose(fio: Fio, loop_device: str) -> None:
    result = fio(filename=loop_device, rw="trim", bs="64k", size="4m", mem="mmap", dmabuf_datapath="host")
    assert result.status == 0, result.stderr


def need_option(name: str) -> None:
    """Skips the test where fio itself has no such option."""
    help_text = subprocess.run([environment("FIO"), f"--cmdhelp={name}"], text=True, capture_output=True, check=False)
    if name not in help_text.stdout or "No such" in help_text.stdout:
        version = subprocess.check_output([environment("FIO"), "--version"], text=True).strip()
        pytest.skip(f"{version} has no {name}")


def test_an_fsync_covers_what_was_written_before_it(fio: Fio) -> None:
    """With verify_policy=fsynced fio takes for durable all that it had issued: nothing may be in flight then."""
    need_option("verify_policy")
    job: dict[str, Any] = {"rw": "write", "size": "1m", "fsync": 1, "dmabuf_datapath": "host"}
    together = fio(verify_policy="completed", **job)
    assert "16" in depths(together), "else the next line shows nothing"
    alone = fio(verify_policy="fsynced", **job)
    assert alone.status == 0, alone.stderr
    assert set(depths(alone)) <= {"1", "2"}, depths(alone)
    assert alone.reports[0]["issued"]["writes"] == 256
    assert alone.reports[0]["issued"]["syncs"] >= 255
    forced = fio("--writefua=1", verify_policy="fsynced", **job)
    assert forced.status != 0
    assert "verify_policy=fsynced: with writefua=1" in forced.stderr
    assert not forced.reports


def test_syncfs_is_syncfs(fio: Fio, tmp_path: Path) -> None:
    """A direction of fio 3.42 and later, which is no fsync."""
    need_option("end_syncfs")
    log = tmp_path / "calls.log"
    result = fio("--end_syncfs=1", rw="write", size="1m", dmabuf_datapath="host", stand_in=True,
                 env={"STAND_IN_LOG": str(log)})
    assert result.status == 0, result.stderr
    assert "syncfs=1" in log.read_text()
    assert result.reports[0]["issued"]["syncs"] == 1


def test_readfua_needs_a_module_that_can(fio: Fio) -> None:
    job = {"rw": "read", "size": "64k", "iodepth": 1, "direct": 1, "dmabuf_datapath": "premapped",
           "dmabuf_submit": "ioctl", "stand_in": True}
    old = fio("--readfua=1", **job, env={"STAND_IN_MODULE": f"features={0xff}"})
    assert old.status != 0
    assert "cannot set FUA in reads" in old.stderr
    new = fio("--readfua=1", **job, env={"STAND_IN_MODULE": f"features={0x3ff}"})
    assert new.status == 0, new.stderr


def test_writefua_opens_the_target_with_o_dsync(fio: Fio, tmp_path: Path) -> None:
    """Which makes the kernel set FUA where the drive has a cache; in the guest the drive's commands are looked at."""
    target = tmp_path / "target"
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for link in glob.glob("/proc/[0-9]*/fd/*"):
                try:
                    if os.readlink(link) != str(target):
                        continue
                    info = Path(link.replace("/fd/", "/fdinfo/")).read_text()
                except OSError:
                    continue
                seen.extend(int(flags, 8) for flags in re.findall(r"flags:\s*0*(\d+)", info))

    for option, wanted in (("--writefua=1", os.O_DSYNC), ("--writefua=0", 0)):
        seen.clear()
        done.clear()
        thread = threading.Thread(target=look)
        thread.start()
        result = fio(option, "--time_based", rw="randwrite", size="1m", runtime=2, rate_iops=500,
                     dmabuf_datapath="host")
        done.set()
        thread.join()
        assert result.status == 0, result.stderr
        # fio also opens it to lay it out, and to learn its size.
        writing = [flags for flags in seen if flags & os.O_ACCMODE == os.O_RDWR]
        assert any(flags & os.O_DSYNC == wanted for flags in writing), seen
        if not wanted:
            assert not any(flags & os.O_DSYNC for flags in writing)


# --- the table of docs/engine.md against fio's own source ---

REPOSITORY = Path(__file__).parents[2]
# Hooks that every engine has, and what of a structure is no hook.
EVERY_ENGINE = {"name", "version", "flags", "init", "post_init", "queue", "commit", "getevents", "event", "cleanup",
                "open_file", "close_file", "get_file_size", "options", "option_struct_size"}


def sources() -> list[Path]:
    """The fio trees to look at: those of this build, and further ones of $FIO_SOURCES, with colons between."""
    names = [environment("FIO_SOURCE"), *environment("FIO_TREES").split(":"), *os.environ.get("FIO_SOURCES", "").split(":")]
    return [Path(name) for name in dict.fromkeys(names) if name]


def options_of(text: str) -> dict[str, list[str]]:
    """The options in fio's source text, each with the values that it lists."""
    found: dict[str, list[str]] = {}
    name = ""
    for key, value in re.findall(r'\.(name|ival)\s*=\s*"([^"]+)"', text):
        if key == "name":
            name = value
            found.setdefault(name, [])
        else:
            found[name].append(value)
    return found


def engine_options(tree: Path) -> dict[str, list[str]]:
    """Those of the engines io_uring and io_uring_cmd of a fio."""
    text = (tree / "engines/io_uring.c").read_text()
    start = text.index("static struct fio_option options[]")
    table = text[start : text.index("\n};", start)]
    found = options_of(table)
    if "CMDPRIO_OPTIONS" in table:
        found |= options_of((tree / "engines/cmdprio.h").read_text())
    assert len(found) > 10, "this is no table of options"
    return found


def engine_parts(tree: Path) -> set[str]:
    """The flags and the hooks of these two engines, but those that every engine has."""
    text = (tree / "engines/io_uring.c").read_text()
    parts: set[str] = set()
    engines = re.findall(r"^static struct ioengine_ops ioengine_uring\w* = \{(.*?)^\};", text,
                         re.MULTILINE | re.DOTALL)
    for table in engines:
        parts |= set(re.findall(r"\bFIO_[A-Z_]+\b", table)) - {"FIO_IOOPS_VERSION"}
        parts |= set(re.findall(r"^\s*\.(\w+)\s*=", table, re.MULTILINE)) - EVERY_ENGINE
    assert len(parts) > 2, "these are no engines"
    return parts


# What these two engines read of fio's own options, and how this one comes by it without reading it.
READ_BY_OTHERS = {
    "num_range": "fio refuses more than one range of an engine without FIO_MULTI_RANGE_TRIM",
    "open_files": "the ring's table of files has room for all of a job's",
}


def core_options(tree: Path) -> set[str]:
    """fio's own options (fields of its structure) that its two engines read."""
    found = set(re.findall(r"\btd->o\.(\w+)", (tree / "engines/io_uring.c").read_text()))
    assert len(found) > 5, "the options are called otherwise"
    return found


def our_core_options() -> set[str]:
    text = "".join(path.read_text() for path in (REPOSITORY / "engine/fio").glob("*.cpp"))
    return set(re.findall(r"\btd(?:->|\.)o\.(\w+)", text))


def table_of_the_document() -> dict[str, str]:
    """What docs/engine.md says of each name in its table of parity."""
    text = (REPOSITORY / "docs/engine.md").read_text()
    section = text.split("## Parity with fio's io_uring", 1)[1].split("\n## ", 1)[0]
    rows: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]) if line.startswith("|") else []:
            rows[name] = cells[-1]
    return rows


def missing(wanted: set[str], *known: set[str]) -> set[str]:
    """What is wanted and not in each of the known."""
    return {name for name in wanted if any(name not in names for names in known)}


def our_options(library: str) -> set[str]:
    shown = subprocess.check_output([environment("FIO"), f"--enghelp={library}"], text=True, env=plain_environment())
    return {line.split(":")[0].strip() for line in shown.splitlines() if ":" in line}


def plain_environment() -> dict[str, str]:
    variables = dict(os.environ)
    if os.environ.get("SANITIZER") == "asan":
        variables["LD_PRELOAD"] = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
        variables["ASAN_OPTIONS"] = "detect_leaks=0"
    return variables


@pytest.mark.parametrize("tree", sources(), ids=[tree.name for tree in sources()])
def test_every_option_of_fio_is_in_the_table_and_known(library: str, tree: Path) -> None:
    """A new option of fio is one of ours the same day, or this fails."""
    # fio 3.33 and older have no hint in their own tables.
    known = our_options(library) | {"cmdprio_hint"}
    assert not missing(set(engine_options(tree)), known, set(table_of_the_document()))


@pytest.mark.parametrize("tree", sources(), ids=[tree.name for tree in sources()])
def test_every_flag_and_hook_of_fios_engine_is_in_the_table(tree: Path) -> None:
    ours = set(re.findall(r"\bops\.(\w+) =", (REPOSITORY / "engine/fio/engine.cpp").read_text()))
    retired = {"FIO_ASYNCIO_SYNC_TRIM"}  # of fio before 3.38: its trims were one at a time
    assert not missing(engine_parts(tree) - ours - retired, set(table_of_the_document()))


@pytest.mark.parametrize("tree", sources(), ids=[tree.name for tree in sources()])
def test_every_core_option_that_fios_engine_reads_is_read_here(tree: Path) -> None:
    assert not core_options(tree) - our_core_options() - set(READ_BY_OTHERS)


@pytest.mark.parametrize("tree", sources(), ids=[tree.name for tree in sources()])
def test_every_value_that_fio_lists_is_understood(library: str, tmp_path: Path, tree: Path) -> None:
    """Not "bad value": followed, or refused in words later."""
    for option, values in engine_options(tree).items():
        for value in values:
            done = subprocess.run(
                [environment("FIO"), "--parse-only", "--name=t", "--filename=t", "--size=4k",
                 f"--ioengine={library}", f"--{option}={value}"],
                cwd=tmp_path, env=plain_environment(), text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{option}={value}: {done.stdout}{done.stderr}"


def test_every_row_says_what_becomes_of_it() -> None:
    for name, here in table_of_the_document().items():
        assert re.search(r"follow|refuse|no effect|`\w+`\.|the same|not needed|fio's own", here.lower()), (name, here)


def test_a_new_option_or_hook_of_fio_would_be_found(library: str, tmp_path: Path) -> None:
    """The checks above fail for what is in neither place."""
    tree = sources()[0]
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/cmdprio.h").write_text((tree / "engines/cmdprio.h").read_text())
    text = (tree / "engines/io_uring.c").read_text()
    text = text.replace('.name\t= "hipri",', '.name\t= "warp_speed",', 1)
    text = re.sub(r"(ioengine_uring = \{)", r"\1\n\t.teleport = fio_ioring_teleport,", text, count=1)
    text = text.replace("td->o.odirect", "td->o.teleport")
    text = text.replace("FIO_NO_OFFLOAD |", "FIO_NO_OFFLOAD | FIO_WARP |", 1)
    (tmp_path / "engines/io_uring.c").write_text(text)
    assert missing(set(engine_options(tmp_path)), our_options(library) | {"cmdprio_hint"}) == {"warp_speed"}
    found = missing(engine_parts(tmp_path), set(table_of_the_document()))
    assert {"FIO_WARP", "teleport"} <= found
    assert core_options(tmp_path) - our_core_options() - set(READ_BY_OTHERS) == {"teleport"}


def test_trims_of_a_dma_buf_are_refused_wherever_they_come_from(fio: Fio) -> None:
    history: dict[str, Any] = {"verify": "crc32c", "trim_percentage": 10, "trim_backlog": 16}
    for options in ({"rw": "randtrim"}, {"rw": "randwrite", **history}):
        result = fio(filename=None, size="1m", dmabuf_datapath="syscall", stand_in=True, env={"STAND_IN_MODULE": "x=1"},
                     **options)
        assert result.status != 0
        assert "has nothing to trim" in result.stderr
        assert not result.reports
