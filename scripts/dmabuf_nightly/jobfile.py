# SPDX-License-Identifier: GPL-2.0-only
"""A fio job file with its parameters filled in: what is kept beside the result is what ran.

fio itself fills in ${NAME} from its environment, to nothing where it is not set; here that is an
error, and a remote fio would have another environment.

The text that fio gets has no comment, no include and nothing that fio would replace once more: what is
read of it here is what fio reads.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import NightlyError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECTION = re.compile(r"^\s*\[(.+?)\]\s*$")
_INCLUDE = re.compile(r"^include[ \t]+(\S.*)$")
OPTION = re.compile(r"^\s*([A-Za-z0-9_]+)\s*(?:=\s*(.*?)\s*)?$")

_DIRECTION = ("rw", "readwrite")
_READS = ("read", "randread")

# The option of the engine that says where it reports.
REPORT = "dmabuf_report"

# fio takes the first 8191 bytes of a line, and the rest for another line. A job file has no need of half.
MOST_BYTES = 4000


def split(names: str) -> list[str]:
    """The files of a filename=; fio takes \\: for a colon in one."""
    return [name.replace("\0", ":") for name in names.replace("\\:", "\0").split(":")]


@dataclass(frozen=True)
class Job:
    """A job file as fio gets it, and the values of [global] in it."""

    text: str
    values: dict[str, str]

    @property
    def digest(self) -> str:
        """Which job this is."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def ours(self) -> bool:
        """Whether the engine is libdmabuf.so, which reports what it did."""
        return "libdmabuf" in self.values.get("ioengine", "")

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options of all sections, in their order."""
        found = (OPTION.match(line) for line in self.text.splitlines() if not SECTION.match(line))
        return [(match.group(1), match.group(2) or "") for match in found if match]

    @property
    def writes(self) -> bool:
        """Whether a section may write or trim: whatever is not plainly reading."""
        modes = (value.partition(":")[0] for name, value in self.options if name in _DIRECTION)
        return any(mode not in _READS for mode in modes)

    @property
    def files(self) -> list[str]:
        """What each filename= of each section names."""
        return [file for name, value in self.options if name == "filename" for file in split(value)]

    @property
    def sections(self) -> list[set[str]]:
        """What each section uses: the files that it names, and those that a [global] before it does."""
        found: list[set[str]] = []
        inherited: set[str] = set()
        here = inherited
        for line in self.text.splitlines():
            section, option = SECTION.match(line), OPTION.match(line)
            if section and section.group(1).startswith("global"):  # so fio tells them
                here = inherited
            elif section:
                here = set(inherited)
                found.append(here)
            elif option and option.group(1) == "filename":
                here.update(split(option.group(2) or ""))
        return found

    @property
    def placed_report(self) -> str:
        """Where [global] says that the engine reports."""
        return self.values.get(REPORT, "")

    def on(self, path: str, instead: str) -> "Job":
        """The same job with another path for a file, wherever a section names it, spelled as `path`."""
        lines = []
        for line in self.text.splitlines():
            match = None if SECTION.match(line) else OPTION.match(line)
            if match and match.group(1) == "filename":
                names = [instead if one == path else one for one in split(match.group(2) or "")]
                line = "filename=" + ":".join(name.replace(":", "\\:") for name in names)
            lines.append(line)
        return Job("\n".join(lines) + "\n", self.values)

    def reporting(self, report: str) -> "Job":
        """The same job with another path for the engine's report, where it has one."""
        if REPORT not in self.values:
            return self
        text = re.sub(rf"(?m)^{REPORT}=.*$", lambda _: f"{REPORT}={report}", self.text)
        _judge_lines(text.splitlines(), report)
        return Job(text, {**self.values, REPORT: report})


def _meaning(line: str) -> str:
    """A line as fio takes it: without what follows a ; or #, and without the blanks around it."""
    return re.split("[;#]", line, maxsplit=1)[0].strip()


def _judge_lines(lines: list[str], name: str) -> None:
    """NightlyError for a line that fio could read otherwise than this program does."""
    for line in lines:
        short = line if len(line) <= 60 else f"{line[:60]}…"
        if len(line.encode()) > MOST_BYTES:
            raise NightlyError(
                f"{name}: the line {short!r} has more than {MOST_BYTES} bytes; fio takes what is left of a "
                "long line for another one"
            )
        if any(ord(one) < 32 and one != "\t" or one == "\x7f" for one in line) or line.splitlines() != [line]:
            raise NightlyError(f"{name}: the line {short!r} has a control character; take it out")
        if any(one in line for one in "$;#"):
            raise NightlyError(
                f"{name}: the line {short!r} has $, ; or #, which mean something else to fio in a value; take "
                "it out of the file, or of the plan's parameters and options"
            )
        if line.startswith("include"):
            raise NightlyError(f"{name}: {short!r} would include a file; write include, a blank, the file")
        if not (SECTION.match(line) if line.startswith("[") else OPTION.match(line)):
            raise NightlyError(f"{name}: {short!r} is neither a section in brackets nor an option")


def _lines(path: Path, within: tuple[Path, ...] = ()) -> list[str]:
    """The lines of a job file that mean something, those of the files it includes in their places:
    what is kept beside the result must not need them. A comment may name a variable without meaning it."""
    if path in within:
        raise NightlyError(f"{path} includes itself; take that include out")
    try:
        source = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NightlyError(f"the job file {path} cannot be read: {error}") from error
    found: list[str] = []
    for line in map(_meaning, source.split("\n")):
        included = _INCLUDE.match(line)
        if included:
            found += _lines(path.parent / included.group(1), (*within, path))
        elif line:
            found.append(line)
    return found


def expand(path: Path, parameters: Mapping[str, str], options: Mapping[str, str]) -> Job:
    """The file with ${NAME} replaced, and with `options` at the end of [global] instead of what
    [global] says about them. Jobs that say otherwise themselves keep what they say."""
    lines = _lines(path)
    missing = sorted(
        {name for line in lines for name in _VARIABLE.findall(line) if name not in parameters}
    )
    if missing:
        raise NightlyError(
            f"{path.name} needs {', '.join(missing)}; give it under [parameters] in the plan"
        )
    lines = [_VARIABLE.sub(lambda m: parameters[m.group(1)], line).strip() for line in lines]
    lines = [line for line in lines if line]
    _judge_lines([*lines, *(f"{key}={value}" for key, value in options.items())], path.name)
    heads = [i for i, line in enumerate(lines) if SECTION.match(line)]
    if not heads:
        raise NightlyError(f"{path.name} has no job: a section in brackets is missing")
    first = SECTION.match(lines[heads[0]])
    assert first is not None
    if first.group(1) != "global":
        lines[: heads[0]] = ["[global]"]
        end = 1
        head = 0
    else:
        head, end = heads[0], heads[1] if len(heads) > 1 else len(lines)
    kept: list[str] = []
    values: dict[str, str] = {}
    for line in lines[head + 1 : end]:
        match = OPTION.match(line)
        if match and match.group(1) in options:
            continue
        if match:
            values[match.group(1)] = match.group(2) or "1"
        kept.append(line)
    values.update(options)
    kept += [f"{key}={value}" for key, value in options.items()]
    text = "\n".join([*lines[: head + 1], *kept, *lines[end:]]) + "\n"
    return Job(text, values)
