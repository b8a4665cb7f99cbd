#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-nightly and the lab's drive, to which a plan writes.

Runs in the lab's guest (dmabuf-lab run --paths 2 --append nvme_core.multipath=N) and destroys the data on $DEV. A drive
that is in use, by this name or by its other one, or that holds something, must be refused before the
first byte; file systems must be whole afterwards. One that is free is written, also by the night
that goes on after a kill, and a drive that goes away ends its night. Exit status 0 pass, 1 fail.
"""

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drive.guard import MNT, OTHER, blank, content, make_ext4, mounted, raid, run, wait
from fio.harness import DEV, ENGINE, Tally, need_engine, nothing_left

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "common"))
import images  # noqa: E402  pylint: disable=wrong-import-position

NIGHTLY = TESTS.parent / "scripts/dmabuf-nightly"
PLAN = """version = 1
name = "writes"
repeats = {repeats}
runtime = 1
[parameters]
DEV = "{dev}"
ENGINE = "{engine}"
{target}
[[cases]]
name = "seq-1m"
job = "basic/seq-1m.fio"
datapath = "premapped"
options = {{ dmabuf_datapath = "premapped", size = "64m" }}
"""
TARGET = '[target]\nserial = "lab-nvme"\n'


def argv(folder: Path, *more: str) -> list[str]:
    """The command line of a night."""
    return [str(NIGHTLY), "run", str(folder / "p.toml"), "--measure", "--store",
            str(folder / "nights.db"), *more]


def plan(folder: Path, target: str = TARGET, repeats: int = 2) -> None:
    """Writes the plan."""
    text = PLAN.format(repeats=repeats, dev=DEV, engine=ENGINE, target=target)
    (folder / "p.toml").write_text(text)


def runs(folder: Path, night: int) -> list[tuple[str, str]]:
    """State and status of a night's runs."""
    try:
        with sqlite3.connect(f"file:{folder / 'nights.db'}?mode=ro", uri=True, timeout=30) as db:
            found = db.execute("SELECT state, status FROM run WHERE night = ? ORDER BY position", (night,))
            return [(row[0], row[1]) for row in found.fetchall()]
    except sqlite3.OperationalError:  # not made yet
        return []


def refused(tally: Tally, name: str, says: str, target: str = TARGET) -> None:
    """A night that must not begin, and leaves the drive as it was."""
    before = content()
    with tempfile.TemporaryDirectory() as place:
        plan(Path(place), target)
        done = subprocess.run(argv(Path(place)), capture_output=True, text=True, timeout=100,
                              check=False)
        tally.same(done.returncode, 2, f"{name}: exit status")
        tally.check(says in done.stderr and done.stderr.count("\n") == 1,
                    f"{name}: says {says!r} in one sentence", done.stderr)
        tally.same(runs(Path(place), 1), [], f"{name}: runs")
    tally.same(content(), before, f"{name}: the data")


def refusals(tally: Tally) -> None:
    """Each use of the drive; the file system in its partition is whole after all of them."""
    blank()
    refused(tally, "no target", "the plan does not say which drive", target="")
    refused(tally, "another drive", "its serial number is lab-nvme, not S5XYZ", '[target]\nserial = "S5XYZ"\n')
    run("sfdisk", "--quiet", DEV, stdin="label: gpt\nsize=32M\nsize=32M\n")
    part = f"{DEV}p2"
    make_ext4(part)
    with mounted(part):
        (MNT / "file").write_text("data" * 1000)
    allowed = TARGET + 'overwrite_signature = ["gpt", "ext4"]\n'
    refused(tally, "signed", f"{part} holds ext4")
    with mounted(part):
        refused(tally, "a mounted partition", f"{part} is mounted at {MNT}", allowed)
        tally.same((MNT / "file").read_text(), "data" * 1000, "the file while it is mounted")
    run("blockdev", "--rereadpt", OTHER)
    with mounted(f"{OTHER}p2"):
        refused(tally, "mounted by the other controller",
                f"{OTHER}p2, the same namespace as {DEV}, is mounted at {MNT}", allowed)
    run("fsck.ext4", "-fn", part)
    with mounted(part):
        tally.same((MNT / "file").read_text(), "data" * 1000, "the file afterwards")
    with raid(part):
        refused(tally, "an active md member", f"{part} is held by md_{Path(part).name} (a RAID, raid1)",
                allowed)
    blank()
    for path in (DEV, OTHER):
        run("blockdev", "--rereadpt", path)
    images.zfs(Path(DEV))
    refused(tally, "an exported pool", f"{DEV} holds zfs_member")


def written(tally: Tally) -> None:
    """A free drive is written, and after a kill the night goes on at once."""
    blank()
    with tempfile.TemporaryDirectory() as place, nothing_left(tally, "written"):
        folder = Path(place)
        plan(folder, repeats=4)
        # pylint: disable-next=consider-using-with
        night = subprocess.Popen(argv(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait(lambda: ("done", "valid") in runs(folder, 1) and "running" in [s for s, _ in runs(folder, 1)])
        night.send_signal(signal.SIGKILL)
        tally.same(night.wait(), -signal.SIGKILL, "written: the killed night")
        tally.check(len([s for s, _ in runs(folder, 1) if s == "done"]) < 4, "killed in the middle",
                    str(runs(folder, 1)))
        done = subprocess.run(argv(folder, "--resume"), capture_output=True, text=True, timeout=200,
                              check=False)
        tally.same(runs(folder, 1), [("done", "valid")] * 4, f"written: runs, {done.stderr[-600:]}")
        with open(DEV, "rb") as drive:
            tally.check(drive.read(1 << 20) != bytes(1 << 20), "written: the drive has data")


def gone(tally: Tally) -> None:
    """The drive is removed while fio is at work; its other name takes its place for nobody."""
    blank()
    function = Path(f"/sys/block/{Path(DEV).name}/device/device").resolve()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plan(folder, repeats=4)
        # pylint: disable-next=consider-using-with
        night = subprocess.Popen(argv(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 text=True)
        wait(lambda: ("done", "valid") in runs(folder, 1)
             and "running" in [state for state, _ in runs(folder, 1)])
        (function / "remove").write_text("1")
        begin = time.monotonic()
        _, said = night.communicate(timeout=200)
        print(f"      the night ended {time.monotonic() - begin:.1f} s after the drive", flush=True)
        tally.same(night.returncode, 77, "gone: exit status")
        tally.check("is abandoned and inconclusive" in said and "the drive went away" in said, "gone: says so",
                    said[-600:])
        tally.check({state for state, _ in runs(folder, 1)} == {"done", "planned"}
                    and "failed" not in [status for _, status in runs(folder, 1)],
                    "gone: no run failed", str(runs(folder, 1)))


def main() -> int:
    """All parts."""
    need_engine()
    tally = Tally()
    for part in (refusals, written, gone):
        part(tally)
    return tally.finish("nightly_drives")


if __name__ == "__main__":
    sys.exit(main())
