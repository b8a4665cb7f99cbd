# SPDX-License-Identifier: GPL-2.0-only
"""The command line of dmabuf-nightly."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dmabuf_common import arguments, drive_guard, files, measuring, program
from dmabuf_common.verdict import (
    EXIT_ERROR,
    EXIT_FAIL,
    EXIT_PASS,
    EXIT_STATUS,
    EXIT_UNDECIDED,
    FAIL,
    INCONCLUSIVE,
)
from dmabuf_report import model
from dmabuf_report.errors import ReportError

from . import acknowledge, baseline, drives, health, machine, plan, prune, ratios, runner
from .errors import EXIT_BISECT_ABORT, NightlyError
from .progress import say
from .store import MEASURED, Night, Series, Store

EXAMPLES = """\
examples:
  dmabuf-nightly run plan.toml --store nightly.db --report out/
  dmabuf-nightly run plan.toml --store nightly.db --resume
  dmabuf-nightly baseline pin --store nightly.db --plan basic --last 3
  dmabuf-nightly analyze --store nightly.db --plan basic
  dmabuf-nightly export --store nightly.db --plan basic --csv history/
  git checkout GOOD && make -C kernel && ./load-module && dmabuf-nightly bisect plan.toml \\
      --store nightly.db --case randread-4k --metric read_iops --known-good
  git bisect run dmabuf-nightly bisect plan.toml --store nightly.db --case randread-4k \\
      --metric read_iops --build 'make -C kernel && ./load-module'
  dmabuf-nightly selftest

exit status:
  0 all requirements hold; 1 one failed; 2 wrong usage, or the program could not do its work;
  77 nothing was decided: inconclusive, nothing to judge, or the drive went away in the middle;
  130 interrupted, what is done is kept. A drive that is refused is never written to, and ends it with 2.
  analyze: that of the night that was asked for; what the ones before it came to is printed.
  bisect: 0 good, 1 bad, 125 cannot tell; 255 when bisecting makes no sense (git then stops).
