#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-nightly with the engine on the lab's drive: two nights, the second one killed in the middle.

Runs in the lab's guest, which has no scipy: it measures (`run --measure`), and the machine outside
judges what is in the folder that is the argument. Exit status 0 pass, 1 fail, 2 usage.
"""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fio.harness import DEV, ENGINE, Tally, need_engine, nothing_left

NIGHTLY = Path(__file__).resolve().parents[3] / "scripts/dmabuf-nightly"
REPEATS = 5
PLAN = f"""version = 1
name = "lab"
repeats = {REPEATS}
runtime = 1
[parameters]
DEV = "{DEV}"
ENGINE = "{ENGINE}"
SIZE = "256m"
[[cases]]
name = "randread-4k"
job = "basic/randread-4k.fio"
datapath = "premapped"
metrics = ["read_iops"]
options = {{ dmabuf_datapath = "premapped" }}
[[cases]]
name = "read-one"
job = "latency/read-one.fio"
datapath = "registered"
metrics = ["read_iops"]
options = {{ dmabuf_datapath = "registered" }}
"""


def states(store: Path, night: int) -> list[str]:
    """The states of a night's runs."""
    if not store.exists():
        return []
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30) as db:
        try:
            rows = db.execute("SELECT state FROM run WHERE night = ?", (night,)).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
    return [row[0] for row in rows]


def argv(folder: Path, *more: str) -> list[str]:
    """The command line of a night."""
    return [str(NIGHTLY), "run", str(folder / "lab.toml"), "--measure", "--store",
            str(folder / "nights.db"), *more]


def whole_night(tally: Tally, folder: Path) -> None:
    """All runs are valid, each with its proof."""
    with nothing_left(tally, "a night"):
        done = subprocess.run(argv(folder, "--seed", "1"), capture_output=True, text=True,
                              timeout=200, check=False)
    tally.same(done.returncode, 0, f"a night: exit status, {done.stderr[-800:]}")
    tally.check("is measured" in done.stdout, "a night: says that nothing is judged", done.stdout)
    tally.same(states(folder / "nights.db", 1), ["done"] * 2 * REPEATS, "a night: runs")


def killed_night(tally: Tally, folder: Path) -> None:
    """SIGKILL with fio at work; --resume ends that fio, and keeps what was done."""
    store = folder / "nights.db"
    with nothing_left(tally, "a killed night"):
        # pylint: disable-next=consider-using-with
        run = subprocess.Popen(argv(folder, "--seed", "2"), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end and not (states(store, 2).count("done") >= 3
                                              and "running" in states(store, 2)):
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        tally.same(run.wait(), -signal.SIGKILL, "a killed night: exit status")
        before = states(store, 2)
        tally.check(3 <= before.count("done") < 2 * REPEATS, "killed in the middle", str(before))
        done = subprocess.run(argv(folder, "--resume"), capture_output=True, text=True,
                              timeout=200, check=False)
    tally.same(done.returncode, 0, f"resumed: exit status, {done.stderr[-800:]}")
    tally.check("1 run in flight is run again" in done.stderr, "resumed: says what it runs again",
                done.stderr[-300:])
    tally.same(states(store, 2), ["done"] * 2 * REPEATS, "resumed: runs")
    tally.same(states(store, 3), [], "resumed: there is no third night")


def fingerprint(tally: Tally) -> None:
    """What it knows of this machine's drive."""
    done = subprocess.run([str(NIGHTLY), "fingerprint", "--target", DEV], capture_output=True,
                          text=True, timeout=60, check=False)
    if not tally.same(done.returncode, 0, f"fingerprint: {done.stderr}"):
        return
    key = json.loads(done.stdout)["key"]
    for name in ("drive", "drive serial", "LBA size", "LBA metadata", "IOMMU", "PCI path", "ACS"):
        tally.check(bool(key.get(name)), f"fingerprint: {name}", str(sorted(key)))


def main() -> int:
    need_engine()
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    tally = Tally()
    fingerprint(tally)
    # The store wants a file system with shared memory, which the shared folder is not.
    with tempfile.TemporaryDirectory() as place:
        local = Path(place)
        (local / "lab.toml").write_text(PLAN)
        whole_night(tally, local)
        killed_night(tally, local)
        with sqlite3.connect(local / "nights.db") as db:
            db.execute("VACUUM INTO ?", (str(folder / "nights.db"),))
        shutil.copytree(local / "nights.db.files", folder / "nights.db.files")
    return tally.finish("nightly")


if __name__ == "__main__":
    sys.exit(main())
