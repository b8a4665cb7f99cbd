# SPDX-License-Identifier: GPL-2.0-only
"""What makes a run inconclusive: the machine is looked at before and after it.

Everything here is a reason to believe neither a good nor a bad figure. What cannot be read on a
machine is not guessed at: `unseen` names it, and the report shows it.
"""

from dataclasses import dataclass, field

from dmabuf_common import kernel_log, kmsg, nvme, pci
from dmabuf_common.sysfs import System

# Counters of nvme.Health whose growth during a run makes it inconclusive, and what it means.
SMART_COUNTERS = {
    "thm_temp1_trans_count": "the drive throttled (first thermal threshold)",
    "thm_temp2_trans_count": "the drive throttled (second thermal threshold)",
    "warning_temp_time": "the drive was too warm",
    "critical_comp_time": "the drive was critically warm",
    "media_errors": "the drive reported media errors",
}

# What `unseen` calls what a drive must be watched by.
SMART = "the drive's SMART log (needs root)"
LOG = "the kernel's log (/dev/kmsg needs root)"


@dataclass
class Snapshot:
    """Counters, states that must not change, states to show, and the end of the kernel's log."""

    counters: dict[str, int] = field(default_factory=dict)
    steady: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)


def complaints_so_far() -> int | None:
    """How often the kernel complained since boot, as far as its log goes back; None: no log."""
    messages = kmsg.after(-1)
    return None if messages is None else len(kernel_log.complaints(messages))


def _smart(controller: str, nsid: int | None, snapshot: Snapshot) -> None:
    found = nvme.health(controller)
    if found is None:
        snapshot.unseen.append(SMART)
        return
    for name in SMART_COUNTERS:
        snapshot.counters[name] = int(getattr(found, name))
    snapshot.steady["critical_warning"] = str(found.critical)
    snapshot.shown["drive temperature"] = f"{found.temperature_c} °C"
    snapshot.shown["drive percent_used"] = str(found.used_percent)
    snapshot.shown["drive avail_spare"] = str(found.spare_percent)
    snapshot.shown["drive written"] = str(found.written_bytes)
    full = nvme.used(controller, nsid) if nsid else None
    if full is not None:
        snapshot.shown["drive full"] = f"{full:.0%}".replace("%", " %")


def look(target: str, system: System | None = None) -> Snapshot:
    """The machine as it is now."""
    system = system or System()
    snapshot = Snapshot()
    cpus = "/sys/devices/system/cpu"
    throttled = 0
    seen = False
    for name in system.names(cpus):
        if name.startswith("cpu") and name[3:].isdecimal():
            for kind in ("core_throttle_count", "package_throttle_count"):
                text = system.read(f"{cpus}/{name}/thermal_throttle/{kind}")
                if text.isdecimal():
                    throttled += int(text)
                    seen = True
    if seen:
        snapshot.counters["throttle"] = throttled
    else:
        snapshot.unseen.append("the CPU's throttle counters")
    tainted = system.read("/proc/sys/kernel/tainted")
    if tainted.isdecimal():
        snapshot.steady["tainted"] = tainted
    disk = system.block_device(target)
    if not disk:
        return snapshot
    state = system.read(f"{system.controller(disk)}/state")
    if state:
        snapshot.steady["drive state"] = state
    controller = system.nvme_controller(disk)
    if controller and system.real_machine:
        _smart(controller, system.number(f"/sys/block/{disk}/nsid"), snapshot)
    chain = system.pci_chain(disk)
    for address in chain:
        for kind, total in pci.aer_totals(system, address).items():
            snapshot.counters[f"{kind} {address}"] = total
    if chain:
        snapshot.steady.update(_link(pci.link(system, chain[-1])))
    return snapshot


def _link(link: pci.Link) -> dict[str, str]:
    """Speed and width of the drive's link, as "now of what drive and port can both do"."""
    found = {}
    if link.speed and link.most_speed:
        found["link speed"] = f"{link.speed:g} of {link.most_speed:g}"
    if link.width and link.most_width:
        found["link width"] = f"{link.width} of {link.most_width}"
    return found


def links_below(snapshot: Snapshot) -> list[str]:
    """Why the drive's link is slower than drive and port can both do; empty when it is not."""
    found = []
    for name in ("link speed", "link width"):
        now, _, most = snapshot.steady.get(name, "").partition(" of ")
        if now != most:
            found.append(f"the drive's {name} is {now} and could be {most}")
    return found


def blind(target: str, seen: Snapshot, unseen: list[str]) -> list[str]:
    """What an NVMe drive is watched by, and was not: nothing would say that it had trouble. A file, or
    a drive that has no SMART log, is not judged by one."""
    nvme_drive = target.startswith("/dev/") and (SMART in unseen or "critical_warning" in seen.steady)
    return [f"{what} could not be seen" for what in (SMART, LOG) if nvme_drive and what in unseen]


def reasons(before: Snapshot, after: Snapshot, messages: list[str]) -> list[str]:
    """Why what was measured between the two is neither good nor bad; empty when nothing is amiss."""
    found = []
    for name in dict.fromkeys([*before.counters, *after.counters]):
        if name not in after.counters:
            found.append(f"{name} could be read before the run, and not after it")
            continue
        if name not in before.counters:
            found.append(f"{name} could not be read before the run, and could after it")
            continue
        old_count, new_count = before.counters[name], after.counters[name]
        grown = new_count - old_count
        if grown < 0:
            found.append(f"{name} fell from {old_count} to {new_count}, so that what it counted is unknown")
        if grown > 0:
            what = SMART_COUNTERS.get(name)
            if name == "kernel complaints":
                what = "the kernel complained"
            elif name == "throttle":
                what = "the CPU throttled"
            elif name.startswith("aer_"):
                what = f"PCIe errors ({name})"
            found.append(f"{what} ({grown} more)")
    for name in sorted({*before.steady, *after.steady}):
        old, new = before.steady.get(name, "?"), after.steady.get(name, "?")
        if name == "tainted" and old.isdecimal() and new.isdecimal():
            taint = kernel_log.describe_taint(int(new) & ~int(old))
            if taint:
                found.append(f"the kernel was tainted during the run: {taint}")
        elif old != new:
            found.append(f"{name} changed from {old} to {new}")
    if after.steady.get("critical_warning", "0") not in ("0", ""):
        found.append(f"the drive has a critical warning: {after.steady['critical_warning']}")
    found += links_below(after)
    complained = kernel_log.complaints(messages)
    if complained:
        more = f" (and {len(complained) - 1} more)" if len(complained) > 1 else ""
        found.append(f"the kernel complained: {complained[0]}{more}")
    return found
