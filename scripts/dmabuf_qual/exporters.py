# SPDX-License-Identifier: GPL-2.0-only
"""The exporters: which there are, what their devices are called, and which of them this machine may have."""

from pathlib import Path

from dmabuf_common import pci
from dmabuf_common.sysfs import System

from . import cases
from .errors import QualError

# As the engine and dmabuf-integrity have them.
KINDS = ("udmabuf", "heap", "drm", "vfio", "cuda", "hip", "amdgpu", "xe", "i915", "testexp")
# The CPU reaches their memory by the exporter's own copies alone.
COPYING = ("vfio", "cuda", "hip", "amdgpu", "xe", "i915")
# Those whose memory is, or may be, a device's.
OF_DEVICES = ("drm", *COPYING)

_RENDER_DRIVERS = ("amdgpu", "xe", "i915")
_VENDORS = {"cuda": "0x10de", "hip": "0x1002"}


def checked(spec: str) -> str:
    """The same, KIND or KIND:DEVICE; QualError where there is no such exporter."""
    kind, device = cases.split_exporter(spec)
    if kind not in KINDS:
        raise QualError(f"there is no exporter {spec!r}; there are {', '.join(KINDS)}")
    if kind == "vfio" and not device:
        raise QualError("exporter vfio takes no device unasked, as the drive writes to its memory: "
                        "give vfio:0000:01:00.0, or vfio:0000:01:00.0/2 for its BAR 2")  # fmt: skip
    return spec


def copies(spec: str) -> bool:
    """Whether the exporter of KIND[:DEVICE] copies for the CPU."""
    kind, device = cases.split_exporter(spec)
    return kind in COPYING or (kind == "testexp" and "no-cpu" in device.split("+"))


def _below(system: System, folder: str, prefix: str = "") -> list[str]:
    return [f"{folder}/{name}" for name in system.names(folder) if name.startswith(prefix)]


def _driver(system: System, node: str) -> str:
    """The driver of a render node's device."""
    return Path(system.real(f"/sys/class/drm/{Path(node).name}/device/driver")).name


def of_machine(system: System) -> list[str]:
    """What this machine may be able to make, KIND or KIND:DEVICE, each kind at least once: for one
    without a device, the exporter itself says what it misses. What vfio-pci has is named by nobody."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    found["heap"] = _below(system, "/dev/dma_heap")
    found["drm"] = _below(system, "/dev/dri", "card")
    for node in _below(system, "/dev/dri", "renderD"):
        driver = _driver(system, node)
        if driver in _RENDER_DRIVERS:
            found[driver].append(node)
    for address in pci.displays(system):
        vendor = system.read(f"{pci.DEVICES}/{address}/vendor")
        for kind, wanted in _VENDORS.items():
            if vendor == wanted:
                found[kind].append(address)
    return [spec for kind, devices in found.items()
            for spec in ([f"{kind}:{device}" for device in devices] or [kind])]  # fmt: skip
