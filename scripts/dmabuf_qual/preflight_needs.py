# SPDX-License-Identifier: GPL-2.0-only
"""What a run needs besides drive and kernel, looked at before it begins: the programs, an engine that
this fio loads, exporters that make a buffer, and memory that is where it was meant to be."""

import importlib.util
import re
import shutil
from pathlib import Path

from dmabuf_common import pci, process
from dmabuf_common.sysfs import System

from . import cases, exporters, paths, tools
from .checks import GREEN, RED, YELLOW, Check
from .drive import Drive
from .errors import QualError

# What the report is made with, and the package of Debian that has it.
REPORT = {"jinja2": "python3-jinja2", "jsonschema": "python3-jsonschema", "matplotlib": "python3-matplotlib",
          "junitparser": "python3-junitparser"}  # fmt: skip
# Drivers whose dumb buffers are the machine's own memory: of servers' management controllers, of
# hypervisors, of no hardware at all.
SYSTEM_DRM = ("ast", "mgag200", "hibmc-drm", "hibmc", "cirrus", "cirrus-qemu", "bochs-drm", "virtio_gpu",
              "virtio-pci", "vgem", "vkms", "simple-framebuffer", "simpledrm", "udl", "gm12u320", "vboxvideo",
              "vmwgfx")  # fmt: skip
NVIDIA = "0x10de"
MIB = 1 << 20
ENGINE_S = 30.0


def programs(engine: str, integrity: str) -> list[Check]:
    """dmabuf-integrity, fio, an engine that this fio loads, the report's packages."""
    found = [Check("dmabuf-integrity", GREEN, integrity) if integrity else
             Check("dmabuf-integrity", RED, "dmabuf-integrity is not there", "build and install the engine")]  # fmt: skip
    if shutil.which("fio"):
        found.append(load(engine))
    else:
        found.append(Check("fio", RED, "fio is not there", "apt-get install fio"))
    missing = [package for name, package in REPORT.items() if importlib.util.find_spec(name) is None]
    if missing:
        found.append(Check("report", YELLOW, "the run is kept, and its report cannot be made here: "
                           f"{', '.join(missing)} missing", f"apt-get install {' '.join(missing)}"))  # fmt: skip
    return found


def load(engine: str) -> Check:
    """Does fio load the engine? A library that the loader does not find, or that was built for another
    fio, else shows in the first measurement. `engine`: its file, or the name of what is installed."""
    try:
        ended = process.run(["fio", f"--enghelp={engine.removeprefix('external:')}"], ENGINE_S)
    except OSError as error:
        return Check("engine", RED, f"fio cannot be started: {error}", "apt-get install fio")
    if ended.status == 0 and "dmabuf_exporter" in ended.out:
        return Check("engine", GREEN, f"fio loads {engine}")
    said = "; ".join((ended.err.strip() or ended.out.strip()).splitlines()) or "no answer"
    return Check("engine", RED, f"fio does not load {engine}: {said}",
                 "install the engine (ldconfig), or name its file by LIBDMABUF, built for this fio")  # fmt: skip


def _driver(system: System, device: str) -> str:
    """The driver of a DRM device: "" where it is not known."""
    node = re.fullmatch(r"(?:/dev/dri/)?((?:card|renderD)\d+)", device or "card0")
    folder = f"/sys/class/drm/{node.group(1)}/device" if node else ""
    return Path(system.real(f"{folder}/driver")).name if folder else ""


def nvidia(system: System, wanted: list[str]) -> list[Check]:
    """The kernel modules: only NVIDIA's open ones export dma-bufs."""
    if not any(cases.split_exporter(spec)[0] == "cuda" for spec in wanted):
        return []
    said = system.read("/proc/driver/nvidia/version")
    if not said:
        return [Check("NVIDIA_MODULES", YELLOW, "/proc/driver/nvidia is not there: no NVIDIA driver is loaded",
                      "install the driver with its open kernel modules (nvidia-driver-…-open)")]  # fmt: skip
    line = said.splitlines()[0].removeprefix("NVRM version:").strip()
    if "Open Kernel Module" in line:
        return [Check("NVIDIA_MODULES", GREEN, line)]
    return [Check("NVIDIA_MODULES", RED, f"not the open ones, which alone export dma-bufs: {line}",
                  "install NVIDIA's open kernel modules (modinfo nvidia says license Dual MIT/GPL)")]  # fmt: skip


