# SPDX-License-Identifier: GPL-2.0-only
"""Mutants that a test in a guest should notice: many modules, one after the other, in one guest."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmabuf_lab import config, guest_kernel, root
from dmabuf_lab.errors import EXIT_LAB_ERROR, LabError

from .apply import Stale
from .model import Command, Lists, Mutant
from .modules import Built, Modules
from .progress import say
from .results import CAUGHT, ERROR, STALE, SURVIVED, Result, key_of
from .tree import Tree

# How many times longer than with the module as it is a command may take, and how long at least.
PATIENCE = 4.0
LEAST_LIMIT_S = 20.0
# How many times longer everything may take on the debug kernel.
DEBUG_PATIENCE = 4.0
# For the boot, and for looking at the guest once more after a mutant was caught.
BOOT_S = 120.0


@dataclass(frozen=True)
class Job:
    """A mutant with its products, and the commands of one boot that should notice it."""

    mutant: Mutant
    built: Built
    build_s: float
    commands: tuple[str, ...]


def groups(mutants: Sequence[Mutant], lists: Lists) -> list[tuple[str, ...]]:
    """The different options of `dmabuf-lab run` that the mutants' commands need."""
    found: dict[tuple[str, ...], None] = {}
    for mutant in mutants:
        for name in mutant.tests:
            found[lists.commands[name].lab] = None
    return sorted(found)


