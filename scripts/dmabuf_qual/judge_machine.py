# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on machine and drive: machine.*, drive.*"""

from typing import Any

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS

from . import preflight
from .rules import Judged
from .requirements import Requirements
from .store import Record


def _ready(state: dict[str, Any]) -> Judged:
    """What preflight said as each part of the run began."""
    name = "machine.ready"
    parts = state.get("parts", [])
    checks = [check for part in parts for check in part.get("preflight", ())]
    told = {(c["name"], c["text"], "") for c in checks if c["level"] != preflight.GREEN}
    evidence = sorted(told)
    for c in checks:
        if c["level"] == preflight.RED:
            return Judged(name, FAIL, f"{c['name']}: {c['text']}", c["remedy"], evidence, 0, [c["name"]])
    if not parts or not all(part.get("preflight") for part in parts):
        return Judged(name, INCONCLUSIVE, "the machine was not looked at before the run",
                      "run it anew", evidence)
    for c in checks:
        if c["name"] in preflight.WEAKENING:
            return Judged(name, INCONCLUSIVE, f"{c['name']}: {c['text']}", c["remedy"], evidence)
    return Judged(name, PASS, f"{len(checks)} checks, none of which speaks against the run", "", evidence)


# Counters of the SMART log whose growth makes a run's figures doubtful: what to say, and to do.
DOUBTFUL = {
    "warning_temp_time": ("the drive was too hot for {} min", "cool it and run again"),
    "critical_comp_time": ("the drive was too hot for {} min", "cool it and run again"),
    "thm_temp1_trans_count": ("the drive throttled {} times", "cool it and run again"),
    "thm_temp2_trans_count": ("the drive throttled {} times", "cool it and run again"),
    "unsafe_shutdowns": ("the drive lost power {} times", "see power supply and dmesg"),
    "num_err_log_entries": ("the drive logged {} errors of commands", "see nvme error-log"),
}


HEALTH_KEYS = {"media_errors", "critical", "spare_percent", "spare_threshold", "used_percent"}


def _health(every: list[Record], state: dict[str, Any], needs: Requirements) -> Judged:
    name, limits = "drive.health", needs["drive"]
    before, after = state.get("health_before"), state.get("health_after")
    if not before or not after:
        return Judged(name, INCONCLUSIVE, "the drive's SMART log was not read before and after",
                      "run it to the end (--resume), as root")
    missing = sorted((HEALTH_KEYS | DOUBTFUL.keys()) - (before.keys() & after.keys()))
    if missing:
        return Judged(name, INCONCLUSIVE, f"the drive's SMART log was kept without {missing[0]}",
                      "run it anew with this release")
    evidence = [(f"{key} before, after", f"{before[key]}, {after.get(key)}", "") for key in before]
    between = [(record["id"], record["health"]) for record in every if record.get("health")]
    if between:
        evidence.append(("hottest", str(max(seen["temperature_c"] for _, seen in between)), "°C"))

    def fails(known: str, text: str, remedy: str) -> Judged:
        return Judged(name, FAIL, f"{known}: {text}", remedy, evidence, 0, [known])

    new = after["media_errors"] - before["media_errors"]
    if new > limits["new_media_errors"]:
        return fails("MEDIA_ERRORS", f"{new} new media errors", "replace the drive")
    # Bit 0: spare; 1: temperature; 2: reliability; 3: read-only; 4: backup of volatile memory.
    critical = after["critical"] | before["critical"]
    if critical & ~(1 << 1):
        return fails("CRITICAL_WARNING", f"0x{critical:02x}", "see nvme smart-log")
    for place, seen in between:
        if seen["critical"] & ~(1 << 1):
            return fails("CRITICAL_WARNING", f"0x{seen['critical']:02x} after {place}", "see nvme smart-log")
    if after["spare_percent"] < after["spare_threshold"]:
        return fails("SPARE_LOW", f"{after['spare_percent']} % of the spare blocks are left, the drive's own "
                     f"limit is {after['spare_threshold']} %", "replace the drive")
    if before["used_percent"] > limits["most_used_percent"]:
        return fails("WORN", f"{before['used_percent']} % of its endurance is used", "use a fresher drive")
    if critical:
        return Judged(name, INCONCLUSIVE, "the drive was too hot: it may have throttled",
                      "cool it and run again", evidence)
    for place, seen in between:
        if seen["critical"]:
            return Judged(name, INCONCLUSIVE, f"the drive was too hot after {place}: it may have throttled",
                          "cool it and run again", evidence)
    if after["spare_percent"] < before["spare_percent"]:
        return Judged(name, INCONCLUSIVE, f"spare blocks were used: from {before['spare_percent']} % to "
                      f"{after['spare_percent']} % during the run", "see nvme smart-log, and run it again",
                      evidence)
    for counter in ("media_errors", *DOUBTFUL):
        if after[counter] < before[counter]:
            return Judged(name, INCONCLUSIVE, f"{counter} fell from {before[counter]} to {after[counter]} during "
                          "the run: the drive's counters cannot be relied on", "see nvme smart-log", evidence)
    for counter, (text, remedy) in DOUBTFUL.items():
        grown = after[counter] - before[counter]
        if grown > 0:
            return Judged(name, INCONCLUSIVE, f"{text.format(grown)} during the run", remedy, evidence)
    return Judged(name, PASS, "no new media errors, no critical warning, spare left; it did not throttle",
                  "", evidence)


def _log(records: list[Record], state: dict[str, Any]) -> Judged:
    """Of all parts of the run, after each case and at the end of each part."""
    name = "drive.log"
    parts = state.get("parts", [])
    looks = [(record["id"], record.get("kernel_log")) for record in records]
    looks += [(f"the end of part {number}", part.get("log")) for number, part in enumerate(parts, 1)]
    lines = {line: place for place, seen in reversed(looks) if seen for line in seen["lines"]}
    if lines:
        evidence = [(place, line, "") for line, place in reversed(lines.items())]
        return Judged(name, FAIL, f"KERNEL_LOG: {evidence[0][1]} ({evidence[0][0]})", "see dmesg",
                      evidence, 0, ["KERNEL_LOG"])
    if not parts or "log" not in parts[-1]:
        return Judged(name, INCONCLUSIVE, "the kernel log was not read to the end",
                      "run it to the end (--resume), as root")
    for number, part in enumerate(parts, 1):
        if "log" not in part:
            return Judged(name, INCONCLUSIVE, f"part {number} of the run was killed, and what the kernel "
                          "said then was lost with that boot", "choose another --output")
    for place, seen in looks:
        if seen is None:
            return Judged(name, INCONCLUSIVE, f"the kernel log cannot be read ({place})",
                          "give the run /dev/kmsg, as root")
        if not seen["complete"]:
            return Judged(name, INCONCLUSIVE, f"the kernel log overran: messages were lost ({place})",
                          "see what floods it, and boot with a larger log_buf_len")
    return Judged(name, PASS, "no error of the drive, PCIe, the IOMMU or a hung task, read after each "
                  f"of {len(records)} cases")


def machine(every: list[Record], state: dict[str, Any], needs: Requirements) -> list[Judged]:
    """machine.* and drive.*"""
    return [_ready(state), _health(every, state, needs), _log(every, state)]
