#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-integrity and dmabuf-qual on memory that the CPU does not map.

    gpu   the exporters of GPUs, on stand-ins for what their vendors give; the test exporter's no-cpu
    bar   a PCI BAR by exporter vfio (dmabuf-lab run --p2p --smp 1)

Both directions, pieces, round trip and load, every byte; then stand-ins that lose what is copied, give
other bytes, or export other memory: each is found by name. Runs in the lab's guest and destroys the data
on $DEV. Exit status 0 pass, 1 fail, 2 usage.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fio.device import ivshmem
from gpu.stand_ins import FAKES
from fio.harness import DEV, Tally, need_engine, nothing_left
from fio.moves import load
from qual.whole import records, words

INTEGRITY = os.environ.get("DMABUF_INTEGRITY", "") or str(
    Path("/src/build/lab/engine/integrity/dmabuf-integrity"))
GIB, MIB = 1 << 30, 1 << 20
# dmabuf_device as dmabuf-integrity gets it; the device and the PCI address that it reports.
GPUS = {
    "cuda": ("0000:42:00.0", "0000:42:00.0", "0000:42:00.0"),
    "hip": ("1", "0000:04:00.0", "0000:04:00.0"),
    "amdgpu": ("renderD902", "/dev/dri/renderD902", None),
    "xe": ("renderD900", "/dev/dri/renderD900", None),
    "i915": ("renderD901", "/dev/dri/renderD901", None),
}
LIBRARIES = ("cuda", "hip")
CASES = ("read", "write", "segments", "roundtrip", "load", "close", "size")


def integrity(case: str, exporter: str, device: str, *more: str, fails: str = "",
              drive: str = DEV) -> tuple[int, dict[str, Any]]:
    """One case: its exit status and what it said."""
    # The drive is the lab's scratch disk: it needs no guard, whose start takes longer than a case does.
    claims = [os.open(drive, os.O_RDWR | os.O_EXCL)] if drive else []
    argv = [INTEGRITY, case, *(word for fd in claims for word in ("--device-fd", str(fd))),
            "--exporter", exporter, *(["--exporter-device", device] if device else []), *more]
    env = {**os.environ, "LD_LIBRARY_PATH": str(FAKES), "LD_PRELOAD": str(FAKES / "nodes.so")}
    if fails:
        env["FAKE_GPU_FAIL"] = fails
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, env=env, check=False, pass_fds=claims)
    for fd in claims:
        os.close(fd)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = {"error": done.stdout + done.stderr}
    return done.returncode, said


def right(tally: Tally, exporter: str, device: str, place: dict[str, Any], path: str,
          cases: tuple[str, ...] = CASES) -> None:
    """Cases that are right, and say where the memory is."""
    for case in cases:
        name = f"{exporter} {path} {case}"
        with nothing_left(tally, name):
            status, said = integrity(case, exporter, device, "--datapath", path)
        if not tally.check(status == 0 and said.get("findings") == [], f"{name}: is right",
                           json.dumps(said)[:800]):
            continue
        facts = said["facts"]
        tally.same({key: facts.get(key) for key in place}, place, f"{name}: where the memory is")
        if case not in ("close", "size"):
            tally.check(said["compared_bytes"] > 50 * MIB, f"{name}: bytes compared",
                        str(said["compared_bytes"]))
        if case == "roundtrip":
            tally.same((facts["agree"] > 50, facts["differ"]), (True, 0), f"{name}: round trips")


def faulty(tally: Tally, exporter: str, device: str, fails: str, wanted: dict[str, set[str]]) -> None:
    """A stand-in that does something else is found by name, in each direction alone and under load."""
    for case, names in wanted.items():
        name = f"{exporter}, {fails}, {case}"
        with nothing_left(tally, name):
            status, said = integrity(case, exporter, device, "--load", str(16 * MIB), fails=fails)
        tally.same((status, {one["name"] for one in said.get("findings", [])}), (1 if names else 0, names),
                   f"{name}: {json.dumps(said)[:600]}")


def refused(tally: Tally, name: str, says: str, got: tuple[int, dict[str, Any]]) -> None:
    """An error that says what to do."""
    status, said = got
    tally.check(status == 2 and says.lower() in said.get("error", "").lower(),
                f"{name}: says {says!r}", f"{status}, {said}")


