# SPDX-License-Identifier: GPL-2.0-only
"""What a run needs besides drive and kernel, looked at before it begins: the programs, an engine that
this fio loads, exporters that make a buffer, and memory that is where it was meant to be."""

import importlib.util
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from dmabuf_common import pci, process
from dmabuf_common.sysfs import System

from . import cases, execute, exporters, paths, rules, tools
from .checks import GREEN, RED, YELLOW, Check
from .drive import Drive
from .errors import QualError

# What the report is made with, and the package of Debian that has it.
REPORT = {"jinja2": "python3-jinja2", "jsonschema": "python3-jsonschema", "matplotlib": "python3-matplotlib",
          "junitparser": "python3-junitparser"}
NVIDIA = "0x10de"
MIB = 1 << 20
ENGINE_S = 30.0


def programs(engine: str, integrity: str) -> list[Check]:
    """dmabuf-integrity, fio, an engine that this fio loads, the report's packages."""
    found = [Check("dmabuf-integrity", GREEN, integrity) if integrity else
             Check("dmabuf-integrity", RED, "dmabuf-integrity is not there", "build and install the engine")]
    if shutil.which("fio"):
        found.append(load(engine))
    else:
        found.append(Check("fio", RED, "fio is not there", "apt-get install fio"))
    missing = [package for name, package in REPORT.items() if importlib.util.find_spec(name) is None]
    if missing:
        found.append(Check("report", YELLOW, "the run is kept, and its report cannot be made here: "
                           f"{', '.join(missing)} missing", f"apt-get install {' '.join(missing)}"))
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
                 "install the engine (ldconfig), or name its file by LIBDMABUF, built for this fio")


@dataclass(frozen=True)
class Looked:
    """An exporter that was asked. exporter: None where it could not be, as module or program are not there."""

    spec: str
    exporter: paths.Exporter | None = None
    ways: tuple[paths.Way, ...] = ()

    @property
    def device(self) -> str:
        """The device that it took, else that it is told to take."""
        told = cases.split_exporter(self.spec)[1]
        return (self.exporter.device if self.exporter else "") or told

    def address(self, system: System) -> str:
        """The PCI address of its device; "" where it is not known."""
        said = self.exporter or paths.Exporter(self.spec)
        return exporters.place(system, self.spec, said.pci, said.device)

    def driver(self, system: System) -> str:
        """The driver of its DRM device; "" where it has none, or that is not known. Where it takes any card,
        that is known where it makes no difference which."""
        if cases.split_exporter(self.spec)[0] != "drm":
            return ""
        if self.device:
            address = self.address(system)
            return exporters.driver(system, self.device) or (pci.driver(system, address) if address else "")
        drivers = [exporters.driver(system, card) for card in exporters.cards(system)]
        alike = drivers and (len(set(drivers)) == 1 or set(drivers) <= set(exporters.SYSTEM_DRM))
        return drivers[0] if alike else ""


def look(system: System, found: Drive, wanted: list[str], integrity: str) -> list[Looked]:
    """Asks each exporter for a buffer, and the module where that is for the drive: by MAP, INFO and UNMAP,
    and only where module and dmabuf-integrity are there."""
    asks = bool(integrity) and system.exists("/dev/dmabuf_rw")
    listed = []
    for spec in wanted:
        # That there is no /dev/udmabuf is said once.
        there = cases.split_exporter(spec)[0] != cases.CONTROL or system.exists("/dev/udmabuf")
        made = paths.of_exporter(integrity, spec) if asks and there else None
        ways = paths.of_drive(integrity, system, found, [made]).ways if made and not made.no else []
        listed.append(Looked(spec, made, tuple(ways)))
    return listed


def nvidia(system: System, wanted: list[str]) -> list[Check]:
    """The kernel modules: only NVIDIA's open ones export dma-bufs."""
    if not any(cases.split_exporter(spec)[0] == "cuda" for spec in wanted):
        return []
    said = system.read("/proc/driver/nvidia/version")
    if not said:
        return [Check("NVIDIA_MODULES", YELLOW, "/proc/driver/nvidia is not there: no NVIDIA driver is loaded",
                      "install the driver with its open kernel modules (nvidia-driver-…-open)")]
    line = said.splitlines()[0].removeprefix("NVRM version:").strip()
    if "Open Kernel Module" in line:
        return [Check("NVIDIA_MODULES", GREEN, line)]
    return [Check("NVIDIA_MODULES", RED, f"not the open ones, which alone export dma-bufs: {line}",
                  "install NVIDIA's open kernel modules (modinfo nvidia says license Dual MIT/GPL)")]


def nvidia_memory(address: str) -> int:
    """Bytes of an NVIDIA GPU's memory, as nvidia-smi says it; 0 where it does not."""
    said = process.output(["nvidia-smi", f"--id={address}", "--query-gpu=memory.total",
                           "--format=csv,noheader,nounits"])
    return int(said) * MIB if said.isdecimal() else 0


