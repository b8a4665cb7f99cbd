# SPDX-License-Identifier: GPL-2.0-only
"""A run's folder: what was asked for, and one line for each case that began, and that ended, safe at once."""

import json
import math
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dmabuf_common import files, fingerprint

from .errors import QualError

RUN, RESULTS, BEGUN, LOCK, FIO = "run.json", "cases.jsonl", "begun.jsonl", ".lock", "fio"
# What must be equal for a run to go on; and all facts about the machine but its state.
IDENTITY = ("identity", "serial", "firmware", "device", "quick", "exporters", "requirements", "scale",
            "only", "among")

# What each record has; the judge relies on it.
NEEDED = {"id", "kind", "requirement", "exporter", "path", "test", "params", "started", "seconds", "findings"}
CELL_ID = re.compile(r"perf/[^/]*/[^/]+/[^/]+/\d+")
PTS_ID = re.compile(r"(steady|throughput-128k|throughput-1m|latency|saturation)/round-\d+/\d+-\w+")

Record = dict[str, Any]


def _number(value: Any) -> bool:
    """Whether it is a number, and a finite one: JSON as Python reads it has NaN and Infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _finding(one: Any) -> bool:
    """Whether it has all that a finding has."""
    return (isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("text"), str)
            and _number(one.get("count")))


def _latency(bins: Any) -> bool:
    """Whether it is, by direction, pairs of ns and how many."""
    return isinstance(bins, dict) and all(
        isinstance(listed, list) and all(isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))
                                         and pair[0] > 0 and pair[1] >= 0 for pair in listed)
        for listed in bins.values())


def _malformed(record: Record) -> str:
    """What a record has in it that no case writes; empty when nothing."""
    for name in ("kind", "requirement", "exporter", "path", "test"):
        if not isinstance(record[name], str):
            return f"a {name} that is no text"
    if not _number(record["seconds"]) or not _number(record["started"]):
        return "a time that is no number"
    if not isinstance(record["params"], dict):
        return "no parameters"
    if not isinstance(record["findings"], list) or not all(map(_finding, record["findings"])):
        return "a finding that is none"
    for name in ("facts", "figures", "report", "health"):
        if name in record and not isinstance(record[name], dict):
            return f"{name} that are none"
    if not all(map(_number, [*record.get("figures", {}).values(), *record.get("health", {}).values()])):
        return "a figure that is no number"
    if not _latency(record.get("latency", {})):
        return "latency bins that are none"
    health = record.get("health")
    if health is not None and not all(isinstance(health.get(name), int) for name in ("critical", "temperature_c")):
        return "a health that is none"
    for name in ("compared_bytes", "transfers", "runtime_s", "written_bytes"):
        if name in record and not _number(record[name]):
            return f"{name} that are no number"
    facts = record.get("facts", {})
    counts = ("agree", "differ", "invalidations", "max_command_bytes")
    if not all(_number(value) for name, value in facts.items() if name.startswith("commands_") or name in counts):
        return "a fact that is no number"
    return _misnamed(record)


def _misnamed(record: Record) -> str:
    """Likewise, of the name of a measurement."""
    cell = CELL_ID.fullmatch(record["id"]) and {"RW", "BS", "DEPTH"} <= record["params"].keys()
    if record["kind"] == "cell" and not cell:
        return "no cell of the comparison"
    if record["kind"] == "pts" and not PTS_ID.fullmatch(record["id"]):
        return "no round"
    return ""


def _begun(line: Any) -> bool:
    """Whether a line says which case began, in which part, and how much it may write."""
    texts = ("id", "kind", "requirement", "exporter", "path", "test")
    return (isinstance(line, dict) and all(isinstance(line.get(name), str) for name in texts)
            and isinstance(line.get("params"), dict) and _number(line.get("part")) and _number(line.get("may_write"))
            and line["may_write"] >= 0 and not _misnamed(line))


def _facts(run: Record) -> dict[str, str]:
    """What a run was made on and of: all that must not change in the middle of it."""
    return {name: value for name, value, role in run.get("environment", []) if role != "state"}


class Store:
    """Results on disk. A record counts when its line is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        # Those that were done anew since, too.
        self.all: list[Record] = []
        # All that began, whether or not it ended.
        self.begun: list[Record] = []
        self._lock = ExitStack()

    def lock(self) -> None:
        """One program at a time; the lock goes with the program, however it ends. A folder in which
        others could exchange the records is refused."""
        files.own_folder(self.folder)
        if not self._lock.enter_context(files.try_lock(self.folder / LOCK)):
            raise QualError(f"another dmabuf-qual is at work in {self.folder}")

    def release(self) -> None:
        """Lets others have the folder."""
        self._lock.close()

    def load(self) -> Record:
        """What was asked for, and the records so far; a line cut short is dropped."""
        try:
            run: Record = json.loads((self.folder / RUN).read_text())
        except (OSError, ValueError) as error:
            raise QualError(f"{self.folder} has no run in it: {error}") from error
        self.records, self.all = {}, []
        for record in files.read_lines(self.folder / RESULTS):
            self._take(record)
        self.begun = list(files.read_lines(self.folder / BEGUN))
        if not all(map(_begun, self.begun)):
            raise QualError(f"{self.folder / BEGUN} has a line in it that is no case that began")
        return run

    def _take(self, record: Any) -> None:
        """A record, unless it is none or names a file elsewhere: a folder may be another's."""
        known = isinstance(record, dict) and isinstance(record.get("id"), str)
        if not known or not NEEDED <= record.keys():
            raise QualError(f"{self.folder / RESULTS} has a line in it that is no record of a case")
        wrong = _malformed(record)
        if wrong:
            raise QualError(f"{self.folder / RESULTS}: {record['id']} has {wrong}")
        name = record.get("file")
        if name is not None:
            inside = (self.folder / FIO).resolve()
            plain = isinstance(name, str) and name == os.path.basename(name) and name not in ("", ".", "..")
            if not plain or (inside / name).resolve().parent != inside:
                raise QualError(f"{self.folder / RESULTS}: the file {name!r} of {record['id']} leads out of "
                                f"{self.folder}")
        known_as = self.records.get(record["id"])
        window = record["kind"] in ("precondition", "pts")
        if known_as is not None and not (window and known_as.get("part") != record.get("part")):
            raise QualError(f"{self.folder / RESULTS} has two records of {record['id']}")
        self.records[record["id"]] = record
        self.all.append(record)

    def goes_on(self, run: Record, resume: bool) -> Record | None:
        """The run in the folder, which was asked for the same; None where there is none. Raises QualError
        where this run must not be put there. Writes nothing."""
        if not (self.folder / RUN).exists():
            return None
        if not resume:
            raise QualError(f"{self.folder} has a run in it: say --resume, or choose another --output")
        old = self.load()
        for name in IDENTITY:
            self.same(name, old.get(name), run.get(name))
        before, after = _facts(old), _facts(run)
        for name in fingerprint.differences(before, after):
            self.same(name, before.get(name), after.get(name))
        return old

    def same(self, name: str, was: Any, now: Any) -> None:
        """Raises QualError where something is not what it was."""
        if was != now:
            raise QualError(
                f"the run in {self.folder} cannot go on: its {name} was {was!r} and is {now!r}; "
                "choose another --output"
            )

    def save(self, run: Record) -> None:
        """Replaces run.json as a whole."""
        files.write_json(self.folder / RUN, run)

    def parts_of(self, prefix: str) -> list[int]:
        """The parts of the run in which a case whose name begins so began, or ended."""
        return sorted({int(one.get("part", 0)) for one in (*self.all, *self.begun)
                       if one["id"].startswith(f"{prefix}/")})

    def begins(self, case: Record) -> None:
        """Writes that a case begins, before it writes anything; likewise."""
        files.append_line(self.folder / BEGUN, case)
        self.begun.append(case)

    def add(self, record: Record) -> None:
        """Writes a record, and waits until it is on the disk."""
        files.append_line(self.folder / RESULTS, record)
        self.records[record["id"]] = record
        self.all.append(record)
