# SPDX-License-Identifier: GPL-2.0-only
"""A run's folder: what was asked for, and one line for each case that ended, safe at once."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dmabuf_common import files

from .errors import QualError

RUN, RESULTS, LOCK = "run.json", "cases.jsonl", ".lock"
# What must be equal for a run to go on.
IDENTITY = ("identity", "serial", "firmware", "device", "quick", "exporters", "requirements", "scale", "only")

Record = dict[str, Any]


class Store:
    """Results on disk. A record counts when its line is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
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
        for record in files.read_lines(self.folder / RESULTS):
            self.records[record["id"]] = record
        return run

    def begin(self, run: Record, resume: bool) -> None:
        """Starts a new run, or goes on with one that was asked for the same."""
        there = (self.folder / RUN).exists()
        if there and not resume:
            raise QualError(f"{self.folder} has a run in it: say --resume, or choose another --output")
        if there:
            old = self.load()
            for name in IDENTITY:
                if old.get(name) != run.get(name):
                    raise QualError(
                        f"the run in {self.folder} cannot go on: its {name} was {old.get(name)!r} "
                        f"and is {run.get(name)!r}; choose another --output"
                    )
        else:
            self.save(run)

    def save(self, run: Record) -> None:
        """Replaces run.json as a whole."""
        files.write_json(self.folder / RUN, run)

    def add(self, record: Record) -> None:
        """Writes a record, and waits until it is on the disk."""
        files.append_line(self.folder / RESULTS, record)
        self.records[record["id"]] = record
