# SPDX-License-Identifier: GPL-2.0-only
"""The exporters: which there are, what their devices are called, and which of them this machine may have."""

import re
from pathlib import Path

from dmabuf_common import loader, pci
from dmabuf_common.sysfs import System

from . import cases
from .errors import QualError

# As the engine and dmabuf-integrity have them.
KINDS = (
    "udmabuf", "heap", "drm", "vfio", "cuda", "hip", "amdgpu", "xe", "i915", "testexp",
    "plugin",
    "fd",
)
# The CPU reaches their memory by the exporter's own copies alone.
COPYING = ("vfio", "cuda", "hip", "amdgpu", "xe", "i915")
# The user's own: her shared object, and her program behind a socket. Whose memory that is she knows.
OWN = ("plugin", "fd")
# Those whose memory is, or may be, a device's.
OF_DEVICES = ("drm", *COPYING)

# Drivers whose dumb buffers are the machine's own memory: of servers' management controllers, of
# hypervisors, of no hardware at all.
SYSTEM_DRM = ("ast", "mgag200", "hibmc-drm", "hibmc", "cirrus", "cirrus-qemu", "bochs-drm", "virtio_gpu",
              "virtio-pci", "vgem", "vkms", "simple-framebuffer", "simpledrm", "udl", "gm12u320", "vboxvideo",
              "vmwgfx")

_RENDER_DRIVERS = ("amdgpu", "xe", "i915")
_FIRST_RENDER_NODE = 128
_VENDORS = {"cuda": "0x10de", "hip": "0x1002"}


def checked(spec: str) -> str:
    """The same, KIND or KIND:DEVICE; QualError where there is no such exporter."""
    kind, device = cases.split_exporter(spec)
    if kind not in KINDS:
        raise QualError(f"there is no exporter {spec!r}; there are {', '.join(KINDS)}")
    if kind == "vfio" and not device:
        raise QualError("exporter vfio takes no device unasked, as the drive writes to its memory: "
                        "give vfio:0000:01:00.0, or vfio:0000:01:00.0/2 for its BAR 2")
    if kind in OWN and not device:
        what = "plugin:FILE, or plugin:FILE,ARGUMENTS" if kind == "plugin" else "fd:SOCKET"
        raise QualError(f"exporter {kind} is one of yours, which has to be named: give {what}")
    # fio may be started in another folder.
    if kind in OWN and "/" in device.partition(",")[0] and not device.startswith("/"):
        raise QualError(f"exporter {kind} is named by a path that begins with /, not {device}")
    return spec


def copies(spec: str) -> bool:
    """Whether the exporter of KIND[:DEVICE] copies for the CPU, or may: which a plug-in does, it knows itself."""
    kind, device = cases.split_exporter(spec)
    return kind in COPYING or kind == "plugin" or (kind == "testexp" and "no-cpu" in device.split("+"))


def plugin_file(spec: str) -> str:
    """The file of a plug-in, as the loader finds it; "" where the exporter is no plug-in."""
    kind, device = cases.split_exporter(spec)
    return loader.find(device.partition(",")[0]) if kind == "plugin" else ""


def is_own(spec: str) -> bool:
    """Whether the exporter is one of the user's."""
    return cases.split_exporter(spec)[0] in OWN


def for_fio(device: str) -> str:
    """A device as one element of the engine's dmabuf_device, which is a list with colons between them."""
    return device.replace(":", "\\:")


def of_devices(spec: str) -> bool:
    """Whether who names this exporter means a device's memory."""
    return cases.split_exporter(spec)[0] in OF_DEVICES


def pci_address(system: System, spec: str) -> str:
    """The PCI address of an exporter's device, as far as its name says it; "" where it does not. A number
    is a card's or a render node's, as for the engine; whose CUDA's and HIP's are, only those know."""
    kind, device = cases.split_exporter(spec)
    # What is behind a GPU's name says how its memory is made.
    device = device.partition("+")[0] if kind == "cuda" else device
    if device.isdecimal() and kind == "drm":
        device = f"card{device}"
    elif device.isdecimal() and kind in _RENDER_DRIVERS:
        device = f"renderD{_FIRST_RENDER_NODE + int(device)}"
    return pci.of_device(system, device)


def place(system: System, spec: str, pci_said: str = "", device_said: str = "") -> str:
    """The PCI address of an exporter's device: as it says itself, else by the name of the device that it says
    it took, else as far as its own name tells; "" where it is not known."""
    return pci_said or pci.of_device(system, device_said) or pci_address(system, spec)


def driver(system: System, device: str) -> str:
    """The driver of a DRM device, by its card or render node; "" where it is not known."""
    folder = pci.drm_device(system, device)
    return Path(system.real(f"{folder}/driver")).name if folder else ""


def cards(system: System) -> list[str]:
    """The names of the machine's DRM cards, card0 first."""
    return [name for name in system.names("/sys/class/drm") if re.fullmatch(r"card\d+", name)]


def _below(system: System, folder: str, prefix: str = "") -> list[str]:
    return [f"{folder}/{name}" for name in system.names(folder) if name.startswith(prefix)]


def of_machine(system: System) -> list[str]:
    """What this machine may be able to make, KIND or KIND:DEVICE, each kind at least once: for one
    without a device, the exporter itself says what it misses. What vfio-pci has is named by nobody, and what
    is the user's own only by her."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS if kind not in OWN}
    found["heap"] = _below(system, "/dev/dma_heap")
    found["drm"] = _below(system, "/dev/dri", "card")
    for node in _below(system, "/dev/dri", "renderD"):
        name = driver(system, node)
        if name in _RENDER_DRIVERS:
            found[name].append(node)
    for address in pci.displays(system):
        vendor = system.read(f"{pci.DEVICES}/{address}/vendor")
        for kind, wanted in _VENDORS.items():
            if vendor == wanted:
                found[kind].append(address)
    return [spec for kind, devices in found.items()
            for spec in ([f"{kind}:{device}" for device in devices] or [kind])]
