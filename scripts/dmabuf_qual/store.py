# SPDX-License-Identifier: GPL-2.0-only
"""A run's folder: what was asked for, and one line for each case that ended, safe at once."""

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

from .errors import QualError

RUN, RESULTS, LOCK = "run.json", "cases.jsonl", ".lock"
# What must be equal for a run to go on.
IDENTITY = ("serial", "firmware", "device", "quick", "exporters", "requirements", "scale", "only")

Record = dict[str, Any]


class Store:
    """Results on disk. A record counts when its line is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self._file: IO[bytes] | None = None
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """One program at a time; the lock goes with the program, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # pylint: disable-next=consider-using-with
        self._lock = open(self.folder / LOCK, "w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise QualError(f"another dmabuf-qual is at work in {self.folder}") from error

    def load(self) -> Record:
        """What was asked for, and the records so far; a line cut short is dropped."""
        try:
            run: Record = json.loads((self.folder / RUN).read_text())
        except (OSError, ValueError) as error:
            raise QualError(f"{self.folder} has no run in it: {error}") from error
        path = self.folder / RESULTS
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
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
        # Cut off what a kill may have left of a line.
        path = self.folder / RESULTS
        if path.exists():
            data = path.read_bytes()
            with open(path, "rb+") as file:
                file.truncate(data.rfind(b"\n") + 1)
        # pylint: disable-next=consider-using-with
        self._file = open(path, "ab")

    def save(self, run: Record) -> None:
        """Replaces run.json as a whole."""
        fresh = self.folder / f".{RUN}"
        fresh.write_text(json.dumps(run, indent=1) + "\n")
        os.replace(fresh, self.folder / RUN)

    def add(self, record: Record) -> None:
        """Writes a record, and waits until it is on the disk."""
        assert self._file is not None
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records[record["id"]] = record
