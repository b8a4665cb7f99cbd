# SPDX-License-Identifier: GPL-2.0-only
"""What will go wrong here, before anything is tried: only reads (and makes one io_uring), each finding with its
remedy."""

import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

from dmabuf_common import kernel_log, kmsg, pci
from dmabuf_common.drive_guard import AS_ROOT
from dmabuf_common.nvme import Health
from dmabuf_common.sysfs import System

from . import cases, paths, preflight_needs, uring
from .checks import GREEN as GREEN, RED as RED, YELLOW as YELLOW, Check as Check
from .drive import Drive
from .errors import QualError
from .exporters import SYSTEM_DRM, of_devices
from .preflight_needs import Looked
from .requirements import Requirements

# Without these nothing can be done, whatever the user says.
NEEDED = {"IO_URING_DISABLED", "IO_URING_FORBIDDEN", "IO_URING_FAILED", "module", "udmabuf", "exporter",
          "NOT_NVME", "dmabuf-integrity", "fio", "engine"}
# Of what is no reason to stop, what makes the figures those of another machine.
WEAKENING = {"LINK_DOWNTRAINED"}
MIB = 1 << 20
PROTECTION_BYTES = 8
# IOMMU modes in which an address that a device sends is the one that is reached.
UNTRANSLATED = ("", pci.NO_IOMMU, "identity")


def kernel(system: System, ring: Callable[[], str] = uring.attempt) -> list[Check]:
    """The kernel and io_uring. `ring`: says why none can be made, "" where one can."""
    found = [Check("kernel", GREEN, os.uname().release), uring.check(system, ring())]
    if no := paths.bounced(system):
        text, _, remedy = no.text.partition("; ")
        found.append(Check(no.reason, RED, text, remedy))
    return found


def module(system: System) -> list[Check]:
    """dmabuf_rw."""
    if not system.exists("/sys/module/dmabuf_rw"):
        if system.signed_modules_only():
            return [Check("module", RED, "dmabuf_rw is not loaded. This kernel takes signed modules only "
                          "(Secure Boot, or a parameter of Linux)", "modprobe dmabuf_rw; if its key is rejected, sign it "
                          "with one that is enrolled: docs/kernel-module.md, Secure Boot")]
        return [Check("module", RED, "dmabuf_rw is not loaded", "modprobe dmabuf_rw")]
    if not system.exists("/dev/dmabuf_rw"):
        return [Check("module", RED, "dmabuf_rw is loaded, and there is no /dev/dmabuf_rw here",
                      "give the container this device (docker run --device /dev/dmabuf_rw)")]
    version = system.read("/sys/module/dmabuf_rw/version") or "?"
    return [Check("module", GREEN, f"dmabuf_rw {version}")]


def udmabuf(system: System, needed_mib: int) -> list[Check]:
    """The control exporter and its limits."""
    if not system.exists("/dev/udmabuf"):
        return [Check("udmabuf", RED, "there is no /dev/udmabuf, the control of every test",
                      "modprobe udmabuf")]
    limit = system.number("/sys/module/udmabuf/parameters/size_limit_mb")
    if limit is not None and limit < needed_mib:
        return [Check("SIZE_CAP", RED, f"udmabuf's size_limit_mb is {limit}, {needed_mib} are needed",
                      f"echo {needed_mib} > /sys/module/udmabuf/parameters/size_limit_mb")]
    return [Check("udmabuf", GREEN, f"size_limit_mb {limit}")]


def testexp(system: System) -> list[Check]:
    """The test exporter, with which faults are made to order."""
    if system.exists("/dev/dmabuf_testexp"):
        return [Check("testexp", GREEN, "the test exporter is there")]
    return [Check("TESTEXP", YELLOW, "dmabuf_testexp is not loaded: four requirements, and so the whole "
                  "run, stay inconclusive", "modprobe dmabuf_testexp, docs/testexp.md")]


