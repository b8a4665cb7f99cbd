#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual on the drive of the lab: a good one has no fault, each fault fails by its name, every time.

Runs in the lab's guest and destroys the data on $DEV. Its argument is a folder for the results of the
good run. Exit status 0 pass, 1 fail, 2 usage.
"""

import array
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fio.harness import DEV, Tally, need_engine, nothing_left
from fio.moves import FEATURE_MOVE, load, query

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from dmabuf_qual import cli  # noqa: E402  pylint: disable=wrong-import-position

QUAL = str(SCRIPTS / "dmabuf-qual")
DISK = os.path.basename(DEV)
SIZE_LIMIT = Path("/sys/module/udmabuf/parameters/size_limit_mb")
NVME_IOCTL_IO_CMD = 0xC0484E43
NVME_IOCTL_ID = 0x4E40
RETENTION_OFFSET = 64 << 20
# How often each fault is made: a soak does it more often.
TIMES = int(os.environ.get("QUAL_TIMES", "1"))


def serial() -> str:
    """As a user would read it from `nvme list`."""
    return Path(f"/sys/block/{DISK}/device/serial").read_text().strip()


def words(folder: Path, *more: str) -> list[str]:
    """The command line of a destructive quick run."""
    return [QUAL, "run", "--quick", "--erase", "--serial", serial(), "--output", str(folder), *more,
            DEV]


def script(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs dmabuf-qual to its end."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)


def qual(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """The same in a child of this program, which has the modules: Python takes seconds to start
    in an emulated machine. There must be no other thread."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            status = 70
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                signal.alarm(200)
                status = cli.main(argv[1:])
                sys.stdout.flush()
                sys.stderr.flush()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 2
            except BaseException:  # pylint: disable=broad-exception-caught
                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(argv, status, out.read(), err.read())


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Complete records of a run."""
    try:
        lines = (folder / "cases.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    return {record["id"]: record for record in map(json.loads, lines)}


def good_run(tally: Tally, folder: Path) -> None:
    """The drive as it is."""
    with nothing_left(tally, "good run"):
        done = script(words(folder))
    # A quick run never passes: it has a word and an exit status of its own.
    tally.same(done.returncode, 3, f"good run: exit status, {done.stdout[-1500:]}")
    tally.check("verdict: no-fault" in done.stdout, "good run: verdict", done.stdout[-300:])
    tally.check("qualifies nothing" in done.stdout, "good run: says its scale", done.stdout[-300:])
    found = records(folder)
    tally.same([r["id"] for r in found.values() if not r["bounces_seen"]], [],
               "good run: cases in which swiotlb's copies could not be seen")
    tally.same([r["id"] for r in found.values() if not (r["kernel_log"] or {}).get("complete")], [],
               "good run: cases after which the kernel's log was not whole")
    left = [path.name for path in Path("/sys/kernel/tracing/instances").glob("dmabuf-qual-*")]
    tally.same(left, [], "good run: tracing instances that are left")
    tally.check(len(found) >= 30, "good run: cases", str(len(found)))
    tally.same([r["id"] for r in found.values() if r["findings"] or "error" in r], [],
               "good run: cases with findings or errors")
    compared = sum(r.get("compared_bytes", 0) for r in found.values())
    tally.check(compared > 500 << 20, "good run: bytes compared", str(compared))
    print(f"      good run: {len(found)} cases, {compared >> 20} MiB compared", flush=True)


def fails(tally: Tally, what: str, names: list[str], *more: str, absent: str = "",
          alone: str = "") -> None:
    """A run that must fail and give these names, each of TIMES times. `alone`: the only name
    that any case may give."""
    begin = time.monotonic()
    for turn in range(1, TIMES + 1):
        name = f"{what}, time {turn}"
        with tempfile.TemporaryDirectory() as folder, nothing_left(tally, name):
            done = qual(words(Path(folder) / "q", *more))
            found = {one["name"] for record in records(Path(folder) / "q").values()
                     for one in record["findings"]}
        tally.same(done.returncode, 1, f"{name}: exit status, {done.stderr[-500:]}")
        tally.check("verdict: fail" in done.stdout, f"{name}: verdict", done.stdout[-300:])
        bad = [line for line in done.stdout.splitlines() if line.startswith("fail ")]
        for wanted in names:
            tally.check(any(f"{wanted}:" in " ".join(line.split()) for line in bad), f"{name}: says {wanted}",
                        "\n".join(bad))
        if alone:
            tally.same(found, {alone}, f"{name}: names that the cases give")
        if absent:
            tally.check(not any(absent in line for line in bad), f"{name}: does not say {absent}",
                        "\n".join(bad))
    print(f"      {what}: {time.monotonic() - begin:.1f} s", flush=True)


def exporter_faults(tally: Tally) -> None:
    """Exporters that lose, move, refuse; the control beside them stays right."""
    def only(spec: str, *tests: str) -> list[str]:
        listed = ["--exporter", spec]
        for test in tests:
            listed += ["--only", f"integrity/{spec}/premapped/{test}"]
            listed += ["--only", f"integrity/udmabuf/premapped/{test}"]
        return listed

    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        # Each access copies all of the buffer here, so that less of it is enough.
        file.write('memory = "peer"\nload_gib = 0.016\n')
        file.flush()
        fails(tally, "lost reads, memory in the wrong place",
              ["integrity.read READ_NOT_LANDED", "integrity.load READ_NOT_LANDED",
               "path.placement VRAM_MIGRATED"], "--requirements", file.name, "--despite", "SYSTEM_MEMORY",
              *only("testexp:lose-writes", "read", "load"), absent="udmabuf premapped")
    fails(tally, "lost writes", ["WRITE_NOT_FETCHED", "ROUNDTRIP_MASKED"],
          *only("testexp:stale-reads", "write", "roundtrip"), absent="udmabuf premapped")
    fails(tally, "wrong after the first piece", ["integrity.read MULTI_SEGMENT_MISADDRESSED",
                                                 "integrity.segments MULTI_SEGMENT_MISADDRESSED"],
          *only("testexp:shift-segments", "read", "segments"), absent="udmabuf premapped",
          alone="MULTI_SEGMENT_MISADDRESSED")
    for what, name, spec in (("mapping", "REFUSED_MAP", "testexp:refuse-map"),
                             ("attachment", "REFUSED_ATTACH", "testexp:refuse-attach")):
        with tempfile.TemporaryDirectory() as folder:
            done = qual(words(Path(folder) / "q", "--exporter", spec))
            tally.same((done.returncode, Path(folder, "q").exists()), (2, False),
                       f"a refused {what}: preflight says stop, and nothing is begun")
            tally.check(f"--despite {name}" in done.stderr, f"a refused {what}: the reason", done.stderr)
        fails(tally, f"a refused {what}", [f"path.accepted {name}", f"machine.ready {name}"], "--despite", name,
              *only(spec, "read"))
    if not query()[0] & FEATURE_MOVE:
        return
    fails(tally, "memory that moves", ["VRAM_MIGRATED"], *only("testexp:move-1000", "read"))
    # Transfers one by one are too few to meet the fault.
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("most_moves = 1000\n")
        file.flush()
        fails(tally, "another's data under load", ["integrity.load FOREIGN_DATA_UNDER_LOAD"],
              "--requirements", file.name,
              *only("testexp:exchange-600", "read", "write", "segments", "load"),
              absent="udmabuf premapped", alone="FOREIGN_DATA_UNDER_LOAD")


def size_cap(tally: Tally) -> None:
    """udmabuf's limit."""
    before = SIZE_LIMIT.read_text()
    SIZE_LIMIT.write_text("16")
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = qual(words(Path(folder) / "q"))
            tally.same((done.returncode, Path(folder, "q").exists()), (2, False),
                       "size limit: preflight says stop, and nothing is begun")
            tally.check("SIZE_CAP" in done.stderr and "--despite SIZE_CAP" in done.stderr,
                        "size limit: the reason", done.stderr)
        fails(tally, "size limit", ["path.size SIZE_CAP", "machine.ready SIZE_CAP"],
              "--despite", "SIZE_CAP", "--only", "integrity/udmabuf/premapped/size")
    finally:
        SIZE_LIMIT.write_text(before)


