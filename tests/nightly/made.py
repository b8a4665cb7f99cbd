# SPDX-License-Identifier: GPL-2.0-only
"""Stores whose nights are made up, for tests that need no fio."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from dmabuf_nightly import cli, fio, store
from dmabuf_nightly.store import Series

SERIES = Series("c", "", "local")
KEY = {"CPU": "a processor", "drive": "a drive"}
SUBJECT = {"kernel": "6.12", "engine": "1"}
JOB = {"bs": "4k", "iodepth": "64"}
PLAN = """version = 1
name = "{plan}"
repeats = 10
[parameters]
DEV = "/dev/x"
[[cases]]
name = "c"
job = "j.fio"
metrics = ["read_iops"]
"""


class Made:
    """A store, and the nights that are added to it: ten runs each, one metric."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self.store = store.Store(path)
        self.rng = np.random.default_rng(seed)

    def runs(self, level: float, count: int = 10, spread: float = 0.01) -> list[float]:
        """What so many runs give."""
        return [float(v) for v in self.rng.normal(level, spread * level, count)]

    def night(
        self, values: Sequence[float] | float, plan: str = "p", status: str | None = "measured",
        key: Mapping[str, str] | None = None, subject: Mapping[str, str] | None = None,
        done: int | None = None, text: str = "",
    ) -> int:
        """A night with these values, or with made-up ones around one. status: None where the night was
        interrupted. done: how many of the runs came to their end."""
        values = self.runs(values) if isinstance(values, (int, float)) else values
        with self.store.transaction():
            number = self.store.add_night("night", plan, text or PLAN.format(plan=plan), "h", 1, "")
            self.store.add_runs(number, 0, [(SERIES, n) for n in range(1, len(values) + 1)])
        for run, value in list(zip(self.store.runs(number), values, strict=True))[:done]:
            self.complete(run.id, value, key, subject)
        if status:
            self.store.finish(number, status, "")
        return number

    def complete(self, run: int, value: float, key: Mapping[str, str] | None = None,
                 subject: Mapping[str, str] | None = None) -> None:
        """A run gave this value."""
        outcome = fio.Outcome(metrics={"read_iops": value})
        self.store.complete(run, outcome, 1, KEY if key is None else key,
                            SUBJECT if subject is None else subject, {}, {}, JOB)

    def rerun(self, night: int, level: float) -> None:
        """Both reruns of a night."""
        for phase in (1, 2):
            with self.store.transaction():
                self.store.add_runs(night, phase, [(SERIES, n) for n in range(1, 11)])
            for run, value in zip(self.store.runs(night, phase), self.runs(level), strict=True):
                self.complete(run.id, value)

    def call(self, *words: str) -> int:
        """The program, on this store; its exit status."""
        return cli.main([*words, "--store", str(self.path)])
