#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Gives fio what cannot work and checks that it says so by name, fails, and leaves nothing behind.

Runs in the lab's guest. `--no-module`: the few cases for a guest without dmabuf_rw.ko.
Exit status 0 pass, 1 fail, 2 usage.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fio.harness import (DEV, ENGINE, NOBODY, NOT_NVME, Tally, drm_device, fio, module_users,
                         need_engine, nothing_left)

NODE = Path("/dev/dmabuf_rw")
SIZE_LIMIT = Path("/sys/module/udmabuf/parameters/size_limit_mb")


def job(*options: str, target: str = DEV, rw: str = "randread", direct: int = 1,
        bs: str = "4k", iodepth: int = 8, size: str = "4m") -> list[str]:
    """A small job with these engine options."""
    return ["--name=e", f"--filename={target}", f"--direct={direct}", f"--rw={rw}", f"--bs={bs}",
            f"--iodepth={iodepth}", f"--size={size}", f"--ioengine={ENGINE}", *options]


def refused(tally: Tally, name: str, words: list[str], expected: list[str],
            user: int | None = None, memlock: int | None = None) -> None:
    """fio must fail, and say each of `expected` (any of those separated by |)."""
    with nothing_left(tally, name):
        run = fio(words, user=user, memlock=memlock, timeout=30)
    tally.check(run.status not in (0, 124) and run.status > 0, f"{name}: fails", run.said())
    text = run.stderr.lower()
    for word in expected:
        tally.check(any(choice.lower() in text for choice in word.split("|")),
                    f"{name}: says {word!r}", run.said())
    tally.check("libdmabuf" in run.stderr or "valid values" in run.stderr
                or "unrecognized option" in text, f"{name}: says who complains", run.said())


def works(tally: Tally, name: str, words: list[str], user: int | None = None,
          memlock: int | None = None) -> None:
    """The same thing done right must work, or the refusal proves nothing."""
    run = fio(words, user=user, memlock=memlock, timeout=60)
    tally.check(run.status == 0, f"{name}: works", run.said())


@contextmanager
def mode(path: str | Path, bits: int) -> Iterator[None]:
    """A file's mode, for the length of a block."""
    before = os.stat(path).st_mode & 0o7777
    os.chmod(path, bits)
    try:
        yield
    finally:
        os.chmod(path, before)


def without_module(tally: Tally) -> None:
    """No module is loaded."""
    tally.same(module_users(), -1, "the module is not loaded")
    for datapath in ("premapped", "registered", "auto"):
        refused(tally, f"no module, {datapath}", job(f"--dmabuf_datapath={datapath}"),
                ["dmabuf_rw", "module|modprobe|insmod|load"])
    for datapath in ("bounce", "host"):
        works(tally, f"no module, {datapath}", job(f"--dmabuf_datapath={datapath}"))