def gpu(tally: Tally) -> None:
    """The five stand-ins, whose memory is the machine's own by its addresses."""
    for exporter, (device, reported, pci) in GPUS.items():
        place = {"memory": "system", "route": "memory", "exporter_device": reported, "pci": pci,
                 "exported": "alloc+pcie" if exporter == "cuda" else None}
        right(tally, exporter, device, place, "premapped")
        for path in ("registered", "bvec"):
            right(tally, exporter, device, place, path, ("read", "write"))
        lost = {"read": {"READ_NOT_LANDED"}, "write": {"WRITE_NOT_FETCHED"}}
        # Under load the drive fetches what its own reads left in the other memory.
        faulty(tally, exporter, device, "other memory", {**lost, "load": {"FOREIGN_DATA_UNDER_LOAD"}})
        if exporter in LIBRARIES:
            for fails in ("lose copies", "other bytes"):
                faulty(tally, exporter, device, fails,
                       {case: {"COPY_WRONG"} for case in ("read", "write", "roundtrip", "load")})
        else:
            faulty(tally, exporter, device, "private view", lost)
        refused(tally, f"{exporter} without memory", "less",
                integrity("read", exporter, device, fails="memory"))
    load(os.environ.get("DMABUF_TESTEXP_KO", ""))
    right(tally, "testexp", "no-cpu", {"memory": "system", "pci": None}, "premapped", ("read", "write", "roundtrip"))
    for word, found in (("lose-writes", {"read": {"READ_NOT_LANDED"}, "write": set()}),
                        # Its own copies read what they did not write.
                        ("stale-reads", {"write": {"COPY_WRONG"}, "read": {"COPY_WRONG"}})):
        faulty(tally, "testexp", f"no-cpu+{word}", "", found)
    # A stand-in's memory is the machine's own, and it is said so: before the run, and by its end.
    qualified(tally, "cuda:1", 2, "", "SYSTEM_MEMORY: cuda:1")
    qualified(tally, "cuda:1", 1, "fail", "VRAM_MIGRATED: cuda:1 premapped", "--despite", "SYSTEM_MEMORY")


def bar(tally: Tally) -> None:
    """A BAR: device memory by its addresses, by the host bridge."""
    address = ivshmem()
    refused(tally, "vfio, nothing bound", "no PCI device with a memory BAR", integrity("read", "vfio", ""))
    bind(address)
    refused(tally, "vfio without a device", "takes no device unasked", integrity("read", "vfio", ""))
    place = {"memory": "peer", "route": "host_bridge", "exporter_device": f"{address}/2", "pci": address}
    right(tally, "vfio", f"{address}/2", place, "premapped")
    for path in ("registered", "bvec"):
        refused(tally, f"a BAR, {path}", "NO_CPU_VIEW",
                integrity("read", "vfio", f"{address}/2", "--datapath", path))
    refused(tally, "a BAR that is too small", "SMALL_BAR",
            integrity("read", "vfio", f"{address}/2", "--buffer", str(GIB)))
    # What was not asked for is inconclusive.
    qualified(tally, f"vfio:{address}/2", 77, "pass", "peer memory by its addresses")


def qualified(tally: Tally, exporter: str, status: int, placement: str, says: str, *more: str) -> None:
    """dmabuf-qual on it, where the memory has to be a device's: some integrity cases, a measurement."""
    with tempfile.TemporaryDirectory() as folder, nothing_left(tally, f"qual {exporter}"):
        needs = Path(folder) / "needs.toml"
        needs.write_text('memory = "peer"\nload_gib = 0.016\nbuffer_mib = 16\n')
        place = Path(folder) / "q"
        kind = exporter.partition(":")[0]
        only = [f"integrity/{kind}*/premapped/*", f"perf/{kind}*/premapped/*"]
        done = subprocess.run(
            words(place, "--requirements", str(needs), "--exporter", exporter, *more,
                  *(word for one in only for word in ("--only", one))),
            capture_output=True, text=True, timeout=400, check=False,
            env={**os.environ, "LD_LIBRARY_PATH": str(FAKES), "LD_PRELOAD": str(FAKES / "nodes.so")})
        found = records(place)
    tally.same(done.returncode, status, f"qual {exporter}: exit status, {done.stderr[-800:]}")
    if status == 2:
        tally.same((found, says in done.stderr), ({}, True), f"qual {exporter}: not begun, {done.stderr}")
        return
    tally.check(len(found) >= 9, f"qual {exporter}: cases", str(list(found)))
    tally.same([r["id"] for r in found.values() if r["findings"] or "error" in r], [],
               f"qual {exporter}: cases with findings or errors")
    line = next((one for one in done.stdout.splitlines() if "path.placement" in one), "")
    tally.check(line.startswith(placement) and says in line, f"qual {exporter}: placement",
                done.stdout[-1500:])


def bind(address: str) -> None:
    """Gives a PCI function to vfio-pci."""
    subprocess.run(["modprobe", "-a", "vfio-pci", "vfio_iommu_type1"], check=True)
    device = Path("/sys/bus/pci/devices") / address
    (device / "driver_override").write_text("vfio-pci")
    if (device / "driver").exists():
        (device / "driver/unbind").write_text(address)
    Path("/sys/bus/pci/drivers_probe").write_text(address)


PARTS: dict[str, Callable[[Tally], None]] = {"gpu": gpu, "bar": bar}


def main() -> int:
    need_engine()
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    tally = Tally()
    PARTS[sys.argv[1]](tally)
    return tally.finish(f"integrity_gpu {sys.argv[1]}")


if __name__ == "__main__":
    sys.exit(main())