"""

if TYPE_CHECKING:
    from .judged import Judgement

    # What the parsers of the commands are added to.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FORMATS = model.FORMATS
STORE = Path("nightly.db")


def _add(commands: "Commands", name: str, text: str, store: bool = True) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name, help=text, description=text, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if store:
        made.add_argument("--store", type=Path, default=STORE, metavar="FILE",
                          help="the SQLite store (default: %(default)s)")
    return made


def _judged(made: argparse.ArgumentParser) -> None:
    made.add_argument("--need-baseline", action="store_true",
                      help="what has no baseline is inconclusive, not good")
    made.add_argument("--notify", metavar="COMMAND",
                      help="run by sh when the night came to something else than the one before; "
                      "it reads the verdict as JSON")


def _reports(made: argparse.ArgumentParser) -> None:
    made.add_argument("--report", type=Path, metavar="DIR", help="write the reports there")
    made.add_argument("--format", action="append", choices=FORMATS, default=[],
                      help="only these reports (default: all)")


def _add_run(commands: "Commands") -> None:
    run = _add(commands, "run", "run a plan, judge it, rerun what is suspect")
    run.add_argument("plan", type=Path, metavar="PLAN.toml")
    run.add_argument("--resume", action="store_true",
                     help="go on with an interrupted night; a new one when there is none")
    run.add_argument("--case", action="append", default=[], help="only this case; may be repeated")
    run.add_argument("--seed", type=int, help="of the random order (default: a new one)")
    run.add_argument("--label", default="", help="kept with the night, e.g. a commit")
    run.add_argument("--measure", action="store_true",
                     help="only run and store: `analyze` judges, here or elsewhere")
    run.add_argument("--dry-run", action="store_true", help="only show what would run")
    _reports(run)
    _judged(run)


def _add_stored(commands: "Commands") -> None:
    """What is done with nights that are stored."""
    again = _add(commands, "analyze", "judge a stored night again, by the plan it was run with")
    again.add_argument("--plan", help="of this plan (default: of the last night)")
    again.add_argument("--night", type=int, help="default: the last")
    _reports(again)
    _judged(again)
    report = _add(commands, "report", "write the reports of a stored night")
    report.add_argument("--plan", help="of this plan (default: of the last night)")
    report.add_argument("--night", type=int, help="default: the last")
    report.add_argument("--out", type=Path, required=True, metavar="DIR", dest="report")
    report.add_argument("--format", action="append", choices=FORMATS, default=[])
    public = _add(commands, "publish", "write a page of a night, and a list of the nights, for anybody to see")
    public.add_argument("--plan", required=True, metavar="NAME")
    public.add_argument("--night", type=int, help="default: the last that was judged")
    public.add_argument("--out", type=Path, required=True, metavar="DIR")
    nights = _add(commands, "nights", "list the stored nights")
    nights.add_argument("--plan")


def _add_baseline(commands: "Commands") -> None:
    base = commands.add_parser("baseline", help="pin or show baselines; they never move by themselves")
    actions = base.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (("pin", "pin nights as the baseline"), ("show", "show what is pinned")):
        made = actions.add_parser(name, help=text)
        made.add_argument("--store", type=Path, default=STORE, metavar="FILE")
        made.add_argument("--plan", required=True, metavar="NAME")
        if name == "pin":
            which = made.add_mutually_exclusive_group(required=True)
            which.add_argument("--nights", metavar="N,N", help="these nights")
            which.add_argument("--last", type=int, metavar="N", help="the last N finished nights")
            made.add_argument("--case", action="append", default=[])
            made.add_argument("--note", default="")
            made.add_argument("--replace", action="store_true", help="instead of what is pinned")


def _add_bisect(commands: "Commands") -> None:
    step = _add(commands, "bisect", "judge this commit, for git bisect run")
    step.add_argument("plan", type=Path, metavar="PLAN.toml")
    step.add_argument("--case", required=True)
    step.add_argument("--metric", required=True)
    step.add_argument("--side", default="")
    step.add_argument("--host", default="")
    step.add_argument("--build", metavar="COMMAND", help="run first; when it fails: 125")
    step.add_argument("--effect", type=arguments.share, help="what counts as bad, e.g. 0.03 (default: floor)")
    step.add_argument("--known-good", action="store_true",
                      help="this commit is good: measure it, for the steps to be compared with")
    step.add_argument("--label", default="")


def _add_acknowledge(commands: "Commands") -> None:
    known = _add(commands, "acknowledge", "what a night confirmed is known: it fails no more, unless it is worse")
    known.add_argument("--plan", required=True, metavar="NAME")
    known.add_argument("--case", required=True)
    known.add_argument("--metric", required=True)
    known.add_argument("--side", default="")
    known.add_argument("--host", default=plan.LOCAL)
    known.add_argument("--night", type=int, help="default: the last that decided about it")
    known.add_argument("--ratio", type=arguments.above_zero, help="how slow, as a share of the baseline; for "
                       "a store of which a copy was judged")
    known.add_argument("--against", metavar="WHAT", help="baseline, or the name of the side that it is slower "
                       "than; needed where it is slower than both")
    how = known.add_mutually_exclusive_group(required=True)
    how.add_argument("--note", help="why it is so; in every report from then on")
    how.add_argument("--end", action="store_true", help="it fails again")


def _add_tools(commands: "Commands") -> None:
    """What is made of a store, and what needs none."""
    old = _add(commands, "prune", "remove fio's output and the latency bins of old nights; figures stay")
    old.add_argument("--keep", type=arguments.positive, required=True, metavar="N",
                     help="the last N nights of each plan keep all")
    old.add_argument("--plan", metavar="NAME")
    out = _add(commands, "export", "write the history as CSV, or the last judged night as OpenMetrics")
    out.add_argument("--plan", required=True, metavar="NAME")
    out.add_argument("--csv", type=Path, metavar="DIR", help="a file per series, a row per night")
    out.add_argument("--openmetrics", type=Path, metavar="FILE", help="e.g. for Prometheus")
    facts = _add(commands, "fingerprint", "print this machine's fingerprint as JSON", store=False)
    facts.add_argument("--target", required=True, help="the drive or file that is measured")
    facts.add_argument("--engine", default="", help="the engine's file")
    facts.add_argument("--memory", default="", metavar="DEVICE",
                       help="whose memory is used: a PCI address or /dev/dri/card0")
    test = _add(commands, "selftest", "judge made-up histories, say how often that is wrong", store=False)
    test.add_argument("--power", action="store_true",
                      help="instead: how large a slow-down must be to be found")
    test.add_argument("--seed", type=int, default=20, metavar="N", help="of the nights that are drawn (default: %(default)s)")
    test.add_argument("--share", type=arguments.share, default=1.0, help="of the trials, for a quick look")


def parser() -> argparse.ArgumentParser:
    """The argument parser of dmabuf-nightly."""
    top = argparse.ArgumentParser(
        prog="dmabuf-nightly",
        description="Runs fio plans night by night, stores every run, says what became slower.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_run, _add_stored, _add_baseline, _add_bisect, _add_acknowledge, _add_tools):
        add(commands)
    return top


def show(found: model.Results) -> None:
    """The night on stdout: what is not simply good, then the verdict."""
    for requirement in found.requirements:
        if requirement.status in (FAIL, INCONCLUSIVE):
            print(f"{requirement.status:12} {requirement.title}: {requirement.text}")
            if requirement.remedy:
                print(f"{'':12} try: {requirement.remedy}")
    for row in found.comparisons:
        where = f" on {row.host}" if row.host else ""
        print(f"{row.state:12} {row.case}{where} {row.metric}: {row.ratio:.3f} of {row.old_name} "
              f"({row.low:.3f} … {row.high:.3f})")
    print(f"{found.verdict.status}: {found.verdict.text}")


def _conclude(
    judgement: "Judgement", args: argparse.Namespace, told: tuple[str | None, list[str]] | None = None
) -> int:
    """Shows and reports a judgement. told: what the night had come to before, if it was judged."""
    from dmabuf_report.write import write as write_report

    from . import results

    found = results.build(judgement)
    show(found)
    if args.report:
        for path in write_report(found, args.report, args.format or FORMATS):
            say(f"wrote {path}")
    status = EXIT_STATUS[found.verdict.status]
    if not _notify(judgement, found, args, told):
        return status or EXIT_ERROR
    return status


def _notify(
    judgement: "Judgement", found: model.Results, args: argparse.Namespace,
    told: tuple[str | None, list[str]] | None = None,
) -> bool:
    """Tells of a night that came to something new; whether nothing went wrong with that."""
    from . import notify

    night = judgement.store.night(judgement.night)
    news = notify.state(judgement.store, night) != told and notify.changed(judgement.store, night)
    if args.notify and night.finished and news:
        wrong = notify.tell(args.notify, notify.document(judgement.store, night, found))
        if wrong:
            say(f"the notice of night {night.id} was not sent: {args.notify}: {wrong}")
            return False
    return True


class _Earlier:
    """Says, and tells, what nights before came to that had only been measured. sent: whether all that was
    to be told was."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.sent = True

    def tell(self, judgement: "Judgement") -> None:
        """Called when such a night is judged."""
        from . import results

        found = results.build(judgement)
        print(f"night {judgement.night}: {found.verdict.status}: {found.verdict.text}")
        self.sent = _notify(judgement, found, self.args, (MEASURED, [])) and self.sent


