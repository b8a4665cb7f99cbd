# SPDX-License-Identifier: GPL-2.0-only
"""What a run's job was, so that figures are compared with those of the same job, and a report can
say what is another one.

Left out is what differs from run to run and changes no figure: the names by which the drive and the
engine are found (which drive and engine that were is in the key and in the subject), where the engine
reports, and the seed of the random order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from dmabuf_common.fingerprint import Facts

from .jobfile import OPTION, REPORT, SECTION, Job, split

# The engine by whatever path: which one it was is what is judged.
OURS = re.compile(r"(external:)?([^:\s]*/)?libdmabuf[^/:\s]*\.so[.0-9]*")
ENGINE = "libdmabuf.so"
TARGET = "the drive"
NO_FIGURE = (REPORT, "randseed", "description")
# Names that fio takes for one option.
SAME = {"blocksize": "bs", "readwrite": "rw"}
COUNTED = "jobs that count"
SECTIONS = "sections"
# More differences than this are another job altogether, and no list to read.
MOST = 4


def _value(name: str, value: str, target: str) -> str:
    if name == "ioengine" and OURS.fullmatch(value):
        return ENGINE
    if name == "filename" and target.startswith("/dev/"):
        return ":".join(TARGET if file == target else file for file in split(value))
    return value


def _sections(job: Job) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    name, options = "global", list[tuple[str, str]]()
    for line in job.text.splitlines():
        section, option = SECTION.match(line), OPTION.match(line)
        if section:
            if options or name != "global":
                yield name, options
            name, options = section.group(1), []
        elif option:
            options.append((option.group(1), option.group(2) or "1"))
    yield name, options


def facts(job: Job, counted: Sequence[str] = ()) -> Facts:
    """What of a job makes its figures: each option by its section. counted: which of its jobs count."""
    target = split(job.values.get("filename", ""))[0]
    found: Facts = {}
    names: list[str] = []
    for section, options in _sections(job):
        names.append(section)
        again = names.count(section)
        where = "" if section == "global" and again == 1 else f"[{section}] "
        # Not inside the brackets: another section may be called so.
        where = f"[{section}] {again} " if again > 1 else where
        for name, value in options:
            if name not in NO_FIGURE:
                name = SAME.get(name, name)
                found[f"{where}{name}"] = _value(name, value, target)
    # In which order they run makes a difference.
    found[SECTIONS] = ", ".join(names)
    if counted:
        found[COUNTED] = ", ".join(counted)
    return found


def reported(outcome: Mapping[str, object]) -> Facts:
    """What the engine itself said of a run that was stored."""
    found = {name: str(outcome.get(name) or "") for name in ("datapath", "exporter")}
    return {name: value for name, value in found.items() if value and not value.startswith("fio ")}


def shape(outcome: Mapping[str, object]) -> Facts:
    """What is stored of the job of a run of an earlier release."""
    found = {"bs": outcome.get("block_bytes"), "iodepth": outcome.get("depth")}
    return {name: str(value) for name, value in found.items() if value}


def differences(new: Mapping[str, str], old: Mapping[str, str], both: bool = False) -> list[str]:
    """What is another one, in words: "iodepth 32 was 64". both: what only one of them has does not differ."""
    found = []
    for name in sorted({*new, *old}):
        if new.get(name) == old.get(name) or (both and not (name in new and name in old)):
            continue
        if name not in old:
            found.append(f"{name} {new[name]} was not there")
        elif name not in new:
            found.append(f"{name}, which was {old[name]}, is gone")
        else:
            found.append(f"{name} {new[name]} was {old[name]}")
    return found


def shown(found: Sequence[str]) -> str:
    """Some differences in one sentence."""
    more = len(found) - MOST
    return ", ".join(found[:MOST]) + (f" and {more} more" if more > 0 else "")
