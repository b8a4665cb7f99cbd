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

from dmabuf_common.verdict import EXIT_ERROR
from dmabuf_lab import config, guest_kernel, root
from dmabuf_lab.errors import LabError

from .apply import Stale
from .model import Command, Lists, Mutant
from .modules import Built, Modules
from .progress import say
from .results import CAUGHT, ERROR, STALE, SURVIVED, Result, key_of
from .tree import Tree

# How many times longer than with the module as it is a command may take, and how long at least.
PATIENCE = 4.0
LEAST_LIMIT_S = 20.0
# How often the host looks what a guest has written.
POLL_S = 0.5
# How many times longer everything may take on the debug kernel.
DEBUG_PATIENCE = 4.0
# For the boot, and for looking at the guest once more after a mutant was caught.
BOOT_S = 120.0


@dataclass(frozen=True)
class Job:
    """A mutant with its products, and the commands of one boot that should notice it.

    last: no other boot has commands for it.
    """

    mutant: Mutant
    built: Built
    build_s: float
    commands: tuple[str, ...] = ()
    last: bool = True


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
        # Commands that say nothing, and why.
        self.useless: dict[str, str] = {}
        # Mutants without a result, and how long each has taken so far.
        self.todo: dict[str, Job] = {}
        self.seconds: dict[str, float] = {}

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
            original = modules.base()
            jobs: list[Job] = []
            testexp = modules.testexp()
            modules.hurt()
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
                jobs.append(Job(mutant, built, build_s))
            # What the last mutant left in the build folder is not what the guest's programs are.
            modules.base()
        self.in_guests(jobs, original, testexp)

    def in_guests(self, jobs: Sequence[Job], original: Path, testexp: Path) -> None:
        """Tries mutants that are built, in a guest for each set of options that their commands need."""
        self.todo = {job.mutant.id: job for job in jobs}
        self.seconds = {job.mutant.id: job.build_s for job in jobs}
        order = groups([job.mutant for job in jobs], self.lists)
        for number, options in enumerate(order):
            later = order[number + 1 :]
            here = []
            for job in self.todo.values():
                labs = {name: self.lists.commands[name].lab for name in job.mutant.tests}
                names = tuple(name for name, lab in labs.items() if lab == options)
                if names:
                    last = not any(lab in later for lab in labs.values())
                    here.append(replace(job, commands=names, last=last))
            try:
                self._group(options, here, original, testexp)
            except LabError as error:
                # Other options may give a guest that works.
                say(f"no guest ({' '.join(options) or 'no options'}): {error}")
                for name in {name for job in here for name in job.commands}:
                    self.useless.setdefault(name, f"has no guest: {error}")
        for job in list(self.todo.values()):
            self._survived(job)

    def _end(self, job: Job, verdict: str, by: str, detail: str) -> None:
        """A mutant is done with; the result is handed on."""
        name = job.mutant.id
        del self.todo[name]
        self._result(job.mutant, verdict, by, detail, self.seconds[name])

    def _survived(self, job: Job) -> None:
        """No command noticed, or those that could were of no use."""
        useless = [f"{x} {self.useless[x]}" for x in job.mutant.tests if x in self.useless]
        if useless:
            self._end(job, ERROR, "", useless[0])
        else:
            self._end(job, SURVIVED, "", "")

    def _group(
        self, options: tuple[str, ...], jobs: Sequence[Job], original: Path, testexp: Path
    ) -> None:
        """Boots guests with these options until all jobs are done."""
        # Each of those that want a guest for themselves costs a boot: the others first, in one.
        waiting = sorted(jobs, key=lambda job: job.mutant.alone)
        boots = 0
        while waiting:
            boots += 1
            say(f"guest {boots} ({' '.join(options) or 'no options'}): {len(waiting)} mutants")
            at_work: list[Job] = []
            again: list[Job] = []
            events = 0

            def take(event: Mapping[str, Any]) -> None:
                nonlocal events
                events += 1
                if event["event"] == "baseline":
                    self._baseline(event)
                elif event["event"] == "start":
                    job = next(job for job in waiting if job.mutant.id == event["id"])
                    waiting.remove(job)
                    at_work.append(job)
                elif event["event"] == "end":
                    self._take(at_work.pop(), event, again)

            fresh = self._boot(options, list(waiting), original, testexp, take)
            if at_work:
                # The guest died with it.
                said = "the guest died, or hung until its time was over"
                event = {"by": "guest", "said": said, "good": False, "fresh": fresh, "seconds": 0.0}
                self._take(at_work.pop(), event, again)
            if not events:
                raise LabError("a guest did not come as far as the first command")
            waiting = again + [
                job for job in waiting if any(name not in self.useless for name in job.commands)
            ]

    def _take(self, job: Job, event: Mapping[str, Any], again: list[Job]) -> None:
        """What a guest found out about a mutant. `again` gets those to be tried once more."""
        self.seconds[job.mutant.id] += event["seconds"]
        if not event["by"]:
            if job.last:
                self._survived(job)
        elif event["good"] or event["fresh"] or event["by"] == "kernel log":
            self._end(job, CAUGHT, event["by"], event["said"])
        else:
            # What an earlier mutant did to this guest may be the cause.
            say(f"{job.mutant.id}: noticed by {event['by']}, once more in a new guest")
            again.append(job)

    def _baseline(self, event: Mapping[str, Any]) -> None:
        name = event["command"]
        if event["by"]:
            self.useless[name] = f"fails without the mutant, too: {event['said'] or event['by']}"
            say(f"{name} {self.useless[name]}")
        else:
            self.limits[name] = max(LEAST_LIMIT_S, PATIENCE * event["seconds"])
            say(f"{name}: {event['seconds']:.1f} s without a mutant")

    def _boot(
        self,
        options: tuple[str, ...],
        jobs: Sequence[Job],
        original: Path,
        testexp: Path,
        take: Callable[[Mapping[str, Any]], None],
    ) -> bool:
        """Runs one guest and hands on what it writes, as it does.

        Whether the last mutant that it started was its first.
        """
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
            *("--share", str(self.share), "--log", str(log)),
            *(word.replace("$SHARE", str(self.share)) for word in options),
            *("--", "/usr/bin/python3", "-B"),
            *(f"{config.GUEST_SOURCE}/scripts/dmabuf_mutate/guest.py", "/share"),
        ]
        output = self.tree.folder / "guest.out"
        taken: list[dict[str, Any]] = []

        def hand_on() -> None:
            for event in read_events(events)[len(taken) :]:
                taken.append(event)
                take(event)

        with open(output, "wb") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                hand_on()
                time.sleep(POLL_S)
        except BaseException:
            # dmabuf-lab ends its guest.
            process.terminate()
            process.wait()
            raise
        hand_on()
        if not taken and process.returncode != 0:
            lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            what = "the lab failed" if process.returncode == EXIT_ERROR else "the guest failed"
            raise LabError(f"{what}: {(lines or ['no output'])[-1]} (all of it is in {output})")
        starts = [event for event in taken if event["event"] == "start"]
        return bool(starts) and bool(starts[-1]["fresh"])

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