def _run(args: argparse.Namespace) -> int:
    wanted = runner.only(plan.load(args.plan), args.case)
    if args.dry_run:
        from . import schedule

        order = schedule.order(wanted, args.seed or 0)
        for series, repeat in order:
            print(f"{series}, run {repeat}")
        seconds = sum(wanted.case(series.test).runtime for series, _ in order)
        say(f"{len(order)} runs, at least {seconds / 60:.0f} min")
        return EXIT_PASS
    if args.measure and (args.notify or args.need_baseline or args.report):
        raise NightlyError(
            "with --measure nothing is judged; give --notify, --need-baseline and --report to analyze"
        )
    if not args.measure:
        # All that is to judge the night: what an upgrade puts in its place meanwhile has no part in it.
        from dmabuf_report import write  # noqa: F401

        from . import analyse, judge, notify, results  # noqa: F401
    store = Store(args.store)
    current: list[int] = []
    earlier = _Earlier(args)

    def action() -> int:
        night = runner.unfinished(store, wanted) if args.resume else None
        planned = runner.Execution(store, wanted, 0)
        planned.check()
        ended = runner.end_left_over(store)
        with drives.hold(planned.planned()) as held:
            return one_night(night, held, ended)

    def one_night(night: int | None, held: drives.Drives, ended: int) -> int:
        if night is None:
            night = runner.new_night(store, wanted, args.seed, args.label)
        current.append(night)
        say(f"night {night} of plan {wanted.name}, in {store.path}")
        runner.clean_up(store, night, ended)
        if args.measure:
            runner.Execution(store, wanted, night, held).phase(0)
            status, text = runner.measured(store, wanted, night)
            store.finish(night, MEASURED, text)
            print(f"night {night} is measured: {text}; `dmabuf-nightly analyze` judges it")
            return EXIT_STATUS[status]
        judgement = runner.Execution(store, wanted, night, held).everything(args.need_baseline, earlier.tell)
        found = results.build(judgement)
        store.finish(night, found.verdict.status, found.verdict.text)
        exit_status = _conclude(judgement, args)
        return exit_status if earlier.sent else exit_status or EXIT_ERROR

    def alone() -> int:
        with _alone(store, wanted):
            return action()

    return runner.guarded(alone, store, lambda: current[0] if current else None)