def peers(system: System, looked: Iterable[Looked], given: str | None) -> tuple[list[str], list[Check]]:
    """The PCI devices whose memory is meant: the one that the user names, and those of all exporters of
    device memory, whatever the requirements say; and of which exporter that is not known.

    A screen whose buffers are the machine's own memory is left out: nobody reaches its BAR."""
    found, unknown = [given] if given else [], []
    for one in looked:
        if not of_devices(one.spec) or one.driver(system) in SYSTEM_DRM:
            continue
        makes = not (one.exporter and one.exporter.no)
        address = one.address(system)
        if address and system.exists(f"{pci.DEVICES}/{address}"):
            found.append(address)
        elif not given and makes and {way.memory for way in one.ways if not way.no} != {"system"}:
            why = f"it names {address}, which is not there" if address else "which PCI device it takes is not known"
            unknown.append(Check("PEER_UNKNOWN", YELLOW, f"{one.spec}: {why}: its BAR, the route to it and access "
                                 "control were not looked at",
                                 "name it: --peer 0000:41:00.0, or an exporter with its address"))
    return list(dict.fromkeys(found)), unknown


def exporters(system: System, wanted: list[str]) -> list[Check]:
    """The devices of the exporters."""
    found = []
    for spec in wanted:
        kind, device = cases.split_exporter(spec)
        default = {"heap": "/dev/dma_heap", "drm": "/dev/dri", "testexp": "/dev/dmabuf_testexp"}
        node = device if device.startswith("/") else default.get(kind, "")
        if node and not system.exists(node):
            found.append(Check("exporter", RED, f"{spec}: there is no {node}",
                               "load the exporter's driver"))
        elif kind != cases.CONTROL:
            found.append(Check("exporter", GREEN, spec))
    return found


def drive(found: Drive, health: Health | None) -> list[Check]:
    """The drive, its format and its health."""
    listed = [Check("drive", GREEN, f"{found.model} {found.serial}, firmware {found.firmware}, "
                    f"{found.bytes / 1e9:.1f} GB")]
    if not found.controller:
        # What only an NVMe drive tells is not asked for.
        return [*listed, Check("NOT_NVME", RED, f"{found.path} is not NVMe", "give an NVMe namespace")]
    if not found.pci:
        listed.append(Check("NOT_NVME", RED, "the drive is not on PCI (a fabric?)",
                            "give a local NVMe drive"))
    if found.metadata:
        # The drive makes protection information of this size itself, if that is what it is.
        level = YELLOW if found.metadata == PROTECTION_BYTES else RED
        listed.append(Check("METADATA", level, f"formatted with {found.metadata} bytes of metadata or "
                            "protection information a block", "nvme format with an LBA format "
                            "without metadata"))
    if found.block > 4096:
        listed.append(Check("LBA_SIZE", RED, f"blocks of {found.block} bytes",
                            "nvme format with 512 or 4096"))
    if found.multipath:
        listed.append(Check("multipath", GREEN, "the namespace is a multipath head; its first path "
                            f"is {found.controller}"))
    if found.mdts is None:
        listed.append(Check("MDTS", YELLOW, "the longest command is not known", AS_ROOT))
    else:
        text = f"{found.mdts // 1024} KiB a command" if found.mdts else "no limit"
        listed.append(Check("MDTS", GREEN, text))
    if found.emulated:
        listed.append(Check("emulated", YELLOW, "an emulated drive: figures say nothing about hardware",
                            "qualify a real drive"))
    if health is None:
        listed.append(Check("health", YELLOW, "the SMART log cannot be read", AS_ROOT))
    elif health.critical:
        listed.append(Check("CRITICAL_WARNING", RED, f"critical warning 0x{health.critical:02x}",
                            "see nvme smart-log"))
    else:
        listed.append(Check("health", GREEN, f"{health.temperature_c} °C, {health.used_percent} % "
                            f"used, {health.media_errors} media errors"))
    return listed


