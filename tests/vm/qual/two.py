#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual on two drives at once: both begin together or neither does, and each is judged by what is its own.

Runs in the lab's guest (dmabuf-lab run --formats) and destroys the data on $DEV and on the namespace of the
second drive that has blocks of 4 KiB. Its argument is a folder for the results. Exit status 0 pass, 1 fail, 2 usage.
"""

import array
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fio.harness import DEV, Tally, need_engine, nothing_left
from qual.whole import QUAL, RETENTION_OFFSET, Passthrough, qual, records

DRIVES = ("lab-nvme", "lab-formats")
# Of the second drive's namespaces the one with blocks of 4 KiB.
SECOND_NSID = "4"


def second_name() -> str:
    """Linux looks for namespaces side by side: nvme1n4 can be another one than that."""
    for disk in Path("/sys/block").glob("nvme*"):
        if "c" in disk.name:  # nvme1c1n4, a path of a multipath head
            continue
        serial, nsid = disk / "device/serial", disk / "nsid"
        if serial.exists() and serial.read_text().strip() == DRIVES[1] and nsid.read_text().strip() == SECOND_NSID:
            return disk.name
    raise SystemExit(f"no namespace {SECOND_NSID} of the drive {DRIVES[1]}")


NAMES = (Path(DEV).name, second_name())
PLACES = tuple(f"/dev/{name}" for name in NAMES)
CHUNK = 1 << 20
# All that a quick run writes to is within this.
MARKED_BYTES = 96 << 20
# A few cases, so that there is time in which both drives are at work.
ONLY = ("integrity/lay", "integrity/check", *(f"integrity/udmabuf/premapped/{one}" for one in ("read", "write", "load")))
# In how many cases of each drive the other must have been at work: a drive that waits for the other has none.
LEAST_SHARED = 3
# As the kernel words a bad sector; of the second drive alone.
MEDIUM_ERROR = f"critical medium error, dev {NAMES[1]}, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2"
LIMIT_S = 400.0


def words(folder: Path, serials: Sequence[str]) -> list[str]:
    """The command line of a destructive quick run of both drives."""
    # The second drive's serial number is that of all its namespaces.
    wwids = [Path(f"/sys/block/{name}/wwid").read_text().strip() for name in NAMES]
    which = [word for serial, wwid in zip(serials, wwids, strict=True)
             for word in ("--serial", serial, "--wwid", wwid)]
    only = [word for pattern in ONLY for word in ("--only", pattern)]
    return [QUAL, "run", "--quick", "--erase", *which, *only, "--output", str(folder), *PLACES]


COUNTED = array.array("Q", range(CHUNK // 8)).tobytes()


def chunk(number: int) -> bytes:
    """What a mark is at one place; none like another."""
    return number.to_bytes(8, "little") + COUNTED[8:]


def mark(place: str) -> None:
    """Puts over the drive what any write to it would destroy."""
    with open(place, "wb") as drive:
        for number in range(MARKED_BYTES // CHUNK):
            drive.write(chunk(number))
    subprocess.run(["blockdev", "--flushbufs", place], check=True)


def marked(place: str) -> list[int]:
    """The MiB of it that are not, byte for byte, as mark() left them."""
    subprocess.run(["blockdev", "--flushbufs", place], check=True)
    with open(place, "rb") as drive:
        return [number for number in range(MARKED_BYTES // CHUNK) if drive.read(CHUNK) != chunk(number)]


def changed(name: str) -> tuple[int, int]:
    """Sectors that the kernel wrote and discarded. Commands are not counted: Linux takes a flush of a multipath
    head for a write, and the guard asks for one to see that nothing is yet to be written."""
    fields = Path(f"/sys/block/{name}/stat").read_text().split()
    return int(fields[6]), int(fields[13])


def one_is_another(tally: Tally) -> None:
    """Where one of them is not the drive that was named, nothing is written to any."""
    for place in PLACES:
        mark(place)
    for wrong in range(len(DRIVES)):
        what = f"a wrong serial number of {PLACES[wrong]}"
        serials = [f"{one}-not" if number == wrong else one for number, one in enumerate(DRIVES)]
        before = [changed(name) for name in NAMES]
        with tempfile.TemporaryDirectory() as folder:
            done = qual(words(Path(folder) / "q", serials))
            tally.same(done.returncode, 2, f"{what}: exit status, {done.stderr[-500:]}")
            tally.check(f"its serial number is {DRIVES[wrong]}, not {serials[wrong]}" in done.stderr,
                        f"{what}: the reason", done.stderr)
            tally.check("another drive was refused: nothing was begun on this one" in done.stderr,
                        f"{what}: what of the other one", done.stderr)
            left = [path.name for path in Path(folder).rglob("*.json*")]
            tally.same(left, [], f"{what}: records of a run")
        tally.same([changed(name) for name in NAMES], before, f"{what}: sectors written and discarded")
        tally.same([marked(place) for place in PLACES], [[], []], f"{what}: MiB that changed")


def spans(found: dict[str, dict[str, Any]]) -> list[tuple[float, float]]:
    """From when to when each case was at work."""
    return [(one["started"], one["started"] + one["seconds"]) for one in found.values()]


def shared(mine: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> int:
    """During how many cases a case of the other was at work, too."""
    return sum(any(begin < last and first < end for first, last in other) for begin, end in mine)


def harm(folders: Sequence[Path], over: threading.Event, done: list[str]) -> None:
    """When both drives have what they must find again, changes one bit of the second one, and lets the kernel
    speak against it."""
    while not all("integrity/lay" in records(folder) for folder in folders):
        if over.is_set():
            return
        time.sleep(0.01)
    other = Passthrough(NAMES[1])
    other.flip(RETENTION_OFFSET + 5 * CHUNK)
    other.close()
    Path("/dev/kmsg").write_text(f"<3>{MEDIUM_ERROR}\n")
    done.append("harmed")


def side_by_side(tally: Tally, folder: Path) -> None:
    """Both at once, and one of them with two faults."""
    folders = [folder / name for name in DRIVES]
    over, harmed = threading.Event(), list[str]()
    thread = threading.Thread(target=harm, args=(folders, over, harmed))
    with nothing_left(tally, "side by side"):
        thread.start()
        # A process of its own: this one has a thread.
        done = subprocess.run(words(folder, DRIVES), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        over.set()
        thread.join()
    tally.same(harmed, ["harmed"], f"side by side: the second drive's faults, {done.stderr[-800:]}")
    tally.same(done.returncode, 1, f"side by side: exit status, {done.stderr[-800:]}")
    found = [records(one) for one in folders]
    tally.same(sorted(found[0]), sorted(found[1]), "side by side: the cases of both")
    times = [spans(one) for one in found]
    for number, name in enumerate(DRIVES):
        tally.check(shared(times[number], times[1 - number]) >= LEAST_SHARED,
                    f"{name}: cases during which the other drive was at work", f"{times}")
    names = [{one["name"] for record in each.values() for one in record["findings"]} for each in found]
    tally.same(names, [set(), {"DRIVE_CORRUPTED"}], "side by side: findings of each")
    lines = [[line for record in each.values() for line in record["kernel_log"]["lines"]] for each in found]
    tally.same(lines, [[], [MEDIUM_ERROR]], "side by side: what the kernel said against each")
    said = [[line for line in done.stdout.splitlines() if line.startswith(f"{name}: fail ")] for name in DRIVES]
    tally.same(said[0], [], "the first drive: requirements that fail")
    for requirement in ("integrity.drive", "drive.log"):
        tally.check(any(requirement in line for line in said[1]), f"the second drive: {requirement} fails",
                    "\n".join(said[1]))
    tally.same(len(said[1]), 2, "the second drive: requirements that fail")
    last = done.stdout.splitlines()[-2:]
    for name, status, line in zip(DRIVES, ("inconclusive", "fail"), last, strict=True):
        tally.same(line.split()[:2], [name, f"{status}:"], "the table at the end")


def main() -> int:
    need_engine()
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tally = Tally()
    begin = time.monotonic()
    one_is_another(tally)
    print(f"      {time.monotonic() - begin:.1f} s", flush=True)
    side_by_side(tally, Path(sys.argv[1]))
    print(f"      {time.monotonic() - begin:.1f} s", flush=True)
    return tally.finish("qual_two")


if __name__ == "__main__":
    sys.exit(main())
