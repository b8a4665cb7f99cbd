# SPDX-License-Identifier: GPL-2.0-only
"""Runs what is planned, one fio at a time, and stores each run when it is done."""

import secrets
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dmabuf_common import clock, files, measuring
from dmabuf_common.drive_guard import Gone
from dmabuf_common.fingerprint import differences
from dmabuf_common.terminal import Progress
from dmabuf_common.verdict import EXIT_INTERRUPTED, EXIT_UNDECIDED, FAIL, INCONCLUSIVE, PASS

from . import drives, fio, jobfacts, jobfile, machine, schedule
from .errors import NightlyError
from .plan import Case, Host, Plan, Side
from .progress import say
from .store import ABANDONED, Night, Run, Series, Store, too_few_valid

if TYPE_CHECKING:
    from .judged import Judgement

RERUNS = (1, 2)
# A night that paused for longer than this is no single night.
MOST_HOURS = 12
# Where the engine reports is different for each run; a job is judged without.
STAND_IN = "x"
# Which job a run was, among the conditions that are stored with it: by the name of its case.
JOB = "job of "


def parameters(case: Case, host: Host, side: Side) -> dict[str, str]:
    """What ${NAME} in the job file stands for; the more special wins."""
    return {
        "RUNTIME": f"{case.runtime:g}", **case.parameters, **host.parameters, **side.parameters
    }


def target_of(job: jobfile.Job) -> str:
    """The first file that the job names; fio's own names for files are relative and unknown."""
    return jobfile.split(job.values.get("filename", ""))[0]


class Execution:
    """The execution of one night of a plan. Without the drives that are held for it, it only reads."""

    def __init__(
        self, store: Store, plan: Plan, night: int, held: drives.Drives | None = None
    ) -> None:
        self.store = store
        self.drives = held or drives.Drives()
        self.plan = plan
        self.night = night
        self.mark = f"{store.uuid}:"
        self.folder = store.files / f"night-{night:04d}"

    def prepare(self, series: Series) -> tuple[Case, Host, jobfile.Job]:
        """The job that a run of this series will be, by what its file says now, with a stand-in for
        where it reports; NightlyError when it cannot be made."""
        case, host = self.plan.case(series.test), self.plan.host(series.host)
        side = self.plan.side(series.side)
        values = parameters(case, host, side)
        options = {**case.options, **side.options}
        if jobfile.REPORT in options:
            raise NightlyError(f"case {case.name} has the option {jobfile.REPORT}, which this program sets "
                               "itself; take it out")
        job = jobfile.expand(case.job, values, options)
        if case.proof if case.proof is not None else job.ours:
            job = jobfile.expand(case.job, values, {**options, jobfile.REPORT: STAND_IN})
        elif job.placed_report:
            raise NightlyError(f"{case.job.name} has {jobfile.REPORT}, which this program sets itself; take it out")
        if not target_of(job):
            raise NightlyError(
                f"{case.job.name} names no filename in [global], so that nothing says which drive "
                "is measured; add filename=${DEV}"
            )
        return case, host, job

    def planned(self) -> list[drives.Planned]:
        """Every job that the night has."""
        return [
            drives.Planned(*self.prepare(series), series)
            for case in self.plan.cases for side in self.plan.sides for host in case.hosts
            for series in [Series(case.name, side.name, host)]
        ]

    def check(self) -> None:
        """Every job can be made, and may be run; so that a mistake shows now, and not at three in the
        morning."""
        drives.wanted(self.planned())

    def judged(self, series: Series) -> jobfile.Job:
        """The job that was judged when the night began: its file may say something else by now."""
        kept = self.drives.job(series)
        if kept is None:
            case, _, kept = self.prepare(series)
            drives.allowed(case, kept)
        return kept

    def one(self, run: Run) -> fio.Outcome:
        """Runs fio once and stores what it gave. Raises Gone when its drive is not there any more."""
        files.own_folder(self.folder)
        stem = f"run-{run.phase}-{run.position:04d}"
        job_path = self.folder / f"{stem}.fio"
        output = self.folder / f"{stem}.fio.json"
        host = self.plan.host(run.series.host)
        report = str(self.folder / f"{stem}.report.jsonl")
        if host.address:
            report = f"{host.folder}/dmabuf-nightly-{secrets.token_hex(8)}.jsonl"
        for path in (output, Path(report)):
            path.unlink(missing_ok=True)
        judged = self.judged(run.series)
        case, job = self.plan.case(run.series.test), judged.reporting(report)
        guard, ran = self.drives.give(host, job)
        files.write_text(job_path, ran.text)
        self.store.begin(run.id)
        around = machine.Around(host, *machine.what(job.values, target_of(job)))
        argv = ["fio", *([f"--client={host.address}"] if host.address else [])]
        # fio itself keeps what is not held from being written. A server takes it behind its address.
        argv += [] if guard and guard.writes else ["--readonly"]
        argv += ["--output-format=json+", f"--output={output.name}", job_path.name]
        start = time.monotonic()
        try:
            limit = max(300.0, 120 + 10 * case.runtime) if case.runtime else 3600.0
            status, said = fio.run(argv, self.folder.resolve(), f"{self.mark}{run.id}", limit,
                                   guard.pass_fds if guard else ())
        except BaseException:
            around.close()
            raise
        seconds = time.monotonic() - start
        text = output.read_text(errors="replace") if output.exists() else ""
        proof_text = None
        if job.placed_report:
            proof_text = machine.report(host, report)
            if host.address and proof_text:
                files.write_text(self.folder / f"{stem}.report.jsonl", proof_text)
        outcome = fio.judge(status, text, said, proof_text, job, case)
        watch = around.done()
        for reason in watch.reasons:
            outcome.unclear(reason)
        if guard and outcome.status == fio.FAILED:
            # What failed because the drive went away says nothing of it.
            guard.check()
        base = self.store.files
        kept = {"fio": output, "job": job_path, "report": self.folder / f"{stem}.report.jsonl"}
        self.store.complete(
            run.id, outcome, seconds,
            {**watch.facts["key"], "memory": outcome.memory, "route": outcome.route}, watch.facts["subject"],
            {**watch.conditions, JOB + case.name: judged.digest[:16]},
            {name: str(path.relative_to(base)) for name, path in kept.items() if path.exists()},
            jobfacts.facts(judged, case.jobs),
        )
        return outcome

    def phase(self, number: int) -> None:
        """Runs what is planned of a phase; what is done is left alone."""
        runs = self.store.runs(self.night, number)
        waiting = [run for run in runs if run.state != "done"]
        progress = Progress(len(waiting), even=True)
        try:
            for run in waiting:
                what = "rerun" if number else "run"
                progress.start(f"{run.series}, {what} {run.repeat}")
                outcome = self.one(run)
                progress.end()
                if outcome.status != fio.VALID:
                    say(f"{run.series}, run {run.repeat}: {outcome.status}: {outcome.reasons[0]}")
        finally:
            progress.clear()

    def everything(
        self, need_baseline: bool = False, told: "Callable[[Judgement], None] | None" = None
    ) -> "Judgement":
        """The night, the reruns of what is suspect, and the judgement, which is stored. Nights before it
        that were only measured are judged first, since it rests on them; told: called with each."""
        # It needs numpy and scipy, which a machine that only measures may lack.
        from . import analyse, judge

        self.phase(0)
        analyse.before(self.store, self.store.night(self.night), need_baseline, told)
        judgement = judge.judge(self.store, self.plan, self.night, reruns=True)
        if any(self.store.runs(self.night, phase) for phase in RERUNS):
            suspects: list[Series] = []  # a resumed night: what to rerun was decided before
        else:
            suspects = judgement.to_rerun()
        if suspects:
            names = ", ".join(map(str, suspects))
            say(f"suspect: {names}; runs {len(RERUNS)} times more")
            seed = self.store.night(self.night).seed
            with self.store.transaction():
                for phase in RERUNS:
                    planned = schedule.order(self.plan, seed, phase, suspects)
                    self.store.add_runs(self.night, phase, planned)
        for phase in RERUNS:
            self.phase(phase)
        judgement = judge.judge(self.store, self.plan, self.night, need_baseline=need_baseline)
        judgement.save()
        return judgement