def bar(system: System, peer: str) -> list[Check]:
    """Can a drive reach all of a GPU's memory by its BAR?"""
    own = system.read(f"{pci.DEVICES}/{peer}/vendor") == NVIDIA
    memory = system.number(f"{pci.DEVICES}/{peer}/mem_info_vram_total") or 0
    if own:
        memory = nvidia_memory(peer)
        if not memory:
            return [Check("BAR 1", YELLOW, f"how much memory {peer} has is not known, and so whether its BAR 1 "
                          "shows all of it", "install nvidia-smi, see nvidia-smi -q -d MEMORY")]
    size = pci.largest_bar(system, peer)
    if not memory:
        return []
    # What BAR 1 shows is a power of two, and NVIDIA's memory is less a few MiB.
    if size < memory:
        return [Check("SMALL_BAR", RED, f"{peer} shows {size // MIB} of {memory // MIB} MiB",
                      "turn on Resizable BAR and Above 4G Decoding in the firmware")]
    return [Check("BAR", GREEN, f"{peer} shows all of its {memory // MIB} MiB")]


def _reason(no: paths.No) -> str:
    """By which name path.accepted fails for a refusal."""
    own = {paths.IO_HANG, paths.FAILED, paths.NOT_AVAILABLE, paths.BOUNCED, *execute.NAMES.values()}
    return no.reason if no.reason in own else execute.NAMES.get(no.reason, f"REFUSED_{no.reason}")


def refusals(looked: Iterable[Looked], datapaths: Collection[str]) -> list[Check]:
    """What keeps an exporter from the datapaths that have to work, by what the module just said; and a
    question to any of them that did not end. With these path.accepted fails, after hours."""
    listed = []
    for one in looked:
        why: dict[paths.No, list[str]] = {}
        for way in one.ways:
            if way.no and (way.datapath in datapaths or way.no.reason == paths.IO_HANG):
                why.setdefault(way.no, []).append(way.datapath)
        for no, which in why.items():
            name = _reason(no)
            # That the program broke says nothing of the datapath.
            listed.append(Check(name, YELLOW if name == paths.FAILED else RED, f"{one.spec} {', '.join(which)}: "
                                f"{no.text}", rules.REMEDY.get(name, "see docs/errors.md")))
    return listed


def _misplaced(spec: str, memory: str, why: str) -> Check:
    """Memory of the machine where a device's was, or may have been, meant."""
    return Check("SYSTEM_MEMORY", RED if memory == "peer" else YELLOW, f"{spec}: {why}: what is qualified is the "
                 "machine's own memory, no device's",
                 "give the exporter of the GPU (cuda, hip, amdgpu, xe, vfio)"
                 + ("" if memory == "peer" else ', and set memory = "peer" in the requirements'))


def _placed(one: Looked, memory: str, driver: str) -> Check:
    """Is the memory of an exporter where it has to be, by the addresses that the drive has, on every
    datapath that works? With `peer` or `system` path.placement fails for any other."""
    found = {way.datapath: way for way in one.ways if not way.no}
    kinds = {way.memory for way in found.values()}
    where = ", ".join(f"{path} {way.memory}" for path, way in found.items())
    by = f" (driver {driver})" if driver else ""
    if kinds == {memory} or (memory == "any" and kinds == {"peer"}):
        way = next(iter(found.values()))
        return Check("memory", GREEN, f"{one.spec}: {way.memory} memory, route {way.route}")
    if memory != "system" and kinds == {"system"}:
        return _misplaced(one.spec, memory, f"by its addresses its buffer is not in a device{by}")
    if memory != "system" and kinds & {"system", "mixed"}:
        return _misplaced(one.spec, memory, f"by its addresses its buffer is only partly in a device{by} ({where})")
    if "unknown" in kinds:
        return Check("MEMORY_UNKNOWN", YELLOW if memory == "any" else RED, f"{one.spec}: whose memory its buffer is "
                     f"cannot be told by its addresses{by} ({where})", "use another exporter or device")
    return Check("DEVICE_MEMORY", RED, f"{one.spec}: by its addresses its buffer is not in the machine's own memory "
                 f"alone{by} ({where})", 'give udmabuf or a heap, or set memory = "peer" or "any"')


def memories(system: System, looked: Iterable[Looked], memory: str) -> list[Check]:
    """Does each exporter make a buffer, and where is it by the addresses that the drive has? By what is
    known of drivers where nobody could be asked."""
    listed: list[Check] = []
    for one in looked:
        driver = one.driver(system)
        if one.exporter is None:
            if driver in exporters.SYSTEM_DRM and memory != "system":
                listed.append(_misplaced(one.spec, memory, f"a dumb buffer of driver {driver} lies in system memory"))
            continue
        if one.exporter.no:
            listed.append(Check("exporter", RED, f"{one.spec}: {one.exporter.no.text}", "as it says"))
            continue
        control = cases.split_exporter(one.spec)[0] == cases.CONTROL
        meant = exporters.of_devices(one.spec) or memory != "any"
        if meant and not control and not all(way.no for way in one.ways):
            listed.append(_placed(one, memory, driver))
    return listed


def of_tools() -> tuple[str, str]:
    """The engine and dmabuf-integrity that a run would take; "" for one that is not there."""
    try:
        return tools.engine_file(), tools.integrity_program()
    except QualError:
        return tools.engine_file(), ""