def nvidia_memory(address: str) -> int:
    """Bytes of an NVIDIA GPU's memory, as nvidia-smi says it; 0 where it does not."""
    said = process.output(["nvidia-smi", f"--id={address}", "--query-gpu=memory.total",
                           "--format=csv,noheader,nounits"])  # fmt: skip
    return int(said) * MIB if said.isdecimal() else 0


def bar(system: System, peer: str) -> list[Check]:
    """Can a drive reach all of a GPU's memory by its BAR?"""
    own = system.read(f"{pci.DEVICES}/{peer}/vendor") == NVIDIA
    memory = system.number(f"{pci.DEVICES}/{peer}/mem_info_vram_total") or 0
    if own:
        memory = nvidia_memory(peer)
        if not memory:
            return [Check("BAR 1", YELLOW, f"how much memory {peer} has is not known, and so whether its BAR 1 "
                          "shows all of it", "install nvidia-smi, see nvidia-smi -q -d MEMORY")]  # fmt: skip
    size = pci.largest_bar(system, peer)
    if not memory:
        return []
    # What BAR 1 shows is a power of two, and NVIDIA's memory is less a few MiB.
    if size < memory:
        return [Check("SMALL_BAR", RED, f"{peer} shows {size // MIB} of {memory // MIB} MiB",
                      "turn on Resizable BAR and Above 4G Decoding in the firmware")]  # fmt: skip
    return [Check("BAR", GREEN, f"{peer} shows all of its {memory // MIB} MiB")]


def _misplaced(spec: str, memory: str, why: str) -> Check:
    """Memory of the machine where a device's was, or may have been, meant."""
    return Check("SYSTEM_MEMORY", RED if memory == "peer" else YELLOW, f"{spec}: {why}: what is qualified is the "
                 "machine's own memory, no device's",
                 "give the exporter of the GPU (cuda, hip, amdgpu, xe, vfio)"
                 + ("" if memory == "peer" else ', and set memory = "peer" in the requirements'))  # fmt: skip


def _by_driver(system: System, spec: str, memory: str) -> list[Check]:
    """What a DRM device's driver is known for, where the memory itself cannot be asked."""
    kind, device = cases.split_exporter(spec)
    driver = _driver(system, device) if kind == "drm" else ""
    if driver in SYSTEM_DRM:
        return [_misplaced(spec, memory, f"a dumb buffer of driver {driver} lies in system memory")]
    return []


def memories(system: System, found: Drive, wanted: list[str], memory: str, integrity: str) -> list[Check]:
    """Does each exporter make a buffer, and where is it by the addresses that the drive has? By MAP,
    INFO and UNMAP; by what is known of drivers where the module or dmabuf-integrity is not there."""
    listed: list[Check] = []
    asks = bool(integrity) and system.exists("/dev/dmabuf_rw")
    for spec in wanted:
        kind, device = cases.split_exporter(spec)
        if kind == cases.CONTROL:
            continue
        if not asks:
            listed += _by_driver(system, spec, memory)
            continue
        made = paths.of_exporter(integrity, spec)
        if made.no:
            listed.append(Check("exporter", RED, f"{spec}: {made.no.text}", "as it says"))
            continue
        way = paths.of_drive(integrity, system, found, [made]).ways[0]
        if way.no or kind not in exporters.OF_DEVICES:
            continue
        if way.memory == "system":
            driver = _driver(system, device) if kind == "drm" else ""
            listed.append(_misplaced(spec, memory, "by its addresses its buffer is not in a device"
                                     + (f" (driver {driver})" if driver else "")))  # fmt: skip
        else:
            listed.append(Check("memory", GREEN, f"{spec}: {way.memory} memory, route {way.route}"))
    return listed


def of_tools() -> tuple[str, str]:
    """The engine and dmabuf-integrity that a run would take; "" for one that is not there."""
    try:
        return tools.engine_file(), tools.integrity_program()
    except QualError:
        return tools.engine_file(), ""