def machines(plan: Plan) -> list[str]:
    """The machines that the plan measures on, as measuring.alone() takes them."""
    hosts = [plan.host(name) for case in plan.cases for name in case.hosts]
    # fio takes a port after a comma; a machine is busy on all of them.
    found = [host.address.split(",")[0] or measuring.LOCAL for host in hosts]
    return list(dict.fromkeys(found))


def new_night(store: Store, plan: Plan, seed: int | None, label: str, kind: str = "night") -> int:
    """A night with its runs planned, all in one transaction."""
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    with store.transaction():
        night = store.add_night(kind, plan.name, plan.text, plan.digest, seed, label)
        store.add_runs(night, 0, schedule.order(plan, seed))
    return night


def measured(store: Store, plan: Plan, night: int) -> tuple[str, str]:
    """How the runs of a night went, whatever they gave: pass, fail or inconclusive, and why."""
    by_series: dict[Series, list[Run]] = {}
    for run in store.runs(night, 0):
        by_series.setdefault(run.series, []).append(run)
    runs = [run for those in by_series.values() for run in those]
    failed = [run for run in runs if run.status == fio.FAILED]
    if failed:
        text = f"{len(failed)} of {len(runs)} runs failed: {failed[0].series}: {failed[0].reasons[0]}"
        return FAIL, text
    least = plan.rules.least_runs
    for series, those in by_series.items():
        valid = sum(run.valid for run in those)
        if valid < least:
            why = next((run.reasons[0] for run in those if run.reasons), "they have not been run")
            return INCONCLUSIVE, f"{series}: {valid} runs are valid, and {least} are needed: {why}"
        if too_few_valid(those):
            why = next(run.reasons[0] for run in those if run.reasons and not run.valid)
            return INCONCLUSIVE, f"{series}: {valid} of {len(those)} runs are valid, which is too few: {why}"
    return PASS, f"{sum(run.valid for run in runs)} of {len(runs)} runs are valid"