@contextmanager
def _alone(store: Store, wanted: plan.Plan) -> Iterator[None]:
    """Nobody else runs on this store, nor measures on the plan's machines."""
    who = f"dmabuf-nightly, plan {wanted.name}"
    with store.only_runner(), measuring.alone(runner.machines(wanted), who, say):
        yield


def _night(store: Store, args: argparse.Namespace) -> Night:
    """The night that is meant."""
    if args.night is not None:
        return store.night(args.night)
    nights = store.nights(args.plan)
    if not nights:
        raise NightlyError(f"{store.path} has no night{f' of plan {args.plan}' if args.plan else ''}")
    return nights[-1]


def _analyze(args: argparse.Namespace) -> int:
    from . import analyse, notify

    store = Store(args.store, create=False)
    earlier = _Earlier(args)
    with store.only_runner():
        night = _night(store, args)
        told = notify.state(store, night)
        status = _conclude(analyse.in_order(store, night, args.need_baseline, earlier.tell), args, told)
    return status if earlier.sent else status or EXIT_ERROR


def _report(args: argparse.Namespace) -> int:
    from dmabuf_report.write import write as write_report

    from . import analyse

    store = Store(args.store, create=False)
    found = analyse.look(store, _night(store, args))
    for path in write_report(found, args.report, args.format or FORMATS):
        print(path)
    return EXIT_PASS


def _publish(args: argparse.Namespace) -> int:
    from . import publish

    for path in publish.publish(Store(args.store, create=False), args.plan, args.night, args.out):
        print(path)
    return EXIT_PASS


def _nights(args: argparse.Namespace) -> int:
    store = Store(args.store, create=False)
    for night in store.nights(args.plan):
        runs = store.runs(night.id)
        done = sum(run.state == "done" for run in runs)
        print(f"{night.id:5} {night.started} {night.plan}: {night.status or 'unfinished'}, "
              f"{done} of {len(runs)} runs {night.label}".rstrip())
    return EXIT_PASS


def _baseline(args: argparse.Namespace) -> int:
    store = Store(args.store, create=False)
    if args.action == "pin":
        if args.nights:
            try:
                nights = [int(word) for word in args.nights.split(",")]
            except ValueError:
                raise NightlyError(f"--nights {args.nights}: numbers with commas are wanted") from None
        else:
            finished = [n.id for n in store.nights(args.plan) if n.finished and not n.abandoned]
            nights = finished[-args.last :] if args.last > 0 else []
        shown = baseline.pin(store, args.plan, nights, args.case, args.note, args.replace)
    else:
        shown = baseline.all_of(store, args.plan)
        if not shown:
            say(f"no baseline of plan {args.plan} is pinned; `baseline pin` pins one")
            return EXIT_UNDECIDED
    for one in shown:
        note = f", {one.note}" if one.note else ""
        if not one.jobs_known:
            note += "; its jobs are not stored, so that datapath, block size and depth alone are compared"
        print(f"{one.series}: {one.name}, {len(one.runs)} runs, pinned {one.pinned}{note}")
    return EXIT_PASS


