#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What users mount, as the target of every datapath: md raid0, LVM, dm-crypt, btrfs, f2fs, overlayfs, NVMe over the
loop transport and over TCP.

Parts: `bytes` (the program `targets`: right bytes both ways, or the right refusal), `words` (what fio's user reads,
and what auto takes), `lost` (the target goes under load). Runs in the lab's guest, booted with --errors, and
destroys the data on its drives. Exit status 0 pass, 1 fail, 2 usage.

    run.py                              all parts, with the memory of some exporters
    run.py --everything --results FILE  bytes only: these targets and the others, all exporters, for `dmabuf-lab matrix`
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fio import fabric
from fio.harness import Run, Tally, engine, fio, need_engine, nothing_left
from stacks import tested
from stacks.made import EXTENT, EXTENTS, Stack, Stacks

TARGETS = "/src/build/lab/tests/vm/targets"
# Pages, and device memory that the CPU does not map.
# The file systems that copy are called from a worker for udmabuf, which is told of it, and at once for vgem.
EXPORTERS = "udmabuf-scattered,vgem,testexp-gpu"
DATAPATHS = ("registered", "bvec")
TRANSPORTS = ("loop", "tcp")
UDMABUF = ["--dmabuf_exporter=udmabuf"]
# I/Os before the target goes.
BEFORE = 300
# Where the volumes lie on both drives.
OVER_BOTH = f"--offset={EXTENTS * EXTENT - (4 << 20)}"
SENTENCES = {"NOT_NVME": "the target is not NVMe over PCI", "MULTIPATH": "no usable path over PCI",
             "NOT_BLOCK": "the target is not a block device", "FILE_SYSTEM": "on ext4 and xfs"}


def moved(tally: Tally, stacks: Stacks | None, words: list[str], results: Path) -> None:
    """The program `targets`, on what was made, or on its own targets."""
    with tempfile.NamedTemporaryFile("w") as described:
        if stacks:
            described.write("".join(stack.line() for stack in stacks.all))
            described.flush()
            words = ["--described", described.name, *words]
        status = subprocess.run([TARGETS, "--results", str(results), *words], check=False).returncode
    tally.same(status, 0, f"targets {' '.join(words)}")


def everything(tally: Tally, words: list[str], transports: tuple[str, ...], results: Path) -> None:
    """All targets with all memory, and one file of results."""
    # Before the tests, and not after them: the checkout may change meanwhile.
    of = tested.here()
    with tempfile.TemporaryDirectory() as folder:
        plain, more = Path(folder, "plain"), Path(folder, "more")
        moved(tally, None, words, plain)
        with Stacks(transports) as stacks:
            moved(tally, stacks, words, more)
        found = json.loads(plain.read_text())
        found["cells"] += json.loads(more.read_text())["cells"]
        results.write_text(json.dumps({**found, **of}))


def job(stack: Stack, datapath: str, *words: str) -> Run:
    """A job that verifies what it writes."""
    return fio([*engine(UDMABUF, datapath), "--name=s", f"--filename={stack.node}", "--direct=1", "--bs=64k", "--iodepth=4",
                f"--size={1 << 20}", "--offset=128k", *(words or ("--rw=randwrite", "--verify=crc32c"))])


def refused(tally: Tally, name: str, run: Run, reason: str, beneath: str) -> None:
    """Refused before the first I/O, by a sentence that names the cause and what the target is made of."""
    tally.check(run.status != 0 and not run.reports, f"{name}: refused", run.said())
    for word in (reason, SENTENCES[reason], beneath):
        tally.check(word in run.stderr, f"{name}: says {word!r}", run.said())


def by_targets(tally: Tally, stacks: Stacks, options: argparse.Namespace) -> None:
    """The program `targets` on what was made."""
    moved(tally, stacks, ["--exporters", options.exporters, *skips_of(options)], options.results or Path("/tmp/stacks.json"))


def skips_of(options: argparse.Namespace) -> list[str]:
    """What `targets` may skip."""
    return [word for name in options.allow_skip for word in ("--allow-skip", name)]


def words_of(tally: Tally, stack: Stack, takes: str) -> None:
    """What fio's user reads of one target, and what auto does there."""
    with nothing_left(tally, stack.name):
        block = stack.kind != "file"
        if block:
            refused(tally, f"premapped on {stack.name}", job(stack, "premapped"), stack.refused, stack.beneath)
        run = job(stack, "auto")
        if tally.check(run.status == 0 and len(run.reports) == 1, f"auto on {stack.name}", run.said()):
            tally.same((run.reports[0]["datapath"], run.reports[0]["proven"]), (takes, True), f"auto on {stack.name}")
            took = [line for line in run.stderr.splitlines() if ": auto took " in line]
            tally.same(len(took), 1, f"auto on {stack.name}: lines that say what it took")
            for word in ("passed over: premapped: ", SENTENCES[stack.refused], stack.beneath):
                tally.check(word in "".join(took), f"auto on {stack.name}: says {word!r}", run.said())
        if not block:
            run = job(stack, "premapped", "--dmabuf_pin_file=1", "--rw=read")
            refused(tally, f"dmabuf_pin_file on {stack.name}", run, stack.held, stack.beneath)


