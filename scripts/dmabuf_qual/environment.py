# SPDX-License-Identifier: GPL-2.0-only
"""What a run must store to be compared with another: key, subject, state."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from dmabuf_common import pci
from dmabuf_common.sysfs import System

from .drive import Drive

Facts = list[list[str]]  # name, value, role


def _version(argv: list[str]) -> str:
    if not shutil.which(argv[0]):
        return "not there"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout else "unknown"


def _cpu(system: System) -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", system.read("/proc/cpuinfo"), re.MULTILINE)
    return match.group(1) if match else "unknown"


def _module(system: System, name: str) -> str:
    folder = f"/sys/module/{name}"
    if not system.exists(folder):
        return "not loaded"
    version = system.read(f"{folder}/version") or "?"
    return f"{version} {system.read(f'{folder}/srcversion')}".strip()


def _config_hash(system: System, release: str) -> str:
    config = system.data(f"/boot/config-{release}") or system.data("/proc/config.gz")
    return hashlib.sha256(config).hexdigest()[:16] if config else "unknown"


def facts(drive: Drive, system: System) -> Facts:
    """Facts with their role."""
    release = os.uname().release
    queue = f"/sys/block/{drive.disk}/queue"
    device = f"/sys/bus/pci/devices/{drive.pci}"
    vulnerabilities = "/sys/devices/system/cpu/vulnerabilities"
    mitigations = {n: system.read(f"{vulnerabilities}/{n}") for n in system.names(vulnerabilities)}
    hashed = hashlib.sha256(json.dumps(mitigations, sort_keys=True).encode()).hexdigest()[:16]
    key = {
        "drive model": drive.model,
        "drive serial": drive.serial,
        "drive size": str(drive.bytes),
        "block size": f"{drive.block} + {drive.metadata}",
        "multipath": str(drive.multipath),
        "MDTS": str(drive.mdts),
        "PCIe link": f"{system.read(f'{device}/current_link_speed')} x"
                     f"{system.read(f'{device}/current_link_width')}",
        "PCIe link at most": f"{system.read(f'{device}/max_link_speed')} x"
                             f"{system.read(f'{device}/max_link_width')}",
        "IOMMU": pci.iommu_mode(system, drive.pci),
        "NUMA node": system.read(f"{device}/numa_node") or "unknown",
        "CPU": _cpu(system),
        "CPUs": str(os.cpu_count()),
        "SMT": system.read("/sys/devices/system/cpu/smt/control") or "unknown",
        "governor": system.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none",
        "idle driver": system.read("/sys/devices/system/cpu/cpuidle/current_driver") or "none",
        "mitigations": hashed,
        "scheduler": system.read(f"{queue}/scheduler") or "unknown",
        "max_sectors_kb": system.read(f"{queue}/max_sectors_kb") or "unknown",
        "nr_requests": system.read(f"{queue}/nr_requests") or "unknown",
        "fio": _version(["fio", "--version"]),
    }  # fmt: skip
    subject = {
        "kernel": release,
        "kernel configuration": _config_hash(system, release),
        "kernel command line": system.read("/proc/cmdline") or "unknown",
        "dmabuf_rw": _module(system, "dmabuf_rw"),
        "drive firmware": drive.firmware,
    }
    aer = "; ".join(
        f"{kind} {system.read(f'{device}/aer_dev_{kind}').splitlines()[-1:]}"
        for kind in ("correctable", "nonfatal", "fatal")
    )
    state = {"PCI address": drive.pci or "none", "AER": aer,
             "IOMMU group": Path(system.real(f"{device}/iommu_group")).name,
             "controller": drive.controller}  # fmt: skip
    listed = []
    for role, group in (("key", key), ("subject", subject), ("state", state)):
        listed += [[name, value, role] for name, value in group.items()]
    return listed


def comparability_key(known: Facts, more: dict[str, object]) -> str:
    """The hash of what must be equal for two runs to be compared."""
    parts = {name: value for name, value, role in known if role == "key"}
    text = json.dumps({**parts, **more}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
