# SPDX-License-Identifier: GPL-2.0-only
"""What must be stored for a run to be comparable: the key, hashed, and the subject apart.

key: what must be equal. Runs with different keys are never compared silently.
subject: what may change from run to run, and is what is judged: kernel, module, firmware, engine.
state: what was seen, and is neither.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from . import loader, pci, process
from .sysfs import System

Facts = dict[str, str]

QUEUE = ("scheduler", "nr_requests", "max_sectors_kb", "max_hw_sectors_kb", "max_segments",
         "logical_block_size", "physical_block_size", "io_poll", "nomerges", "rq_affinity",
         "write_cache", "wbt_lat_usec", "zoned")
# Of the kernel's command line, what only says which kernel was booted.
_WHICH_KERNEL = re.compile(r"^(BOOT_IMAGE|initrd)=")


def digest(facts: Mapping[str, str]) -> str:
    """The hash of facts, whatever order they were found in."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The names of facts that are not equal."""
    return sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


def file_hash(path: str) -> str:
    """What tells one build of a file from another; "" where it is not there."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _processor(system: System, key: Facts, subject: Facts) -> None:
    info = system.read("/proc/cpuinfo")
    # Microcode changes like a kernel does: it is judged, and the machine stays the same one.
    for name, label, facts in (("model name", "CPU", key), ("microcode", "CPU microcode", subject)):
        match = re.search(rf"^{name}\s*:\s*(.*)$", info, re.M)
        facts[label] = match.group(1) if match else platform.machine()
    key["CPUs online"] = system.read("/sys/devices/system/cpu/online")
    key["SMT"] = system.read("/sys/devices/system/cpu/smt/control")
    cpu = "/sys/devices/system/cpu/cpu0"
    key["governor"] = system.read(f"{cpu}/cpufreq/scaling_governor")
    key["frequency driver"] = system.read(f"{cpu}/cpufreq/scaling_driver")
    key["turbo off"] = system.read("/sys/devices/system/cpu/intel_pstate/no_turbo")
    key["idle driver"] = system.read("/sys/devices/system/cpu/cpuidle/current_driver")
    states = []
    for name in system.names(f"{cpu}/cpuidle"):
        off = system.read(f"{cpu}/cpuidle/{name}/disable") == "1"
        states.append(system.read(f"{cpu}/cpuidle/{name}/name") + (" off" if off else ""))
    key["C-states"] = ", ".join(states)
    folder = "/sys/devices/system/cpu/vulnerabilities"
    key["mitigations"] = "; ".join(
        f"{name}: {system.read(f'{folder}/{name}')}" for name in system.names(folder)
    )
    key["NUMA nodes"] = system.read("/sys/devices/system/node/online")
    memory = re.search(r"^MemTotal:\s+(\d+)", system.read("/proc/meminfo"), re.M)
    # The kernel keeps a little for itself, and not always as much.
    key["memory GiB"] = str(round(int(memory.group(1)) / (1 << 20))) if memory else ""


def _pci(system: System, address: str, key: Facts, state: Facts) -> None:
    folder = f"{pci.DEVICES}/{address}"
    key["PCIe link at most"] = " x".join(
        filter(None, (system.read(f"{folder}/max_link_speed"), system.read(f"{folder}/max_link_width")))
    )
    state["PCIe link"] = " x".join(
        filter(
            None,
            (system.read(f"{folder}/current_link_speed"), system.read(f"{folder}/current_link_width")),
        )
    )
    key["PCIe payload"] = str(pci.max_payload(system, address) or "")
    key["IOMMU"] = pci.iommu_mode(system, address)
    group = system.real(f"{folder}/iommu_group")
    # The group's number is dealt out at boot; how many share it is what counts.
    key["IOMMU group size"] = str(len(system.names(f"{group}/devices"))) if group else ""
    key["drive's NUMA node"] = system.read(f"{folder}/numa_node")
    key["drive's BARs"] = ", ".join(str(bar.size) for bar in pci.bars(system, address))
    key["drive's p2p memory"] = system.read(f"{folder}/p2pmem/size")


def p2p_distance(system: System, drive: str, peer: str) -> str:
    """How a peer device and the drive are connected: the steps between them, or that the way leads
    through the host bridge. "" without a peer."""
    if not drive or not pci.chain(system, peer):
        return ""
    steps = pci.distance(system, drive, peer)
    return "through the host bridge" if steps is None else str(steps)


def _drive(
    system: System, disk: str, peer: str, key: Facts, subject: Facts, state: Facts
) -> None:
    if not disk:
        key["drive"] = "none"
        return
    device = system.controller(disk)
    key["drive"] = system.read(f"{device}/model") or system.read(f"/sys/block/{disk}/device/model")
    key["drive serial"] = system.read(f"{device}/serial")
    key["drive sectors"] = system.read(f"/sys/block/{disk}/size")
    subject["drive firmware"] = system.read(f"{device}/firmware_rev")
    key["NVMe queues"] = system.read(f"{device}/queue_count")
    poll = system.read("/sys/module/nvme/parameters/poll_queues")
    key["NVMe poll queues"] = poll
    key["NVMe multipath"] = system.read("/sys/module/nvme_core/parameters/multipath")
    for name in QUEUE:
        key[f"queue {name}"] = system.read(f"/sys/block/{disk}/queue/{name}")
    key["LBA size"] = system.read(f"/sys/block/{disk}/queue/logical_block_size")
    # What the namespace carries beside each block, and whether the kernel checks it.
    metadata = system.read(f"/sys/block/{disk}/metadata_bytes")
    integrity = system.read(f"/sys/block/{disk}/integrity/format")
    if metadata or integrity:
        key["LBA metadata"] = ", ".join(filter(None, (f"{metadata} bytes" if metadata else "", integrity)))
    chain = system.pci_chain(disk)
    key["PCI path"] = " ".join(chain)
    if chain:
        key["ACS"] = " ".join(pci.acs_text(system, address) for address in chain).strip()
        key["p2p distance"] = p2p_distance(system, chain[-1], peer)
        _pci(system, chain[-1], key, state)


def _target(system: System, target: str, key: Facts) -> str:
    """The disk behind the target, of which the key says what it is."""
    disk = system.block_device(target)
    key["target"] = "block device" if Path(target).is_block_device() else "file"
    # By its name a drive may be another one tomorrow, or another part of the same one.
    about = f"/sys/block/{disk}" if disk else ""
    named = [system.read(f"{about}/{name}") for name in ("nsid", "wwid", "device/wwid", "dm/uuid", "md/uuid")]
    if disk and any(named):
        key["drive namespace"] = " ".join(dict.fromkeys(filter(None, named)))
    elif disk:
        key["drive namespace"] = system.read(f"{about}/dm/name") or disk
    folder = system.block_folder(target)
    if key["target"] == "block device" and system.exists(f"{folder}/partition"):
        start, size = system.read(f"{folder}/start"), system.read(f"{folder}/size")
        key["drive part"] = f"{size} sectors from {start}"
    elif key["target"] == "block device":
        key["drive part"] = "whole"
    if key["target"] == "file":
        for line in system.read("/proc/self/mounts").splitlines():
            words = line.split()
            if len(words) > 2 and words[0].startswith("/dev/") and words[0].endswith(disk or "?"):
                key["file system"] = words[2]
    return disk


def collect(
    target: str,
    engine: str = "",
    fio: str = "fio",
    system: System | None = None,
    peer: str = "",
    disk: str = "",
) -> dict[str, Facts]:
    """Key, subject and state of this machine for I/O on `target`; empty values are left out. `peer`:
    the PCI address of the device whose memory is used; `disk`: the name of the disk that the target
    is known to be."""
    system = system or System()
    key: Facts = {}
    subject: Facts = {}
    state: Facts = {}
    line = system.read("/proc/cmdline").split()
    key["kernel parameters"] = " ".join(word for word in line if not _WHICH_KERNEL.match(word))
    release = platform.release()
    subject["kernel"] = f"{release} {platform.version()}"
    subject["kernel config"] = file_hash(str(system.path(f"/boot/config-{release}"))) or file_hash(
        str(system.path("/proc/config.gz"))
    )
    key["machine"] = " ".join(
        filter(None, (system.read(f"/sys/class/dmi/id/{n}") for n in ("sys_vendor", "product_name")))
    )
    subject["firmware of the machine"] = system.read("/sys/class/dmi/id/bios_version")
    subject["module"] = system.read("/sys/module/dmabuf_rw/version")
    subject["module srcversion"] = system.read("/sys/module/dmabuf_rw/srcversion")
    key["fio"] = process.output([fio, "--version"])
    if loader.is_file(engine):
        subject["engine"] = file_hash(loader.of_fio(loader.find(engine), key["fio"])) or "not found"
    _processor(system, key, subject)
    if disk:
        key["target"] = "block device"
    else:
        disk = _target(system, target, key)
    _drive(system, disk, peer, key, subject, state)
    groups = {"key": key, "subject": subject, "state": state}
    return {
        role: {name: value for name, value in facts.items() if value}
        for role, facts in groups.items()
    }