def _bisect(args: argparse.Namespace) -> int:
    wanted = runner.only(plan.load(args.plan), [args.case])
    host = args.host or wanted.cases[0].hosts[0]
    wanted = replace(
        wanted,
        cases=(replace(wanted.cases[0], hosts=(wanted.host(host).name,)),),
        sides=(wanted.side(args.side),),
        old="",
        new="",
    )
    try:
        plan.metric_kind(args.metric)
    except KeyError:
        raise NightlyError(f"{args.metric!r} is no metric; see docs/nightly.md") from None
    from . import bisect

    if args.build:
        failed = bisect.build(args.build)
        if failed:
            say(failed.text)
            return failed.status
    store = Store(args.store, create=False)
    series = Series(args.case, args.side, host)
    planned = runner.Execution(store, wanted, 0).planned()
    with _alone(store, wanted), drives.hold(planned) as held:
        decided = (bisect.known_good if args.known_good else bisect.step)(
            store, wanted, series, args.metric,
            lambda night: runner.Execution(store, wanted, night, held).phase(0),
            args.label, args.effect,
        )
    print(decided.text)
    return decided.status


def _export(args: argparse.Namespace) -> int:
    from . import export

    store = Store(args.store, create=False)
    if not args.csv and not args.openmetrics:
        raise NightlyError("nothing is asked for; add --csv DIR or --openmetrics FILE")
    written = export.write(store, args.plan, args.csv) if args.csv else []
    if args.csv and not written:
        raise NightlyError(f"plan {args.plan} has no valid run to export; see `dmabuf-nightly nights`")
    if args.openmetrics:
        text = export.open_metrics(store, args.plan)
        if not text:
            raise NightlyError(f"no night of plan {args.plan} was judged; see `dmabuf-nightly nights`")
        files.replace(args.openmetrics, text)
        written.append(args.openmetrics)
    for path in written:
        print(path)
    return EXIT_PASS


def _acknowledge(args: argparse.Namespace) -> int:
    store = Store(args.store, create=False)
    series = Series(args.case, args.side, args.host)
    against = args.against
    if against and against != "baseline" and not against.startswith("side "):
        against = f"side {against}"
    if args.end:
        if not acknowledge.end(store, args.plan, series, args.metric, against):
            raise NightlyError(f"nothing is acknowledged of {series}: {args.metric}")
        print(f"{series}: {args.metric} fails again when it is slower")
        return EXIT_PASS
    if args.ratio is None:
        known = acknowledge.add(store, args.plan, series, args.metric, args.night, args.note, against)
    else:
        given = ratios.find(store, args.plan, series, args.metric, args.night, args.ratio, against)
        known = acknowledge.put(store, args.plan, acknowledge.Known(
            series, args.metric, given.against, given.night, given.ratio, args.note, given.own))
    print(f"{series}: {args.metric} is known to be at {known.ratio:.3f} since night {known.night}")
    return EXIT_PASS


def _prune(args: argparse.Namespace) -> int:
    store = Store(args.store, create=False)
    with store.only_runner():
        gone = prune.prune(store, args.keep, args.plan)
    print(f"pruned nights: {', '.join(map(str, gone)) or 'none'}")
    return EXIT_PASS


def _fingerprint(args: argparse.Namespace) -> int:
    found = machine.here(args.target, args.engine, args.memory)
    seen = found.health
    complained = health.complaints_so_far()
    if complained is None:
        seen.unseen.append(health.LOG)
    else:
        seen.counters["kernel complaints"] = complained
    print(machine.to_json(found.facts, seen))
    return EXIT_PASS


def _selftest(args: argparse.Namespace) -> int:
    from . import scenarios, selftest

    wanted = scenarios.POWER if args.power else scenarios.SCENARIOS
    good = selftest.run(plan.Rules(), lambda text: print(text, flush=True), args.share, wanted, args.seed)
    return EXIT_PASS if good else EXIT_FAIL


COMMANDS = {
    "run": _run, "analyze": _analyze, "report": _report, "publish": _publish, "nights": _nights,
    "baseline": _baseline, "bisect": _bisect, "export": _export, "acknowledge": _acknowledge,
    "prune": _prune, "fingerprint": _fingerprint,
    "selftest": _selftest,
}


def main(argv: list[str]) -> int:
    """Runs one sub-command; returns the exit status."""
    args = parser().parse_args(argv)
    wrong = EXIT_BISECT_ABORT if args.command == "bisect" else EXIT_ERROR

    def act() -> int:
        try:
            return COMMANDS[args.command](args)
        except ModuleNotFoundError as error:
            raise NightlyError(
                f"{args.command} needs {error.name}: apt-get install python3-numpy python3-scipy "
                "python3-jinja2 python3-matplotlib python3-junitparser python3-jsonschema"
            ) from error

    return program.run(act, say, (NightlyError, ReportError, drive_guard.Refused), wrong)