def permission(tally: Tally) -> None:
    """/dev/dmabuf_rw is not for everybody."""
    with mode(DEV, 0o666), mode("/dev/udmabuf", 0o666):
        for datapath in ("premapped", "registered", "auto"):
            refused(tally, f"device not permitted, {datapath}",
                    job(f"--dmabuf_datapath={datapath}"),
                    ["/dev/dmabuf_rw", "root|permi|group"], user=NOBODY)
        with mode(NODE, 0o666):
            works(tally, "device permitted", job("--dmabuf_datapath=premapped"), user=NOBODY,
                  memlock=64 << 20)
        with mode("/dev/udmabuf", 0o600), mode(NODE, 0o666):
            refused(tally, "exporter not permitted", job("--dmabuf_datapath=premapped"),
                    ["/dev/udmabuf", "root|permi|group"], user=NOBODY)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """A file is not there, for the length of a block."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


def not_given(tally: Tally) -> None:
    """The module is loaded and its device is not there, as in a container that was not given it."""
    with gone(NODE):
        for datapath in ("premapped", "registered", "auto"):
            refused(tally, f"device not given, {datapath}", job(f"--dmabuf_datapath={datapath}"),
                    ["though the dmabuf_rw kernel module is loaded", "--device /dev/dmabuf_rw"])
    works(tally, "device given", job("--dmabuf_datapath=premapped"))


def exporters(tally: Tally) -> None:
    """Exporters that are not there."""
    for options, words in ((["--dmabuf_exporter=heap", "--dmabuf_device=nosuchheap"],
                            ["nosuchheap", "dmabuf_device"]),
                           (["--dmabuf_exporter=drm", "--dmabuf_device=/dev/dri/card77"],
                            ["/dev/dri/card77", "dmabuf_device"]),
                           (["--dmabuf_exporter=drm", "--dmabuf_device=/dev/null"],
                            ["/dev/null"])):
        for datapath in ("premapped", "registered", "bounce"):
            refused(tally, f"missing device {options[1]}, {datapath}",
                    job(*options, f"--dmabuf_datapath={datapath}"), words)
    with gone(Path("/dev/udmabuf")):
        refused(tally, "no udmabuf", job("--dmabuf_datapath=premapped"), ["udmabuf", "modprobe"])
    with gone(Path("/dev/dma_heap")):
        refused(tally, "no heaps", job("--dmabuf_exporter=heap"), ["heap", "/dev/dma_heap"])


def size_limit(tally: Tally) -> None:
    """udmabuf is asked for more than its size_limit_mb."""
    before = SIZE_LIMIT.read_text()
    SIZE_LIMIT.write_text("2")
    try:
        choices: list[list[str]] = [[], ["--dmabuf_hugepages=1"]]
        for options in choices:
            for datapath in ("premapped", "registered", "bounce"):
                refused(tally, f"over size_limit_mb {' '.join(options)}, {datapath}",
                        job(*options, f"--dmabuf_datapath={datapath}", bs="256k", iodepth=32),
                        ["size_limit_mb", "size_cap", "udmabuf"])
        works(tally, "within size_limit_mb", job("--dmabuf_datapath=premapped", bs="4k"))
    finally:
        SIZE_LIMIT.write_text(before)


def targets(tally: Tally) -> None:
    """Targets that the datapath cannot take."""
    refused(tally, "not NVMe", job("--dmabuf_datapath=premapped", target=NOT_NVME),
            ["nvme", "not_nvme"])
    works(tally, "not NVMe, registered", job("--dmabuf_datapath=registered", target=NOT_NVME))
    works(tally, "not NVMe, auto", job("--dmabuf_datapath=auto", target=NOT_NVME))
    refused(tally, "not O_DIRECT", job("--dmabuf_datapath=premapped", direct=0),
            ["o_direct", "direct=1"])
    file = "/tmp/regular"
    refused(tally, "a regular file", job("--dmabuf_datapath=premapped", target=file),
            ["not_block|not a block device"])

    refused(tally, "upstream on a stock kernel", job("--dmabuf_datapath=upstream"),
            ["this kernel does not have"])
    refused(tally, "hipri without polled queues", job("--dmabuf_datapath=premapped", "--hipri"),
            ["no polled queues", "nvme.poll_queues"])
    works(tally, "without hipri", job("--dmabuf_datapath=premapped"))

    subprocess.run(["blockdev", "--setro", DEV], check=True)
    try:
        for datapath in ("premapped", "registered", "auto"):
            for rw in ("randwrite", "randrw"):
                refused(tally, f"read-only device, {rw}, {datapath}",
                        job(f"--dmabuf_datapath={datapath}", rw=rw),
                        ["read-only|read_only|reading only|permission denied"])
        works(tally, "read-only device, reads", job("--dmabuf_datapath=premapped"))
    finally:
        subprocess.run(["blockdev", "--setrw", DEV], check=True)
    with mode(DEV, 0o444), mode("/dev/udmabuf", 0o666), mode(NODE, 0o666):
        for datapath in ("premapped", "registered"):
            refused(tally, f"target that may only be read, {datapath}",
                    job(f"--dmabuf_datapath={datapath}", rw="randwrite"),
                    ["reading only|read-only|permission denied"], user=NOBODY, memlock=64 << 20)
        works(tally, "target that may only be read, reads", job("--dmabuf_datapath=premapped"),
              user=NOBODY, memlock=64 << 20)


def values(tally: Tally) -> None:
    """Options with values that are none."""
    refused(tally, "unknown exporter", job("--dmabuf_exporter=floppy"),
            ["udmabuf", "heap", "drm", "valid values"])
    refused(tally, "unknown datapath", job("--dmabuf_datapath=teleport"),
            ["premapped", "registered", "valid values"])
    refused(tally, "unknown option", job("--dmabuf_nosuchoption=1"),
            ["dmabuf_nosuchoption"])
    refused(tally, "huge pages of a heap",
            job("--dmabuf_exporter=heap", "--dmabuf_hugepages=1"), ["dmabuf_hugepages", "udmabuf"])
    refused(tally, "report that cannot be written",
            job("--dmabuf_datapath=premapped", "--dmabuf_report=/nosuchfolder/r.json"),
            ["/nosuchfolder/r.json", "dmabuf_report"])
    refused(tally, "misaligned block size",
            job("--dmabuf_datapath=premapped", bs="1000"), ["logical block|align|bs"])


def memlock(tally: Tally) -> None:
    """More than a user may pin."""
    with mode(DEV, 0o666), mode("/dev/udmabuf", 0o666), mode(NODE, 0o666):
        for datapath in ("premapped", "registered", "bvec", "host"):
            refused(tally, f"RLIMIT_MEMLOCK, {datapath}",
                    job(f"--dmabuf_datapath={datapath}", bs="256k", iodepth=16),
                    ["memlock", "ulimit -l"], user=NOBODY, memlock=1 << 20)
            works(tally, f"RLIMIT_MEMLOCK high enough, {datapath}",
                  job(f"--dmabuf_datapath={datapath}", bs="256k", iodepth=16), user=NOBODY,
                  memlock=64 << 20)
    refused(tally, "iodepth x bs beyond memory",
            job("--dmabuf_datapath=premapped", bs="256m", iodepth=16, size="512m"),
            ["iodepth|bs"])
    refused(tally, "too few huge pages",
            job("--dmabuf_datapath=premapped", "--dmabuf_hugepages=1", bs="16m", iodepth=256, size="64m"),
            ["huge"])


PARTS = (permission, not_given, exporters, size_limit, targets, values, memlock)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-module", action="store_true",
                        help="the guest has no module: check what fio says to that")
    args = parser.parse_args()
    need_engine()
    if drm_device("vgem") is None:
        sys.exit("setup: vgem is not there")
    tally = Tally()
    for part in (without_module,) if args.no_module else PARTS:
        held = tally.held
        part(tally)
        print(f"      {part.__name__}: {tally.held - held} checks held", flush=True)
    return tally.finish("fio_errors")


if __name__ == "__main__":
    sys.exit(main())
