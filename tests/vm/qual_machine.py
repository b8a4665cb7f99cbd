#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual on machines that have a fault of their own, made by the lab's options.

    bounced   swiotlb=force: the kernel copies for the drive, whatever the datapath
    peer      --p2p: drive and peer memory each behind a root port of its own, with ACS

Runs in the lab's guest; bounced destroys the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from fio_harness import DEV, Tally, need_engine
from qual import QUAL, script, words

IVSHMEM = "0x1110"


def bounced(tally: Tally) -> None:
    """The run does not begin, unless it is told to; then every measurement is said to be bounced, and
    none of its figures counts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "q"
        done = script(words(place))
        tally.same((done.returncode, place.exists()), (2, False), f"bounced: not begun, {done.stderr}")
        tally.check("--despite BOUNCED" in done.stderr, "bounced: the reason", done.stderr)
        done = script(words(place, "--despite", "BOUNCED", "--only", "perf/udmabuf/bvec/*"))
    tally.same(done.returncode, 1, f"bounced: exit status, {done.stderr[-500:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("fail ")]
    proven = next((line for line in lines if "path.proven" in line), "")
    tally.check("BOUNCED: udmabuf bvec" in proven and "swiotlb copied data for the drive" in proven,
                "bounced: path.proven says BOUNCED", "\n".join(lines))


def peer(tally: Tally) -> None:
    """Preflight sees the topology: no common switch, and ports that redirect."""
    found = [path.parent.name for path in Path("/sys/bus/pci/devices").glob("*/device")
             if path.read_text().strip() == IVSHMEM]
    if not tally.same(len(found), 1, "peer: devices with memory"):
        return
    done = subprocess.run([QUAL, "preflight", "--peer", found[0], DEV], capture_output=True,
                          text=True, timeout=100, check=False)
    tally.same(done.returncode, 0, f"peer: exit status, {done.stderr}")
    for name, says in (("NO_P2P_ROUTE", "meet only at the root complex"),
                       ("ACS_REDIRECT", "sends peer requests up to the root complex"),
                       ("SEGMENT_SPLIT", "the block layer cuts at 128 KiB, the drive takes 512 KiB")):
        tally.check(any(line.startswith("warn ") and name in line and says in line
                        for line in done.stdout.splitlines()), f"peer: {name}", done.stdout)


PARTS = {"bounced": bounced, "peer": peer}


def main() -> int:
    need_engine()
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    tally = Tally()
    PARTS[sys.argv[1]](tally)
    return tally.finish(f"qual_machine {sys.argv[1]}")


if __name__ == "__main__":
    sys.exit(main())