def read_events(path: Path) -> list[dict[str, Any]]:
    """What a guest wrote; a line that its death cut off is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


class Boots:
    """Guests of one kernel, one at a time."""

    def __init__(
        self,
        tree: Tree,
        lists: Lists,
        kernel: str,
        digest: str,
        done: Callable[[Result], None],
    ) -> None:
        self.tree, self.lists, self.kernel, self.digest, self.done = tree, lists, kernel, digest, done
        self.share = tree.folder / "share"
        self.limits: dict[str, float] = {}
        # Commands that fail without a mutant, and how.
        self.useless: dict[str, str] = {}

    def _result(self, mutant: Mutant, verdict: str, by: str, detail: str, seconds: float) -> None:
        key = key_of(mutant, self.lists)
        seconds = round(seconds, 1)
        self.done(Result(mutant.id, key, self.digest, verdict, by, detail, seconds))

    def run(self, mutants: Sequence[Mutant]) -> None:
        """Tries all of them; each result is handed on as soon as it is known."""
        lab = root.setup()
        self.share.mkdir(parents=True, exist_ok=True)
        with root.in_use(lab), guest_kernel.in_use(lab, self.kernel) as kernel:
            folder = self.share / kernel.release
            modules = Modules(self.tree, lab, kernel, folder)
            original, jobs = modules.base(), []
            testexp = modules.testexp()
            for number, mutant in enumerate(mutants, 1):
                start = time.monotonic()
                try:
                    built = modules.mutated(mutant)
                except Stale as stale:
                    self._result(mutant, STALE, "", str(stale), 0)
                    continue
                build_s = time.monotonic() - start
                say(f"built {number} of {len(mutants)}: {mutant.id} ({build_s:.1f} s)")
                if built.error:
                    self._result(mutant, ERROR, "", f"does not build: {built.error}", build_s)
                    continue
                jobs.append(Job(mutant, built, build_s, ()))
            # What the last mutant left in the build folder is not what the guest's programs are.
            modules.base()
        seconds = {job.mutant.id: job.build_s for job in jobs}
        todo = {job.mutant.id: job for job in jobs}
        for options in groups([job.mutant for job in jobs], self.lists):
            here = []
            for job in todo.values():
                names = [x for x in job.mutant.tests if self.lists.commands[x].lab == options]
                if names:
                    here.append(replace(job, commands=tuple(names)))
            for gone in self._group(options, here, original, testexp, seconds):
                del todo[gone]
        for job in todo.values():
            useless = [f"{x}: {self.useless[x]}" for x in job.mutant.tests if x in self.useless]
            took = seconds[job.mutant.id]
            if useless:
                self._result(job.mutant, ERROR, "", f"without the mutant, too, {useless[0]}", took)
            else:
                self._result(job.mutant, SURVIVED, "", "", took)

    def _group(
        self,
        options: tuple[str, ...],
        jobs: Sequence[Job],
        original: Path,
        testexp: Path,
        seconds: dict[str, float],
    ) -> list[str]:
        """Boots guests with these options until all jobs are done; the ids of those caught."""
        caught: list[str] = []
        # Each of those that want a guest for themselves costs a boot: the others first, in one.
        waiting = sorted(jobs, key=lambda job: job.mutant.alone)
        boots = 0
        while waiting:
            boots += 1
            say(f"guest {boots} ({' '.join(options) or 'no options'}): {len(waiting)} mutants")
            before = len(waiting)
            events = self._boot(options, waiting, original, testexp)
            for event in events:
                if event["event"] == "baseline":
                    self._baseline(event)
            ended = {event["id"]: event for event in events if event["event"] == "end"}
            started = [event for event in events if event["event"] == "start"]
            for event in started:
                if event["id"] not in ended:
                    # The guest died with it.
                    event = {**event, "by": "guest", "said": "the guest died or hung", "good": False}
                    event["seconds"] = 0.0
                    ended[event["id"]] = event
            retry: Job | None = None
            for job in list(waiting):
                found = ended.get(job.mutant.id)
                if found is None:
                    continue
                waiting.remove(job)
                seconds[job.mutant.id] += found["seconds"]
                if not found["by"]:
                    continue
                if not found["good"] and not found["fresh"] and found["by"] != "kernel log":
                    # What an earlier mutant did to this guest may be the cause.
                    say(f"{job.mutant.id}: noticed by {found['by']}, once more in a new guest")
                    retry = job
                    continue
                caught.append(job.mutant.id)
                took = seconds[job.mutant.id]
                self._result(job.mutant, CAUGHT, found["by"], found["said"], took)
            if retry is not None:
                waiting.insert(0, retry)
            elif len(waiting) == before and not any(e["event"] == "baseline" for e in events):
                raise LabError("a guest did not come as far as the first command")
            waiting = [job for job in waiting if any(x not in self.useless for x in job.commands)]
        return caught

    def _baseline(self, event: Mapping[str, Any]) -> None:
        name = event["command"]
        if event["by"]:
            self.useless[name] = event["said"] or event["by"]
            say(f"{name} fails without a mutant: {self.useless[name]}")
        else:
            self.limits[name] = max(LEAST_LIMIT_S, PATIENCE * event["seconds"])
            say(f"{name}: {event['seconds']:.1f} s without a mutant")

    def _boot(
        self, options: tuple[str, ...], jobs: Sequence[Job], original: Path, testexp: Path
    ) -> list[dict[str, Any]]:
        """Runs one guest; what it wrote."""
        names = list(dict.fromkeys(x for job in jobs for x in job.commands if x not in self.useless))
        commands = {name: self.lists.commands[name] for name in names}
        plan = {
            "commands": {name: self._command(command) for name, command in commands.items()},
            "limits": self.limits,
            "patience": PATIENCE,
            "least_s": LEAST_LIMIT_S,
            "module": self._seen(original),
            "testexp": self._seen(testexp),
            "programs": f"{config.GUEST_SOURCE}/{config.BUILD_DIR}/tests/vm",
            "jobs": [
                {
                    "id": job.mutant.id,
                    "module": self._seen(job.built.module),
                    "shown": {
                        f"{config.GUEST_SOURCE}/{config.BUILD_DIR}/{name}": self._seen(path)
                        for name, path in job.built.shown.items()
                    },
                    "commands": [x for x in job.commands if x in commands],
                    "alone": job.mutant.alone,
                }
                for job in jobs
            ],
        }
        events = self.share / "events.jsonl"
        events.unlink(missing_ok=True)
        (self.share / "plan.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")
        limit_s = BOOT_S + 3 * sum(self._limit(x) for job in jobs for x in job.commands)
        log = self.tree.folder / "guest.log"
        argv = [
            sys.executable,
            *(str(self.tree.path / "scripts/dmabuf-lab"), "run", "--kernel", self.kernel),
            *("--no-module", "--no-build", "--timeout", f"{limit_s:.0f}"),
            *("--share", str(self.share), "--log", str(log), *options),
            *("--", "/usr/bin/python3", "-B"),
            *(f"{config.GUEST_SOURCE}/scripts/dmabuf_mutate/guest.py", "/share"),
        ]
        result = subprocess.run(argv, capture_output=True, text=True, errors="replace")
        (self.tree.folder / "guest.out").write_text(result.stdout + result.stderr, encoding="utf-8")
        found = read_events(events)
        if not found and result.returncode != 0:
            lines = result.stderr.strip().splitlines() or ["no output"]
            what = "the lab failed" if result.returncode == EXIT_LAB_ERROR else "the guest failed"
            raise LabError(f"{what}: {lines[-1]} (all of it is in {self.tree.folder / 'guest.out'})")
        return found

    def _seen(self, path: Path) -> str:
        """The path of a file of the shared folder as the guest sees it."""
        return f"/share/{path.relative_to(self.share)}"

    def _limit(self, name: str) -> float:
        """How long a command may take: measured, or what its list says."""
        slow = DEBUG_PATIENCE if self.kernel == config.DEBUG_KERNEL else 1.0
        return self.limits.get(name, self.lists.commands[name].limit_s * slow)

    def _command(self, command: Command) -> dict[str, Any]:
        return {
            "name": command.name,
            "run": command.run,
            "expect": list(command.expect),
            "limit_s": self._limit(command.name),
        }
