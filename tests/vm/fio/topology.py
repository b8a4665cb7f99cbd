#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""fio and dmabuf-qual on a machine with drives on every branch (dmabuf-lab run --topology).

    topology.py        one fio job on all drives, each direction alone; what is said of nodes and ports
    topology.py bar    also peer to peer, with the BAR behind the switch; needs --iommu strict

fio's own psync is the witness: it lays down what the engine verifies, and verifies what the engine
writes. Destroys the data on every NVMe drive. Exit status 0 pass, 1 fail, 2 usage.
"""

import subprocess
import sys
from pathlib import Path

from fio.device import ivshmem
from fio.harness import Tally, engine, fio, need_engine, nothing_left
from gpu.integrity import bind, integrity
from qual.routes import QUAL, asked, ways, words_of

from dmabuf_common import fingerprint, pci  # qual found the place
from dmabuf_common.sysfs import System

DATAPATHS = ("premapped", "registered", "bvec")
# By what follows "lab-" in the serial number.
BEHIND_SWITCH = ("left", "right")
OTHERS = ("nvme", "port-a", "port-b", "far")
SIZE, BLOCK = 4 << 20, 64 << 10


def drives() -> dict[str, str]:
    """The block device of each drive, by name. The kernel deals numbers out as it finds them."""
    found = {}
    for controller in Path("/sys/class/nvme").iterdir():
        name = (controller / "serial").read_text().strip().removeprefix("lab-")
        for disk in Path("/sys/block").glob(f"{controller.name}n*"):
            found[name] = f"/dev/{disk.name}"
    return found


def address(device: str) -> str:
    """The PCI function of a drive."""
    return (Path("/sys/block") / Path(device).name / "device/device").resolve().name


def written(device: str) -> int:
    """Bytes that were written to it, by the block layer."""
    return int((Path("/sys/block") / Path(device).name / "stat").read_text().split()[6]) * 512


def job(names: str, *words: str) -> list[str]:
    """Blocks with checksums on all drives in turn, the same ones for whoever writes or verifies them."""
    return ["--name=all", f"--filename={names}", "--direct=1", f"--bs={BLOCK}", "--iodepth=16", "--offset=64m",
            f"--size={SIZE * names.count('/dev/')}", "--file_service_type=roundrobin", "--verify=crc32c",
            "--verify_fatal=1", "--allrandrepeat=1", *words]


def several_drives(tally: Tally, found: dict[str, str]) -> None:
    """One job, one dma-buf, all drives."""
    names = ":".join(found.values())
    psync = ["--ioengine=psync"]
    for datapath in DATAPATHS:
        dmabuf = engine(["--dmabuf_exporter=udmabuf"], datapath)
        for direction, first, second in (("read", psync, dmabuf), ("write", dmabuf, psync)):
            name = f"{datapath}, {direction} of {len(found)} drives"
            # What an earlier part has left must not pass for this one's.
            empty = fio([*psync, "--name=z", f"--filename={names}", "--direct=1", "--bs=1m", "--offset=64m",
                         f"--size={SIZE * len(found)}", "--rw=write", "--zero_buffers"])
            tally.same(empty.status, 0, f"{name}: emptied, {empty.said()}")
            before = {device: written(device) for device in found.values()}
            with nothing_left(tally, name):
                lay = fio([*first, *job(names, "--rw=randwrite", "--do_verify=0")])
                counted = {device: written(device) - before[device] for device in found.values()}
                look = fio([*second, *job(names, "--rw=randwrite", "--verify_only=1")])
            tally.same(lay.status, 0, f"{name}: written, {lay.said()}")
            # The block layer counts what premapped sends for nobody: there plain reads of a drive that was emptied have to do.
            if (datapath, direction) != ("premapped", "write"):
                tally.same(counted, dict.fromkeys(found.values(), SIZE), f"{name}: bytes written to each drive")
            tally.same(look.status, 0, f"{name}: verified, {look.said()}")
            tally.same(sum(each["read"]["io_bytes"] for each in look.jobs), SIZE * len(found), f"{name}: bytes verified")
            tally.same([each["error"] for each in look.jobs], [0], f"{name}: fio's error")
            reports = [*lay.reports, *look.reports]
            if tally.same(len(reports), 1, f"{name}: report lines"):
                said = reports[0]
                tally.same((said["datapath"], said["proven"], said["errors"], said["short"]),
                           (datapath, True, 0, 0), f"{name}: report, {said['proof']}")


def nodes(tally: Tally, found: dict[str, str]) -> None:
    """The node that dmabuf-nightly and dmabuf-qual keep with a drive's results is the drive's own."""
    for name, device in found.items():
        key = fingerprint.collect(device)["key"]
        tally.same((key.get("drive's NUMA node") == "1", key.get("NUMA nodes")), (name == "far", "0-1"),
                   f"{name}: its NUMA node, {key}")


def preflight(tally: Tally, device: str, peer: str) -> str:
    """What preflight says of a drive and a peer."""
    done = subprocess.run([QUAL, "preflight", "--peer", peer, device], capture_output=True, text=True, timeout=200,
                          check=False)
    tally.check(done.returncode in (0, 1), f"{device}: preflight ran", done.stderr[-500:])
    return done.stdout


def ports(tally: Tally, found: dict[str, str]) -> None:
    """Preflight says what is below the BAR's switch, and what is not; the distance is that of the bridges."""
    peer, system = ivshmem(), System()
    for name, device in found.items():
        said = preflight(tally, device, peer)
        below = name in BEHIND_SWITCH
        tally.same(f"{address(device)} and {peer} are both below" in said, below, f"{name}: below the switch, {said}")
        tally.same("NO_P2P_ROUTE" in said, not below, f"{name}: only at the root complex, {said}")
        far = fingerprint.p2p_distance(system, address(device), peer)
        # Up from one port of the switch and down to the other one.
        tally.same(far, "4" if below else "through the host bridge", f"{name}: distance")
    tally.same(pci.common_bridge(system, address(found["left"]), address(found["right"])),
               pci.common_bridge(system, address(found["left"]), peer), "the bridge above both drives and the BAR")


def bar(tally: Tally, found: dict[str, str]) -> None:
    """The route to the BAR has its name on every branch, and moves right bytes where QEMU has one: its switch
    sends requests between its ports up to the IOMMU, which qual/machine.py has."""
    peer = ivshmem()
    bind(peer)
    exporter = f"vfio:{peer}/2"
    said = asked(tally, "bar", 0, "--exporter", exporter, *found.values())
    for name, device in found.items():
        route = "switch" if name in BEHIND_SWITCH else "host_bridge"
        tally.same(words_of(ways(said, device, exporter).get("premapped", {})), ("peer", route), f"{name}: route")
    for name in OTHERS:
        for case in ("read", "write"):
            status, facts = integrity(case, "vfio", f"{peer}/2", "--datapath", "premapped", drive=found[name])
            tally.check(status == 0 and facts.get("findings") == [], f"{name}: {case} of the BAR", str(facts)[:800])


def main() -> int:
    need_engine()
    if sys.argv[1:] not in ([], ["bar"]):
        sys.exit(__doc__)
    tally = Tally()
    found = drives()
    if set(found) != {*BEHIND_SWITCH, *OTHERS}:
        print(f"setup: the drives are {sorted(found)} (dmabuf-lab run --topology)", file=sys.stderr)
        return 2
    several_drives(tally, found)
    nodes(tally, found)
    ports(tally, found)
    if sys.argv[1:]:
        bar(tally, found)
    return tally.finish("fio_topology")


if __name__ == "__main__":
    sys.exit(main())