class Passthrough:
    """Another way to the same namespace: commands through its character device."""

    def __init__(self, disk: str = DISK) -> None:
        # The character device of nvme0n1 is ng0n1. Root may write by a descriptor that does not say so, and the
        # run, which would refuse a drive that somebody has open for writing, does not see it.
        self.fd = os.open("/dev/ng" + disk.removeprefix("nvme"), os.O_RDONLY)
        self.nsid = fcntl.ioctl(self.fd, NVME_IOCTL_ID)
        self.block = int(Path(f"/sys/block/{disk}/queue/logical_block_size").read_text())

    def _command(self, opcode: int, block: int, data: array.array[int]) -> None:
        command = bytearray(72)
        struct.pack_into("<BBHI", command, 0, opcode, 0, 0, self.nsid)
        struct.pack_into("<QQIIIII", command, 16, 0, data.buffer_info()[0], 0, len(data),
                         block & 0xFFFFFFFF, block >> 32, len(data) // self.block - 1)
        if fcntl.ioctl(self.fd, NVME_IOCTL_IO_CMD, command) != 0:
            raise RuntimeError(f"NVMe opcode {opcode} failed")

    def flip(self, offset: int) -> None:
        """Changes one bit on the drive."""
        data = array.array("B", bytes(self.block))
        self._command(2, offset // self.block, data)
        data[77] ^= 4
        self._command(1, offset // self.block, data)

    def close(self) -> None:
        """No more commands."""
        os.close(self.fd)


def corruption(tally: Tally) -> None:
    """One bit changes on the drive, behind everybody's back, after it was laid down."""
    for turn in range(1, TIMES + 1):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "q"
            done = threading.Event()

            def damage(place: Path = place, done: threading.Event = done) -> None:
                while "integrity/lay" not in records(place) and not done.is_set():
                    time.sleep(0.01)
                other = Passthrough()
                other.flip(RETENTION_OFFSET + 5 * (1 << 20) + 7 * 512)
                other.close()

            thread = threading.Thread(target=damage)
            thread.start()
            ended = script(words(place, "--only", "integrity/lay", "--only", "integrity/check",
                                 "--only", "integrity/udmabuf/premapped/read"))
            done.set()
            thread.join()
        name = f"corruption, time {turn}"
        tally.same(ended.returncode, 1, f"{name}: exit status")
        bad = [line for line in ended.stdout.splitlines() if line.startswith("fail ")]
        tally.check(len(bad) == 1 and "DRIVE_CORRUPTED:" in bad[0],
                    f"{name}: the drive, and nothing else, is blamed", "\n".join(bad))


def refusals(tally: Tally) -> None:
    """Drives that must not be overwritten, with the reason."""
    def refused(name: str, says: str, argv: list[str]) -> None:
        with open(DEV, "rb") as drive:
            before = drive.read(1 << 20)
        done = qual(argv)
        with open(DEV, "rb") as drive:
            tally.check(drive.read(1 << 20) == before, f"{name}: nothing was written")
        tally.same(done.returncode, 2, f"{name}: exit status")
        tally.check(says in done.stderr and done.stderr.count("\n") == 1,
                    f"{name}: says {says!r} in one sentence", done.stderr)

    with tempfile.TemporaryDirectory() as folder:
        argv = words(Path(folder) / "q")
        subprocess.run(["mkfs.ext4", "-qF", DEV], check=True)
        refused("no --erase", "--erase", [word for word in argv if word != "--erase"])
        refused("wrong serial", f"its serial number is {serial()}, not lab-other",
                ["lab-other" if word == serial() else word for word in argv])
        refused("signed", f"{DEV} holds ext4", argv)
        mount = Path(folder) / "mnt"
        mount.mkdir()
        subprocess.run(["mount", "-o", "ro,noload", DEV, str(mount)], check=True)
        try:
            refused("mounted", f"mounted at {mount}", argv)
        finally:
            subprocess.run(["umount", str(mount)], check=True)
        subprocess.run(["mkswap", "-q", DEV], check=True)
        subprocess.run(["swapon", DEV], check=True)
        try:
            refused("swap", "swap space", argv)
        finally:
            subprocess.run(["swapoff", DEV], check=True)
        held = os.open(DEV, os.O_RDWR | os.O_EXCL)
        try:
            refused("held", f"{DEV} is open for writing in process", argv)
        finally:
            os.close(held)
        subprocess.run(["sfdisk", "-q", DEV], input="size=64M\n", text=True, check=True)
        part = f"{DEV}p1"
        for _ in range(100):
            if os.path.exists(part):
                break
            time.sleep(0.05)
        subprocess.run(["mkfs.ext4", "-qF", part], check=True)
        subprocess.run(["mount", "-o", "ro,noload", part, str(mount)], check=True)
        try:
            refused("a partition mounted", f"{part} is mounted", argv)
        finally:
            subprocess.run(["umount", str(mount)], check=True)
        subprocess.run(["wipefs", "-qa", DEV], check=True)
        subprocess.run(["blockdev", "--rereadpt", DEV], check=False)


def most_written(tally: Tally) -> None:
    """A limit on what is written: nothing begins that writes more, and what begins ends before it does."""
    with tempfile.TemporaryDirectory() as folder, nothing_left(tally, "most written"):
        place = Path(folder) / "q"
        done = qual(words(place, "--most-written", "200m"))
        tally.same((done.returncode, place.exists()), (2, False), "most written: too little, and nothing is begun")
        tally.check("writes at least" in done.stderr, "most written: the reason", done.stderr)
        done = qual(words(place, "--most-written", "1200m"))
        tally.same(done.returncode, 77, f"most written: exit status, {done.stdout[-500:]}")
        tally.check("MOST_WRITTEN: " in done.stdout, "most written: the verdict", done.stdout[-500:])
        run = json.loads((place / "run.json").read_text())
        before, after = (run[name]["written_bytes"] for name in ("health_before", "health_after"))
        tally.check(2 <= len(records(place)) and after - before <= 1200 << 20, "most written: cases, bytes",
                    f"{len(records(place))}, {after - before}")


def whose_memory(tally: Tally) -> None:
    """The screen of a virtual machine is no GPU: preflight and verdict say so."""
    spec = "drm:/dev/dri/card0"
    done = qual([QUAL, "preflight", "--exporter", spec, DEV])
    tally.check("SYSTEM_MEMORY" in done.stdout and spec in done.stdout, "whose memory: preflight", done.stdout)
    with tempfile.TemporaryDirectory() as folder:
        done = qual(words(Path(folder) / "q", "--exporter", spec, "--only", f"integrity/{spec.replace('/', '_')}/premapped/read"))
        tally.check(f"memory: {spec} system memory, NOT device memory of 0000:" in done.stdout, "whose memory: verdict",
                    done.stdout[-500:])


def helpers() -> list[str]:
    """Programs of a run that are alive."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() in ("dmabuf-integrit", "fio"):
                found.append(comm.parent.name)
        except OSError:
            continue
    return found


def interrupt(tally: Tally, argv: list[str], place: Path, number: signal.Signals) -> None:
    """Starts a run and stops it while a case is at work and four more than before are finished."""
    name, wanted = f"stopped by {number.name}", len(records(place)) + 4
    # pylint: disable-next=consider-using-with
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (len(records(place)) >= wanted and helpers()):
        time.sleep(0.005)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    tally.same(run.returncode, -number if number == signal.SIGKILL else 130, f"{name}: exit status")
    if number == signal.SIGINT:
        tally.check("is idle" in said, f"{name}: says that the drive is idle", said[-300:])
        tally.same(helpers(), [], f"{name}: programs at once")
    for _ in range(200):
        if not helpers():
            break
        time.sleep(0.02)
    tally.same(helpers(), [], f"{name}: programs that are left")
    tally.check(len(records(place)) >= wanted, f"{name}: cases that were finished",
                f"{len(records(place))} of {wanted}")


def stopped(tally: Tally) -> None:
    """Killed, then stopped by Ctrl-C, in the middle of a case: what is finished counts."""
    only = ["--only", "integrity/udmabuf/premapped/*", "--only", "integrity/udmabuf/bvec/*",
            "--only", "perf/*premapped*"]
    with tempfile.TemporaryDirectory() as folder, nothing_left(tally, "stopped"):
        place = Path(folder) / "q"
        interrupt(tally, words(place, *only), place, signal.SIGKILL)
        again = qual(words(place, *only))
        tally.check(again.returncode == 2 and "--resume" in again.stderr,
                    "a second run without --resume is refused", again.stderr)
        # As if the kill had come in the middle of a line.
        with open(place / "cases.jsonl", "ab") as file:
            file.write(b'{"id": "integrity/udmabuf/premapped/size", "find')
        interrupt(tally, words(place, "--resume", *only), place, signal.SIGINT)
        before = records(place)
        done = qual(words(place, "--resume", *only))
        after = records(place)
        tally.check(8 <= len(before) < len(after), "stopped: cases before and after",
                    f"{len(before)}, {len(after)}")
        tally.same({key: after[key]["started"] for key in before},
                   {key: value["started"] for key, value in before.items()},
                   "stopped: what was finished is not done again")
        tally.same([r["id"] for r in after.values() if r["findings"] or "error" in r], [],
                   "stopped: cases with findings")
        tally.same(done.stderr.count("right ("), len(after) - len(before), "stopped: cases done")
        # All that was asked for is right; what was left out is no pass.
        tally.same(done.returncode, 77, "stopped: exit status of a partial run")


def main() -> int:
    need_engine()
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    tally = Tally()
    parts: list[Callable[[], None]] = [
        lambda: good_run(tally, Path(sys.argv[1])), lambda: exporter_faults(tally),
        lambda: size_cap(tally), lambda: most_written(tally), lambda: whose_memory(tally), lambda: corruption(tally),
        lambda: refusals(tally),
        lambda: stopped(tally)]
    for part in parts:
        begin = time.monotonic()
        part()
        print(f"      {time.monotonic() - begin:.1f} s", flush=True)
    return tally.finish("qual")


if __name__ == "__main__":
    sys.exit(main())
