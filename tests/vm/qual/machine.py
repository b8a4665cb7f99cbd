#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-qual on machines that have a fault of their own, made by the lab's options.

    bounced   swiotlb=force: the kernel copies for the drive, whatever the datapath
    peer      --p2p: drive and peer memory each behind a root port of its own, with ACS
    unmapped  --p2p --switch --iommu strict --smp 1: behind a switch that QEMU makes up, which sends
              requests between its ports up to the IOMMU

Runs in the lab's guest; bounced and unmapped destroy the data on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fio.device import ivshmem
from fio.harness import DEV, Tally, need_engine
from gpu.integrity import bind
from qual.whole import QUAL, records, script, words

from dmabuf_common import pci  # qual found the place
from dmabuf_common.sysfs import System

IVSHMEM = "0x1110"
WITHOUT_IO_URING = str(Path(__file__).resolve().parents[2] / "host/without_io_uring.py")


def bounced(tally: Tally) -> None:
    """The run does not begin, unless it is told to; then every measurement is said to be bounced, and
    none of its figures counts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "q"
        done = script(words(place))
        tally.same((done.returncode, place.exists()), (2, False), f"bounced: not begun, {done.stderr}")
        tally.check("--despite BOUNCED" in done.stderr, "bounced: the reason", done.stderr)
        # How premapped is refused depends on the memory: swiotlb cannot map pieces that are too large for it.
        despite = [word for name in ("BOUNCED", "REFUSED_BOUNCE", "REFUSED_MAP") for word in ("--despite", name)]
        done = script(words(place, *despite, "--only", "perf/udmabuf/bvec/*"))
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
    needed(tally)


def preflight(tally: Tally, name: str, status: int, says: tuple[str, str, str], *words_of: str,
              prefix: tuple[str, ...] = (), **env: str) -> None:
    """Preflight has such a line, and this exit status. `prefix`: the words of a program that starts it."""
    done = subprocess.run([*prefix, QUAL, "preflight", *words_of, DEV], capture_output=True, text=True, timeout=100,
                          check=False, env={**os.environ, **env})
    tally.same(done.returncode, status, f"{name}: exit status, {done.stdout}{done.stderr}")
    level, what, text = says
    tally.check(any(line.split()[:2] == [level, what] and text in line for line in done.stdout.splitlines()),
                f"{name}: {level} {what}", done.stdout)


def needed(tally: Tally) -> None:
    """What a run needs besides: an engine that fio loads, memory that is a device's."""
    preflight(tally, "engine", 0, ("ok", "engine", "fio loads"))
    for error in ("EPERM", "ENOSYS"):
        preflight(tally, f"a container's filter, {error}", 1, ("stop", "IO_URING_FORBIDDEN", "seccomp"),
                  prefix=(WITHOUT_IO_URING, error))
    preflight(tally, "no engine", 1, ("stop", "engine", "does not load /nowhere/libdmabuf.so"),
              LIBDMABUF="/nowhere/libdmabuf.so")
    card = ("--exporter", "drm:/dev/dri/card1")
    preflight(tally, "a framebuffer", 0, ("warn", "SYSTEM_MEMORY", "drm:/dev/dri/card1: by its addresses"), *card)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write('memory = "peer"\n')
        file.flush()
        preflight(tally, "a framebuffer for device memory", 1, ("stop", "SYSTEM_MEMORY", "no device's"),
                  "--requirements", file.name, *card)
    preflight(tally, "no GPU", 1, ("stop", "exporter", "libcuda.so.1 cannot be loaded"), "--exporter", "cuda")


def unmapped(tally: Tally) -> None:
    """The drive's writes to the BAR end in the IOMMU, and are said to be done: that has a name."""
    address = ivshmem()
    nvme = Path("/sys/class/nvme/nvme0/device").resolve().name
    bind(address)
    exporter = f"vfio:{address}/2"
    with tempfile.TemporaryDirectory() as folder:
        needs = Path(folder) / "needs.toml"
        needs.write_text('memory = "peer"\nload_gib = 0.016\nbuffer_mib = 8\n')
        only = [word for case in ("read", "write", "load", "roundtrip") for name in ("vfio*", "udmabuf")
                for word in ("--only", f"integrity/{name}/premapped/{case}")]
        words_of = [*words(Path(folder) / "q", "--requirements", str(needs), "--exporter", exporter), *only]
        if not tally.same(pci.common_bridge(System(), nvme, address) is not None, True,
                          "unmapped: a bridge above both"):
            return
        done = subprocess.run([QUAL, "preflight", "--peer", address, DEV], capture_output=True, text=True,
                              timeout=100, check=False)
        tally.check(any(line.startswith("warn") and "IOMMU_UNMAPPED_PEER" in line
                        for line in done.stdout.splitlines()), "unmapped: preflight warns", done.stdout)
        tally.check("ACS_REDIRECT" not in done.stdout, "unmapped: no port below the switch redirects", done.stdout)
        done = subprocess.run([QUAL, "paths", "--exporter", exporter, DEV], capture_output=True, text=True,
                              timeout=100, check=False)
        tally.check("peer to peer by a PCIe switch" in done.stdout, "unmapped: the route", done.stdout)
        done = script(words_of)
        found = records(Path(folder) / "q")
    tally.same(done.returncode, 1, f"unmapped: exit status, {done.stderr[-800:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("fail ")]
    for requirement in ("integrity.read", "integrity.write", "integrity.load"):
        line = next((line for line in lines if requirement in line), "")
        tally.check("IOMMU_UNMAPPED_PEER: vfio:" in line and "the udmabuf control is right" in line,
                    f"unmapped: {requirement} says it", "\n".join(lines))
    tally.same([r["id"] for r in found.values() if r["exporter"] == "udmabuf" and r["findings"]], [],
               "unmapped: the control's cases with findings")
    tally.same({(r["facts"]["memory"], r["facts"]["route"]) for r in found.values()
                if r["exporter"] == exporter and "facts" in r}, {("peer", "switch")},
               "unmapped: where the memory was")


PARTS = {"bounced": bounced, "peer": peer, "unmapped": unmapped}


def main() -> int:
    need_engine()
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    tally = Tally()
    PARTS[sys.argv[1]](tally)
    return tally.finish(f"qual_machine {sys.argv[1]}")


if __name__ == "__main__":
    sys.exit(main())