def cuts(system: System, found: Drive) -> list[Check]:
    """Will the block layer cut transfers that the drive would take whole?"""
    limit = system.number(f"/sys/block/{found.disk}/queue/max_sectors_kb")
    if found.mdts is None or limit is None:
        return []
    if found.mdts == 0 or limit * 1024 < found.mdts:
        takes = f"{found.mdts // 1024} KiB" if found.mdts else "any length"
        return [Check("SEGMENT_SPLIT", YELLOW, f"the block layer cuts at {limit} KiB, the drive takes "
                      f"{takes}", "premapped goes past it with dmabuf_max_command_kb; "
                      f"/sys/block/{found.disk}/queue/max_sectors_kb for the others")]
    return [Check("transfers", GREEN, f"the block layer cuts at {limit} KiB, as the drive does")]


def iommu(system: System, found: Drive) -> list[Check]:
    """Mode and group."""
    if not found.pci:
        return []
    mode = pci.iommu_mode(system, found.pci)
    group = Path(system.real(f"{pci.DEVICES}/{found.pci}/iommu_group")).name
    if mode == pci.NO_IOMMU:
        return [Check("IOMMU", GREEN, "none: addresses are physical")]
    if not mode:
        return [Check("IOMMU", YELLOW, "the mode is not known", AS_ROOT)]
    word = {"DMA": "strict", "DMA-FQ": "lazy", "identity": "passthrough"}.get(mode, mode)
    return [Check("IOMMU", GREEN, f"{word} ({mode}), group {group}")]


def bus(system: System, found: Drive) -> list[Check]:
    """The drive's link, and errors there."""
    if not found.pci:
        return []
    listed = []
    link = pci.link(system, found.pci)
    # The link of a drive that a hypervisor makes up is made up, too.
    if link.downtrained and not found.emulated:
        listed.append(Check("LINK_DOWNTRAINED", YELLOW, f"{link.text()} of "
                            f"{link.most_text()}", "reseat the drive, see the slot"))
    elif link.known:
        listed.append(Check("link", GREEN, link.text()))
    errors = pci.aer_totals(system, found.pci)
    for kind in ("nonfatal", "fatal"):
        if total := errors.get(f"aer_dev_{kind}"):
            listed.append(Check("AER", YELLOW, f"{total} {kind} PCIe errors since boot",
                                "reseat the drive, see dmesg"))
    return listed


def route(system: System, found: Drive, peer: str) -> list[Check]:
    """A peer's BAR, and whether the drive gets there."""
    if not found.pci:
        return []
    if not system.exists(f"{pci.DEVICES}/{peer}"):
        return [Check("exporter", RED, f"there is no PCI device {peer}, whose memory is meant", "see lspci -D")]
    listed = preflight_needs.bar(system, peer)
    bridge = pci.common_bridge(system, found.pci, peer)
    if bridge is None:
        listed.append(Check("NO_P2P_ROUTE", YELLOW, f"{found.pci} and {peer} meet only at the root "
                            "complex: some processors have no route there",
                            "put both behind one PCIe switch"))
    else:
        listed.append(Check("p2p", GREEN, f"{found.pci} and {peer} are both below {bridge}"))
    # Requests go up from the drive's side, what is read comes back from the peer's, and neither gets
    # past the bridge above both.
    beyond = pci.path_to_root(system, bridge) if bridge else []
    both = dict.fromkeys(pci.redirecting(system, found.pci) + pci.redirecting(system, peer))
    redirect = [port for port in both if port not in beyond]
    if bridge and found.emulated and not redirect and pci.iommu_mode(system, found.pci) not in UNTRANSLATED:
        listed.append(Check("IOMMU_UNMAPPED_PEER", YELLOW, f"{bridge} may be a switch that a hypervisor makes up: "
                            "it may send requests from port to port up to the IOMMU, which does not know their "
                            "addresses", "see what integrity.read says; run without an IOMMU in the machine"))
    if redirect:
        listed.append(Check("ACS_REDIRECT", YELLOW, f"{', '.join(redirect)} sends peer requests up to "
                            "the root complex", "turn ACS off there (pci=disable_acs_redir=…), if "
                            "isolation is not needed"))
    groups = [system.exists(f"{pci.DEVICES}/{a}/iommu_group") for a in (found.pci, peer)]
    if groups[0] != groups[1]:
        listed.append(Check("IOMMU_UNMAPPED_PEER", RED, "one of drive and peer is behind an IOMMU, the "
                            "other is not", "use one IOMMU setting for both"))
    return listed


