# SPDX-License-Identifier: GPL-2.0-only
"""A host as a run sees it: its fingerprint, its health before and after, the engine's report."""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dmabuf_common import fingerprint, pci
from dmabuf_common.fingerprint import Facts
from dmabuf_common.kmsg import KernelLog
from dmabuf_common.sysfs import System

from . import health
from .errors import NightlyError
from .plan import Host

TIMEOUT_S = 60
# What a host's fingerprint says it is.
FORMAT = "libdmabuf-fingerprint"
VERSION = 1


@dataclass
class Look:
    """A machine at one moment."""

    facts: dict[str, Facts]
    health: health.Snapshot


@dataclass
class Watch:
    """What was seen around a run."""

    reasons: list[str] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)


# Facts of the key that the engine's report gives, and so no look at the machine.
OF_THE_RUN = ("memory", "route")


def what(values: Mapping[str, str], target: str) -> tuple[str, str, str]:
    """What a look at the host for such a job is about: target, engine, and whose memory is used."""
    return target, values.get("ioengine", ""), values.get("dmabuf_device", "")


def boot_id() -> str:
    """Which boot of this machine this is."""
    return System().read("/proc/sys/kernel/random/boot_id")


def words(command: Sequence[str], **values: str) -> list[str]:
    """A host's command with {name} filled in. ssh hands its words to a shell there, which must get
    each value as the one word that it is."""
    if Path(command[0]).name == "ssh":
        values = {name: shlex.quote(value) for name, value in values.items()}
    argv = []
    for word in command:
        for name, value in values.items():
            word = word.replace("{" + name + "}", value)
        argv.append(word)
    return argv


def _say(host: Host, command: Sequence[str], what: str, **values: str) -> str:
    try:
        done = subprocess.run(
            words(command, **values), capture_output=True, text=True, timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NightlyError(f"the {what} command of host {host.name} cannot run: {error}") from error
    if done.returncode:
        raise NightlyError(
            f"the {what} command of host {host.name} ended with status {done.returncode}: "
            f"{(done.stderr.strip() or done.stdout.strip())[-200:]}"
        )
    return done.stdout


def look(host: Host, target: str, engine: str, memory: str = "") -> Look:
    """The host now: this machine itself, or what the host's command says. `memory`: the device whose
    memory is used, as dmabuf_device names it."""
    if host.fingerprint:
        text = _say(host, host.fingerprint, "fingerprint", target=target, engine=engine)
        facts, seen = from_json(text, host.name)
        return Look(facts, seen)
    return here(target, engine, memory)


def here(target: str, engine: str, memory: str = "") -> Look:
    """This machine now."""
    facts = fingerprint.collect(target, engine, peer=pci.of_device(System(), memory))
    facts["state"]["boot"] = boot_id()
    seen = health.look(target)
    facts["key"].update(more_key(System(), seen))
    return Look(facts, seen)


def more_key(system: System, seen: health.Snapshot) -> Facts:
    """What slows a machine down beside what it is made of. A drive wears by the percent, and is
    another one every tenth of its life."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq"
    limits = [system.read(f"{cpu}/scaling_{which}_freq") for which in ("min", "max")]
    worn = seen.shown.get("drive percent_used", "")
    found = {
        "CPU frequency": f"{' … '.join(limits)} kHz" if all(limits) else "",
        "ASPM": _chosen(system.read("/sys/module/pcie_aspm/parameters/policy")),
        "huge pages": _chosen(system.read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "drive wear": f"{int(worn) // 10 * 10} % and more" if worn.isdecimal() else "",
    }
    return {name: value for name, value in found.items() if value}


def _chosen(text: str) -> str:
    """Of the words that could be chosen, the one in brackets."""
    return text.partition("[")[2].partition("]")[0]


def to_json(facts: Mapping[str, Facts], seen: health.Snapshot) -> str:
    """What `dmabuf-nightly fingerprint` prints, and what a host's command must print."""
    document = {"format": FORMAT, "version": VERSION, **facts, "health": asdict(seen)}
    return json.dumps(document, indent=1, sort_keys=True)


def from_json(text: str, where: str) -> tuple[dict[str, Facts], health.Snapshot]:
    """The fingerprint that a host's command printed; NightlyError when it is none."""
    try:
        document: Any = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"it must say format {FORMAT}, version {VERSION}")
        found: dict[str, Facts] = {}
        for role in ("key", "subject", "state"):
            found[role] = {str(k): str(v) for k, v in dict(document.get(role, {})).items()}
        said = document.get("health")
        unseen = health.Snapshot(unseen=[f"the health of {where}"])
        seen = health.Snapshot(**said) if said else unseen
    except (ValueError, KeyError, TypeError) as error:
        raise NightlyError(f"the fingerprint command of {where} printed no fingerprint: {error}")
    if not found["key"]:
        raise NightlyError(f"the fingerprint of {where} has an empty key; see docs/nightly.md")
    return found, seen


class Around:
    """Looks at a host when entered, and with `done()` at what happened since."""

    def __init__(self, host: Host, target: str, engine: str, memory: str = "") -> None:
        self.host = host
        self.target = target
        self.engine = engine
        self.memory = memory
        self.log = None if host.fingerprint else KernelLog()
        self.before = look(host, target, engine, memory)

    def done(self) -> Watch:
        """What was seen: reasons to believe nothing, conditions to store, facts."""
        after = look(self.host, self.target, self.engine, self.memory)
        messages = self.log.messages() if self.log else []
        watch = Watch(facts=self.before.facts)
        watch.reasons = health.reasons(self.before.health, after.health, messages)
        for role in ("key", "subject"):
            old, new = self.before.facts[role], after.facts[role]
            changed = fingerprint.differences(old, new)
            if changed:
                watch.reasons.append(f"the machine changed during the run: {', '.join(changed)}")
        watch.conditions.update(self.before.facts.get("state", {}))
        for when, seen in (("before", self.before.health), ("after", after.health)):
            watch.conditions.update({f"{k} {when}": v for k, v in seen.shown.items()})
        unseen = list(after.health.unseen)
        if self.log is not None and not self.log.readable:
            unseen.append(health.LOG)
        watch.reasons += health.blind(self.target, after.health, unseen)
        if unseen:
            watch.conditions["could not be seen"] = "; ".join(sorted(set(unseen)))
        self.close()
        return watch

    def close(self) -> None:
        """Lets go of the kernel's log."""
        if self.log is not None:
            self.log.close()


def report(host: Host, path: str) -> str | None:
    """The engine's report of a run; None where it cannot be had."""
    if host.report:
        text = _say(host, host.report, "report", path=path)
        if host.remove:
            _say(host, host.remove, "remove", path=path)
        return text
    if host.address:
        return None
    try:
        return Path(path).read_text()
    except OSError:
        return None