def words(tally: Tally, stacks: Stacks, _: argparse.Namespace) -> None:
    """What fio's user reads of all of them. Linux 7.3 has what registered needs."""
    here = [int(number) for number in os.uname().release.split(".")[:2]] >= [7, 3]
    for stack in stacks.all:
        if stack.direct:
            words_of(tally, stack, "registered" if here else "bvec")


def ios(stack: Stack) -> int:
    """Reads and writes of a block device so far."""
    number = os.stat(stack.node).st_rdev
    numbers = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read_text().split()
    return int(numbers[0]) + int(numbers[4])


class Load:
    """fio on a target that is going to be lost."""

    def __init__(self, tally: Tally, stack: Stack, datapath: str) -> None:
        self.tally, self.stack, self.datapath = tally, stack, datapath
        self.name = f"{datapath} on {stack.name}, which is lost"
        self.runs: list[Run] = []
        before = ios(stack)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        end = time.monotonic() + 100
        while ios(stack) < before + BEFORE and not self.runs and time.monotonic() < end:
            time.sleep(0.05)
        tally.check(ios(stack) >= before + BEFORE and not self.runs, f"{self.name}: there is load", str(self.runs))

    def _run(self) -> None:
        self.runs.append(fio([*engine(UDMABUF, self.datapath), "--name=l", f"--filename={self.stack.node}", "--direct=1",
                              "--rw=randwrite", "--bs=16k", "--iodepth=16", OVER_BOTH, "--size=8m", "--verify=crc32c",
                              "--verify_backlog=32", "--time_based", "--runtime=300"], timeout=250))

    def ended(self) -> None:
        """It ended with an error that has a name, and found no wrong byte before."""
        self.thread.join()
        run = self.runs[0]
        self.tally.check(run.status not in (0, 124), f"{self.name}: ends with an error", run.said())
        named = re.search(f"file {self.stack.node}: (Input/output error|No such device)", run.stderr)
        self.tally.check(named is not None, f"{self.name}: the error has a name", run.said())
        # A wrong header is "verify: bad …", wrong data under a good one "…: verify failed at …".
        self.tally.check(not re.search("verify: |verify failed", run.stderr), f"{self.name}: what was read is right",
                         run.said())


def lost_fabric(tally: Tally, stack: Stack, transport: str, datapath: str) -> None:
    """The target of a network goes: `nvme disconnect`."""
    with nothing_left(tally, f"{datapath} on {stack.name}"):
        load = Load(tally, stack, datapath)
        fabric.disconnect(transport)
        load.ended()


def lost_leg(tally: Tally, stacks: Stacks, over: list[Stack], datapaths: tuple[str, ...]) -> None:
    """A drive that is a part of several volumes is removed, with a job on each of them."""
    with nothing_left(tally, f"{datapaths} on {[stack.name for stack in over]}"):
        loads = [Load(tally, stack, datapath) for stack, datapath in zip(over, datapaths, strict=True)]
        stacks.second.remove()
        for load in loads:
            load.ended()


def lost(tally: Tally, stacks: Stacks, _: argparse.Namespace) -> None:
    """Each target that can go away, with both datapaths."""
    lost_leg(tally, stacks, [stack for stack in stacks.all if stack.name in ("md raid0", "LVM")], DATAPATHS)
    lost_leg(tally, stacks, stacks.over_two_again(), DATAPATHS[::-1])
    for transport in stacks.transports:
        stack = next(stack for stack in stacks.all if stack.name == f"nvme-{transport}")
        for again, datapath in enumerate(DATAPATHS):
            if again:
                stack = Stack(stack.name, stack.kind, fabric.connect(transport), 0, stack.refused, stack.held)
            lost_fabric(tally, stack, transport, datapath)


PARTS = {"bytes": by_targets, "words": words, "lost": lost}


def main() -> int:
    """All of it, or the bytes of everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--everything", action="store_true", help="the other targets as well, all exporters, bytes only")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--exporters", default=EXPORTERS, metavar="A,B", help=f"memory (default: {EXPORTERS})")
    parser.add_argument("--allow-skip", action="append", default=[], metavar="NAME", help="handed to `targets`")
    parser.add_argument("--without", action="append", default=[], metavar="TRANSPORT", choices=TRANSPORTS,
                        help=f"this kernel lacks it: {', '.join(TRANSPORTS)}")
    options = parser.parse_args()
    options.transports = tuple(transport for transport in TRANSPORTS if transport not in options.without)
    tally = Tally()
    if options.everything:
        if not options.results:
            parser.error("--everything is for --results")
        everything(tally, skips_of(options), options.transports, options.results)
        return tally.finish("stacks")
    need_engine()
    start = time.monotonic()
    with Stacks(options.transports) as stacks:
        for name in options.parts or PARTS:
            print(f"{name} after {time.monotonic() - start:.0f} s", flush=True)
            PARTS[name](tally, stacks, options)
        print(f"taken down after {time.monotonic() - start:.0f} s", flush=True)
    return tally.finish("stacks")


if __name__ == "__main__":
    sys.exit(main())