def limits(needed_mib: int) -> list[Check]:
    """RLIMIT_MEMLOCK."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or soft == resource.RLIM_INFINITY or soft >= needed_mib * MIB:
        return [Check("memlock", GREEN, "root" if os.geteuid() == 0 else f"{soft // MIB} MiB")]
    return [Check("MEMLOCK", RED, f"RLIMIT_MEMLOCK is {soft // 1024} KiB, {needed_mib} MiB are needed",
                  "ulimit -l, or run as root")]


def log() -> list[Check]:
    """The kernel log since boot."""
    messages = kmsg.after(-1)
    if messages is None:
        return [Check("dmesg", YELLOW, "the kernel log cannot be read", AS_ROOT)]
    bad = kernel_log.complaints(messages)
    if bad:
        return [Check("KERNEL_LOG", YELLOW, f"{len(bad)} errors since boot, the last: {bad[-1][:120]}",
                      "see dmesg")]
    return [Check("dmesg", GREEN, "no error of drive, PCIe or IOMMU since boot")]


def examine(
    found: Drive,
    health: Health | None,
    wanted: list[str],
    needs: Requirements,
    peer: str | None,
    system: System | None = None,
    programs: tuple[str, str] | None = None,
) -> list[Check]:
    """All checks. `programs`: the engine and dmabuf-integrity, else those that a run would take."""
    system = system or System()
    engine, integrity = programs or preflight_needs.of_tools()
    looked = preflight_needs.look(system, found, wanted, integrity)
    meant, unknown = peers(system, looked, peer)
    ways = [check for one in meant for check in route(system, found, one)]
    return [
        *kernel(system),
        *module(system),
        *udmabuf(system, needs["buffer_mib"]),
        *preflight_needs.programs(engine, integrity),
        *exporters(system, wanted),
        *preflight_needs.nvidia(system, wanted),
        *preflight_needs.refusals(looked, needs["datapaths"]),
        *preflight_needs.memories(system, looked, needs["memory"]),
        *testexp(system),
        *drive(found, health),
        *cuts(system, found),
        *iommu(system, found),
        *bus(system, found),
        *ways,
        *unknown,
        *limits(needs["buffer_mib"]),
        *log(),
    ]


def enforce(checks: list[Check], despite: list[str]) -> None:
    """QualError where a run must not begin; the user may say to go on despite what is named, which
    then fails."""
    for check in checks:
        if check.level != RED or (check.name in despite and check.name not in NEEDED):
            continue
        text = f"preflight says stop: {check.name}: {check.text}; {check.remedy}"
        if check.name not in NEEDED:
            text += f"; with --despite {check.name} the run begins, and machine.ready fails"
        raise QualError(text)


def table(checks: list[Check], colour: bool) -> str:
    """The traffic lights."""
    codes = {GREEN: "32", YELLOW: "33", RED: "31"}
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        light = f"{check.level:<4}"
        if colour:
            light = f"\033[{codes[check.level]}m{light}\033[0m"
        tail = f" → {check.remedy}" if check.remedy else ""
        lines.append(f"{light}  {check.name:<{width}}  {check.text}{tail}")
    return "\n".join(lines)
