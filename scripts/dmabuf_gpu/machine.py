# SPDX-License-Identifier: GPL-2.0-only
"""The machine's own facts: what decides whether a drive could reach the GPU here."""

import gzip
import os
import re
from typing import Any

from dmabuf_common.sysfs import System

_PARAMETERS = re.compile(r"(?:Open\w*|EnableResizableBar|Peer\w*|RegistryDwords): .+")
_CONFIGS = ("CONFIG_PCI_P2PDMA", "CONFIG_DMABUF_MOVE_NOTIFY", "CONFIG_BLK_DEV_NVME")


def kernel_config(system: System, release: str) -> dict[str, str]:
    """Switches of the running kernel; empty where it does not tell them."""
    text = system.read(f"/boot/config-{release}")
    if not text:
        try:
            text = gzip.decompress(system.path("/proc/config.gz").read_bytes()).decode()
        except (OSError, EOFError, gzip.BadGzipFile):
            return {}
    found = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)
    return {name: found.get(name, "n") for name in _CONFIGS}


def facts(system: System) -> dict[str, Any]:
    """All of them. What is not known is left out."""
    release = os.uname().release
    said: dict[str, Any] = {
        "kernel": release, "arch": os.uname().machine, "root": os.geteuid() == 0,
        "module": system.exists("/dev/dmabuf_rw"), "udmabuf": system.exists("/dev/udmabuf"),
        "nvme_controllers": len(system.names("/sys/class/nvme")), "iommu_groups": len(system.names("/sys/kernel/iommu_groups")),
        "hypervisor": " hypervisor" in system.read("/proc/cpuinfo"),
    }
    config = kernel_config(system, release)
    if config:
        said["config"] = config
    version = system.read("/proc/driver/nvidia/version")
    if version:
        said["nvidia"] = version.splitlines()[0].removeprefix("NVRM version:").strip()
        said["nvidia_parameters"] = _PARAMETERS.findall(system.read("/proc/driver/nvidia/params"))
    return said