def unfinished(store: Store, plan: Plan) -> int | None:
    """The night to go on with; None when the last one is complete or cannot be gone on with."""
    nights = store.nights(plan.name)
    if not nights or nights[-1].finished:
        return None
    night = nights[-1]
    if (why := too_old(store, night)) or (
        night.plan_text == plan.text and (why := changed(store, plan, night.id))
    ):
        say(f"night {night.id} is abandoned: {why}; a new one begins")
        store.finish(night.id, INCONCLUSIVE, f"{ABANDONED}: {why}")
        return None
    if night.plan_text != plan.text:
        raise NightlyError(
            f"night {night.id} was begun with another text of plan {plan.name}; "
            "go on with that text, or start a new night without --resume"
        )
    cases = sorted({run.series.test for run in store.runs(night.id)})
    if cases != sorted(case.name for case in plan.cases):
        words = " ".join(f"--case {name}" for name in cases)
        raise NightlyError(
            f"night {night.id} was begun with {words}; go on with these, or start a new night "
            "without --resume"
        )
    return night.id


def too_old(store: Store, night: Night) -> str:
    """Why what was measured of a night is another night's by now; "" when it is not."""
    last = max([night.started, *(run.started for run in store.runs(night.id) if run.started)])
    hours = (clock.seconds(clock.now()) - clock.seconds(last)) / 3600
    if hours <= MOST_HOURS:
        return ""
    return f"its last run began {hours:.0f} hours ago, and {MOST_HOURS} are the most"


def changed(store: Store, plan: Plan, night: int) -> str:
    """What is not any more as it was when a run of the night was done; "" when all is."""
    seen: dict[tuple[str, ...], machine.Look] = {}
    known = {case.name for case in plan.cases}
    execution = Execution(store, plan, night)
    for run in store.runs(night):
        if run.state != "done" or run.series.test not in known:
            continue
        _, host, job = execution.prepare(run.series)
        digest = job.digest[:16]
        if run.conditions.get(JOB + run.series.test, digest) != digest:
            return f"the job of case {run.series.test} is another one by now"
        what = machine.what(job.values, target_of(job))
        if (host.name, *what) not in seen:
            seen[host.name, *what] = machine.look(host, *what)
        look = seen[host.name, *what]
        boots = {run.conditions.get("boot"), look.facts.get("state", {}).get("boot")}
        if len(boots - {None}) > 1:
            return "the machine was booted again in the middle of the night"
        for role, stored in (("key", run.key), ("subject", run.subject)):
            then = store.facts(stored)
            now = look.facts.get(role, {})
            names = [n for n in differences(then, now) if n not in machine.OF_THE_RUN]
            if names:
                return f"it was begun with another {', '.join(names)}"
    return ""


def _raise(*_: object) -> None:
    raise KeyboardInterrupt


def guarded(action: Callable[[], int], store: Store, night: Callable[[], int | None]) -> int:
    """Runs `action`; on Ctrl-C or SIGTERM what is done stays, and the run in flight is planned
    again. 130 then, as for any program that was interrupted. A drive that went away ends the night:
    it is inconclusive, and nothing goes on with it."""
    signal.signal(signal.SIGTERM, _raise)
    try:
        return action()
    except KeyboardInterrupt:
        number = night()
        if number is None:
            return EXIT_INTERRUPTED
        store.requeue(number)
        runs = store.runs(number)
        done = sum(run.state == "done" for run in runs)
        say(f"stopped; {done} of {len(runs)} runs of night {number} are kept; "
            "`run --resume` goes on with the rest")
        return EXIT_INTERRUPTED
    except Gone as gone:
        number = night()
        if number is None:
            raise
        store.requeue(number)
        store.finish(number, INCONCLUSIVE, f"abandoned: {gone}")
        say(f"night {number} is abandoned and inconclusive: {gone}")
        return EXIT_UNDECIDED


def end_left_over(store: Store) -> int:
    """Ends the fio of a program that was killed, which holds the drive, too; how many there were."""
    return fio.end_left_over(f"{store.uuid}:")


def clean_up(store: Store, night: int, ended: int) -> None:
    """After a program that was killed, and whose fio was ended: plans the run in flight again."""
    lost = store.requeue(night)
    if ended or lost:
        say(f"night {night}: {lost} run in flight is run again; "
            f"{ended} processes that were left behind were ended")


def only(plan: Plan, cases: Iterable[str]) -> Plan:
    """The plan with these cases alone."""
    kept = tuple(plan.case(name) for name in cases)
    return replace(plan, cases=kept) if kept else plan
