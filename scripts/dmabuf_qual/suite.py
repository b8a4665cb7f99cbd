# SPDX-License-Identifier: GPL-2.0-only
"""A run: what works here, integrity first, then steady state and the comparison, then the end."""

import errno
import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dmabuf_common import kmsg, measuring, process
from dmabuf_common.clock import now
from dmabuf_common.drive_guard import Gone, Guard
from dmabuf_common.sysfs import System
from dmabuf_common.terminal import Progress

from . import budget, cases, drive as drives, environment, execute, judge, judge_steady, klog, plan
from . import rules, snia, steady, unmapped, whereabouts
from .bounces import Bounces
from .cases import Case, Scale
from .drive import Drive
from .errors import QualError
from .execute import Bench
from .klog import Watch
from .preflight import Check
from .progress import say
from .requirements import Requirements
from .snia import Rounds
from .store import FIO, Record, Store
from .tools import Tools

WORKS = "works"
PROBE_S = 60
# With these a probe says that something went wrong, not that there is no such datapath here.
TROUBLE = (errno.EIO, errno.ENOMEM, errno.EPERM, errno.EACCES, errno.EBUSY, errno.ETIMEDOUT, errno.EAGAIN,
           errno.EINTR, errno.EFAULT, errno.ENOSPC, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    drive: Drive
    folder: Path
    exporters: list[str]
    needs: Requirements
    scale: Scale
    quick: bool
    resume: bool
    guard: Guard  # holds the drive as long as the run takes
    only: list[str] = field(default_factory=list)  # patterns of case ids; empty: all
    preflight: list[Check] = field(default_factory=list)
    most_written: int | None = None  # bytes
    assumed: float = plan.ASSUMED_BYTES_S  # bytes a second of writes, until some were measured
    among: tuple[str, ...] = ()  # the serial numbers of the drives that run at once; who started them has the lock


def probe(tools: Tools, guard: Guard, exporter: str, path: str) -> dict[str, Any]:
    """Does this exporter map for this drive on this datapath? Reads only."""
    kind, device = cases.split_exporter(exporter)
    argv = [tools.integrity, "probe", *execute.drive_words(guard), "--exporter", kind]
    argv += ["--datapath", path, *(["--exporter-device", device] if device else [])]
    ended = process.run(argv, PROBE_S, pass_fds=guard.pass_fds)
    if ended.hung:
        place = f", blocked in {ended.blocked}" if ended.blocked else ""
        return {WORKS: False, "name": "IO_HANG", "text": f"the probe did not end in {PROBE_S} s{place}"}
    try:
        said = json.loads(ended.out)
    except ValueError:
        said = None
    if not isinstance(said, dict) or execute.unexpected(ended.status, said):
        text = f"the probe ended with status {ended.status}: {(ended.err or ended.out).strip()[-200:]}"
        return {WORKS: False, "name": rules.PROBE_FAILED, "text": text}
    if "error" not in said:
        facts = said["facts"]
        return {WORKS: True, "name": "", "facts": facts,
                "text": f"{facts.get('memory')} memory, route {facts.get('route')}"}
    no = execute.refused(said["error"])
    name = no["name"] if no else rules.PROBE_FAILED if said.get("errno") in TROUBLE else "NOT_AVAILABLE"
    return {WORKS: False, "name": name, "text": said["error"]}


class Spent(Exception):
    """The next case might write more than the user allowed."""


def _identity(guard: Guard) -> dict[str, str]:
    """Which drive it is, whatever its name is since the last start of the machine."""
    return {name: value for name, value in guard.identity.record().items() if name != "device"}


class Suite:
    """One run, from its first case or from where it was cut off."""

    def __init__(self, request: Request, tools: Tools, system: System | None = None) -> None:
        self.request, self.tools = request, tools
        self.system = system or System()
        self.store = Store(request.folder)
        self.run: dict[str, Any] = {}
        self.watch: Watch | None = None
        self.meter: budget.Meter | None = None
        self.progress = Progress(0)

    @property
    def part(self) -> int:
        """Which of the uninterrupted parts of the run this is, from 1 on."""
        return len(self.run["parts"])

    def prepare(self) -> None:
        """Takes the folder, and looks at all that may be against the run. Stores nothing: where several
        drives are to begin together, another one may be refused yet."""
        request = self.request
        self.store.lock()
        if request.drive.bytes < cases.LEAST_DRIVE:
            raise QualError(f"{request.drive.path} is smaller than {cases.LEAST_DRIVE >> 20} MiB")
        facts = environment.facts(
            request.drive, self.tools.engine, self.system, self.tools.integrity, request.exporters
        )
        scale = request.scale.as_words()
        more: dict[str, object] = {"exporters": request.exporters, "scale": scale}
        if request.among:
            more["drives at once"] = len(request.among)
        self.run = {
            "device": request.drive.path,
            "identity": _identity(request.guard),
            "serial": request.drive.serial,
            "firmware": request.drive.firmware,
            "model": request.drive.model,
            "quick": request.quick,
            "exporters": request.exporters,
            "only": request.only,
            "requirements": request.needs,
            "scale": scale,
            "steady": request.scale.steady,
            "whole_drive": request.drive.name == request.drive.disk,
            "emulated": request.drive.emulated,
            "mdts": request.drive.mdts,
            "block": request.drive.block,
            "drive_bytes": request.drive.bytes,
            "seed": random.randrange(1, 1 << 31),
            "started": now(),
            "environment": facts,
            "comparability_key": environment.comparability_key(facts, more),
            "health_before": self._health(),
            "parts": [],
            **({"among": list(request.among)} if request.among else {}),
        }
        old = self.store.goes_on(self.run, request.resume)
        if old is not None:
            # Of a run that goes on, what it began with counts.
            self.run = old
            for name in ("finished", "ended", "health_after"):
                # Of how an earlier part ended; this one may end otherwise.
                self.run.pop(name, None)
            self._same_memory()
        # A run that goes on may be allowed more than it was.
        self.run["most_written"] = request.most_written

    def _tried(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Which datapaths work here, by exporter."""
        say("which datapaths work here …")
        request = self.request
        return {
            exporter: {path: probe(self.tools, request.guard, exporter, path)
                       for path in ("premapped", "registered", "bvec")}
            for exporter in request.exporters
        }

    def _same_memory(self) -> None:
        """The cases to come must have the memory that those had which are there: after a boot a name such
        as /dev/dri/card1 may be another card's."""
        if "paths" not in self.run:
            return
        paths = self._tried()
        other = whereabouts.another(self.run, paths, whereabouts.addresses(self.system, paths))
        if other:
            self.store.same(*other)

    def _begin(self) -> None:
        """Begins a part of the run, and stores what was asked for."""
        self._begin_part()
        if "paths" not in self.run:
            self.run["paths"] = self._tried()
            self.run["devices"] = whereabouts.addresses(self.system, self.run["paths"])
        say(whereabouts.words(self.run, self.store.records.values()))
        self.store.save(self.run)

    def _begin_part(self) -> None:
        """Notes where this part of the run begins, and takes over the log of one that was killed."""
        boot = self.system.read("/proc/sys/kernel/random/boot_id")
        begin = kmsg.newest()
        last = self.run["parts"][-1] if self.run["parts"] else None
        if last is not None and "log" not in last and last["boot"] == boot:
            known = [last["log_from"]]
            known += [log["newest"] for r in self.store.records.values() if (log := r.get("kernel_log"))
                      and r["part"] == self.part]
            begin = max(known)
            last["log"] = {"lines": [], "complete": True, "newest": begin}
        checks = [asdict(check) for check in self.request.preflight]
        self.run["parts"].append(
            {"started": now(), "boot": boot, "log_from": begin, "preflight": checks}
        )
        self.watch = Watch(klog.ours(self.request.drive, self.system), begin)

    def _end_part(self) -> None:
        """Nothing more is done in this part; what the kernel said at its end is kept."""
        assert self.watch is not None
        self.run["parts"][-1]["log"] = self.watch.look()
        self.watch.close()

    def _health(self) -> dict[str, int] | None:
        found = drives.health(self.request.drive)
        return None if found is None else asdict(found)

    def _health_now(self) -> dict[str, dict[str, int]]:
        """What may be over when the run ends; nothing where the drive does not say."""
        found = drives.health(self.request.drive)
        if found is None:
            return {}
        return {"health": {"critical": found.critical, "temperature_c": found.temperature_c}}

    def _tick(self) -> None:
        self.progress.tick()
        why = self.meter.look() if self.meter is not None else ""
        if why:
            raise Spent(why)

    def _measured(self, case: Case) -> budget.Meter | None:
        """What looks at a case that writes for a time, where no more than so much may be written."""
        limit, disk = self.request.most_written, self.request.drive.disk
        if limit is None or case.kind not in ("cell", "pts") or not cases.shares(case)[1]:
            return None
        so_far = self._written()

        def counters() -> tuple[int, int]:
            health = drives.health(self.request.drive)
            return (health.written_bytes if health is not None else 0, execute.stat(self.system, disk)[1])

        return budget.Meter(limit, so_far, counters)

    def _do(self, bench: Bench, case: Case) -> None:
        """One case, unless it has ended before."""
        if self._has(case) or not self._wanted(case):
            return
        assert self.watch is not None
        may_write, self.meter = self._afford(case), self._measured(case)
        self.store.begins(budget.begins(case, self.part, may_write))
        self.progress.start(case.id)
        try:
            record = bench.run(case)
        finally:
            self.meter = None
        seen = self.watch.look()
        record = unmapped.named(record, (seen or {}).get("lines", ()), self.store.records.values(),
                                klog.ours(self.request.drive, self.system).drives, self.system)
        self.store.add({**record, "part": self.part, "kernel_log": seen, **self._health_now()})
        self.progress.end(word_for(record))

    def _afford(self, case: Case | None) -> float:
        """How much a case may write. Raises Spent where that is more than is left of --most-written, or more
        is written by now."""
        limit, request = self.request.most_written, self.request
        fastest = budget.speed(self.store.all, request.assumed)
        more = budget.most(case, request.drive, request.scale, fastest) if case is not None else 0.0
        if limit is None:
            return more
        so_far = self._written()
        if so_far > limit:
            raise Spent(budget.over(so_far, limit))
        if case is not None and so_far + more > limit:
            raise Spent(budget.ended(so_far, limit, case.id, more))
        return more

    def _written(self) -> float:
        """By all parts of the run; Spent where that is not known."""
        request, after = self.request, drives.health(self.request.drive)
        if after is None:
            raise Spent(f"{budget.NAME}: what was written is not known: the drive's SMART log cannot be read any more")
        return budget.used(self.run["health_before"], after, self.store.all, request.drive, request.scale,
                           request.assumed, self.store.begun)

    def _has(self, case: Case) -> bool:
        """Whether a case has ended; of the window, all is of one uninterrupted part."""
        record = self.store.records.get(case.id)
        window = case.kind in judge_steady.WINDOW_KINDS
        return record is not None and (not window or record.get("part") == self.part)

    def _wanted(self, case: Case) -> bool:
        only = self.request.only
        return not only or any(fnmatchcase(case.id, pattern) for pattern in only)

    def _all(self, bench: Bench, listed: Iterable[Case]) -> None:
        for case in listed:
            self._do(bench, case)

    def _rounds(self, bench: Bench, rounds: Rounds) -> None:
        """Preconditioning, then rounds until they are steady, or too many; or until the drive is saturated."""
        if self._at_end(rounds):
            return
        if not rounds.prepares and self.store.parts_of(rounds.prefix):
            say(f"the {rounds.test} test was stopped, and the drive is not fresh any more: it is not done again; purge "
                "the drive, and choose another --output")
            return
        known = self.store.records.values()
        if any(record["kind"] in judge_steady.WINDOW_KINDS and rounds.mine(record["id"]) for record in known):
            say(f"preconditioning and rounds of the {rounds.test} test begin anew: they must be of one uninterrupted "
                "run")
        if rounds.prepares:
            every = rounds.precondition()
            self.progress.total += 1
            self._do(bench, every)
            ready = self.store.records[every.id]
            if ready["findings"] or "error" in ready:
                say("the drive could not be brought into its state: no rounds")
                return
            self._foretell(rounds, ready)
        block = self.request.drive.block
        for number in range(1, (steady.MOST_ROUNDS if rounds.tracked else snia.SATURATION_ROUNDS) + 1):
            listed = rounds.cells(block, number)
            self.progress.total += len(listed)
            self._all(bench, listed)
            if len(judge_steady.whole_rounds(self.store.records.values(), block, rounds)) != number:
                say(f"round {number} could not be measured: no more rounds")
                return
            values = judge_steady.tracked(self.store.records.values(), block, rounds)
            looked = [steady.examine(one).text() for one in values.values()]
            say(f"{rounds.prefix}, round {number}: {looked[0] if looked else 'done'}")
            if self._at_end(rounds):
                return

    def _foretell(self, rounds: Rounds, ready: Record) -> None:
        """What the rounds will take and write, now that the drive's speed is known."""
        if not ready.get("written_bytes") or not ready.get("runtime_s"):
            return
        speed = ready["written_bytes"] / ready["runtime_s"]
        part = plan.rounds_of(rounds, self.request.drive, self.request.scale, speed)[-1]
        say(f"the drive writes {speed / 1e6:.0f} MB/s: {part.name} take {plan.span(part.seconds)} and write up to "
            f"{plan.amount(part.written[1])}")

    def _at_end(self, rounds: Rounds) -> bool:
        """Whether no more rounds are needed."""
        drive = self.request.drive
        if rounds.tracked:
            return judge_steady.settled(self.store.records.values(), rounds, drive.block)
        return judge_steady.saturated(self.store.records.values(), drive.bytes)

    def execute(self) -> list[rules.Judged]:
        """Runs all that is left, when nobody else measures on this machine; returns the verdicts.
        KeyboardInterrupt when the user stops it."""
        if self.request.among:
            return self._execute()
        with measuring.alone([measuring.LOCAL], f"dmabuf-qual of {self.request.drive.path}", say):
            return self._execute()

    def _execute(self) -> list[rules.Judged]:
        if not self.run:
            self.prepare()
        self._begin()
        request = self.request
        paths = rules.works(self.run)
        keep = request.folder / FIO
        keep.mkdir(exist_ok=True)
        with Bounces(request.drive.pci) as bounces:
            bench = Bench(request.drive, self.tools, request.needs, request.scale,
                          int(self.run["seed"]), keep, self._tick, self.system, bounces,
                          request.guard)
            there = True
            try:
                self._cases(bench, paths)
                self._afford(None)
            except KeyboardInterrupt:
                self._end_part()
                self.store.save(self.run)
                raise
            except Gone as gone:
                self.run["ended"] = str(gone)
                there = False
            except Spent as spent:
                self.run["ended"] = str(spent)
        self._end_part()
        if there:
            self.run["health_after"] = self._health()
        if "ended" not in self.run:
            self.run["finished"] = now()
        self.store.save(self.run)
        return self.verdicts()

    def _cases(self, bench: Bench, paths: dict[str, list[str]]) -> None:
        """All cases in their order; KeyboardInterrupt, with the drive idle, when the user stops it."""
        request = self.request
        first = cases.before_measuring(request.exporters, paths, request.needs)
        matrix = cases.measuring(request.exporters, paths, request.scale)
        random.Random(self.run["seed"]).shuffle(matrix)
        last = cases.after_measuring()
        again = cases.after_load(request.exporters, paths) if request.scale.steady else []
        every = [*first, *matrix, *last, *again]
        self.progress.total = sum(
            self._wanted(case) and not self._has(case) for case in every
        )
        try:
            self._all(bench, first)
            if request.scale.steady:
                # Preconditioning, rounds and cells overwrite the retention region: look at it before.
                self._all(bench, last)
                for rounds in snia.of_tests(request.scale.tests) if not request.only else ():
                    self._rounds(bench, rounds)
                self._all(bench, matrix)
                self._all(bench, again)
            else:
                self._all(bench, matrix)
                self._all(bench, last)
        except KeyboardInterrupt:
            quiet = execute.idle(self.system, request.drive.disk)
            word = "is idle" if quiet else "STILL HAS I/O IN FLIGHT"
            say(f"stopped; {len(self.store.records)} cases are kept, the drive {word}; "
                "--resume goes on")
            raise

    def verdicts(self) -> list[rules.Judged]:
        """Of what is there."""
        return judge.judge(self.store.records, {**self.run, **judge.known_parts(self.store)}, self.request.needs)


def word_for(record: Record) -> str:
    """How a case ended, for the progress line."""
    if record["findings"]:
        return ", ".join(sorted({one["name"] for one in record["findings"]}))
    if "error" in record:
        return f"could not be done: {record['error'][:100]}"
    return f"not applicable: {record['skip']}" if "skip" in record else "right"
