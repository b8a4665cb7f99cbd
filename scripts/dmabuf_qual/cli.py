# SPDX-License-Identifier: GPL-2.0-only
"""The command line of dmabuf-qual."""

import argparse
import dataclasses
import json
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dmabuf_common import arguments, drive_guard, program
from dmabuf_common.drive_guard import Demand, Guard
from dmabuf_common.sysfs import System
from dmabuf_common.terminal import Progress
from dmabuf_common.verdict import EXIT_FAIL, EXIT_PASS, PASS

from . import VERSION, beside, budget, cases, compare, drive, execute, exporters, paths, plan, preflight
from . import requirements, results, rules, safety, snia, suite, tools
from .errors import QualError
from .progress import say

EXAMPLES = """\
examples:
  dmabuf-qual preflight /dev/nvme1n1
  dmabuf-qual paths
  dmabuf-qual paths --json --exporter cuda:0000:41:00.0 /dev/nvme1n1
  dmabuf-qual plan --rated-tbw 1200 /dev/nvme1n1
  dmabuf-qual run --quick --erase --serial S5XYZ --output quick /dev/nvme1n1
  dmabuf-qual run --erase --serial S5XYZ --exporter cuda:0000:41:00.0 --output q1 /dev/nvme1n1
  dmabuf-qual run --resume --erase --serial S5XYZ --exporter cuda:0000:41:00.0 --output q1 /dev/nvme1n1
  dmabuf-qual run --erase --serial S5XYZ --serial S5ABC --output both /dev/nvme1n1 /dev/nvme2n1
  dmabuf-qual report q1
  dmabuf-qual compare q1 q2

exit status: 0 pass, 1 fail, 2 wrong usage, a drive that is refused, or something is missing, 3 a quick run
found no fault (it never passes), 77 nothing failed but not all could be judged (inconclusive), or the
drive went away, 130 stopped by Ctrl-C.
Of paths: 0 there is a direct datapath, 77 there is none; over the machine's own memory only with --exporter.
run DESTROYS the data on the drive. All others only read; paths not even that.
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(
        prog="dmabuf-qual",
        description="Qualifies a drive with dma-bufs as the memory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=VERSION)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def scope(to: argparse.ArgumentParser) -> None:
        to.add_argument("--exporter", action="append", default=[], metavar="KIND[:DEVICE]",
                        help=f"who allocates the memory: {', '.join(exporters.KINDS[1:])}; may be given several times. "
                        "vfio needs a device. The control, udmabuf, is always there")
        to.add_argument("--requirements", type=Path, metavar="FILE", help="a TOML file with thresholds")

    def tests(to: argparse.ArgumentParser) -> None:
        to.add_argument("--tests", default=cases.USUAL_TESTS, metavar="LIST",
                        help=f"SNIA's tests to do, of {', '.join(snia.TESTS)} (default: %(default)s)")

    def bounds(to: argparse.ArgumentParser) -> None:
        to.add_argument("--write-speed", type=arguments.above_zero, default=plan.ASSUMED_BYTES_S / 1e6,
                        metavar="MB/s", help="the drive's write speed, assumed until it was measured "
                        "(default: %(default)s)")
        to.add_argument("--most-written", metavar="BYTES", help="the most that the run may write, as 2t: it does not begin, "
                        "or ends, where it would write more")

    check = command("preflight", "what will go wrong here; only reads")
    scope(check)
    asked = command("paths", "which datapath each drive has with each exporter; reads and writes nothing")
    asked.add_argument("--exporter", action="append", default=[], metavar="KIND[:DEVICE]",
                       help="who allocates the memory; may be given several times (default: all that this machine can make)")
    asked.add_argument("--json", action="store_true", help="print JSON, which docs/schema/paths.schema.json describes")
    asked.add_argument("device", nargs="*", help="drives or partitions (default: all drives)")
    planned = command("plan", "hours, bytes written, share of the drive's endurance; only reads")
    scope(planned)
    tests(planned)
    bounds(planned)
    planned.add_argument("--quick", action="store_true", help="of a quick run")
    planned.add_argument("--rated-tbw", type=float, metavar="TB", help="terabytes that the drive's data sheet says may be "
                         "written to it")
    run = command("run", "the qualification; DESTROYS the data on the drive")
    scope(run)
    tests(run)
    bounds(run)
    run.add_argument("--quick", action="store_true", help="a run of minutes, which looks for faults and qualifies nothing")
    run.add_argument("--resume", action="store_true", help="go on with the interrupted run in --output")
    run.add_argument("--erase", action="store_true", help="yes, the drive's data may be destroyed; without it nothing runs")
    run.add_argument("--serial", action="append", default=[], help="the drive's serial number, to be sure which drive "
                     "it is; with several drives once for each, in their order")
    run.add_argument("--wwid", action="append", default=[], help="the drive's wwid, NGUID, EUI-64 or UUID, where the "
                     "serial number is not enough; with several drives once for each")
    run.add_argument("--nsid", default="", help="the drive's namespace id, where the serial number is not enough")
    run.add_argument(drive_guard.CONSENT, action="append", default=[], metavar="TYPE",
                     help="what is on the drive and may be lost, as the refusal names it: ext4, gpt. Once for each; "
                     "with several drives SERIAL=TYPE")
    run.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder for the records and the report")
    run.add_argument("--only", action="append", default=[], metavar="GLOB",
                     help="only cases whose name matches; all else is inconclusive")
    run.add_argument("--despite", action="append", default=[], metavar="NAME",
                     help="begin although preflight says stop for this name; machine.ready then fails")
    run.add_argument("--cell-seconds", type=arguments.positive, metavar="N", help="how long each measurement is (default: 60)")
    run.add_argument("--repeats", type=arguments.positive, metavar="N", help="how often datapaths are compared (default: 5)")
    run.add_argument("--size", metavar="SIZE", help="how much of the drive is measured (default: 100%%)")
    for sub in (check, run):
        sub.add_argument("--peer", metavar="PCI", help="the PCI device whose memory is used, as 0000:41:00.0")
    for sub in (check, planned):
        sub.add_argument("device", help="the drive: /dev/nvme0n1")
    run.add_argument("device", nargs="+", metavar="device", help="the drive: /dev/nvme0n1; several are qualified at "
                     "once, each in a folder of its own in --output")
    report = command("report", "write the report of a run again, in all forms")
    report.add_argument("folder", type=Path)
    report.add_argument("--output", type=Path, metavar="DIR", help="default: the same folder")
    both = command("compare", "what changed between two runs")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path)
    both.add_argument("--force", action="store_true", help="although they are not comparable")
    return top


@dataclasses.dataclass(frozen=True)
class Target:
    """One of the drives of a run. name: its serial number or wwid; among: those of all, where there are
    several; consent: what is on it and may be lost."""

    device: str
    demand: Demand
    output: Path
    name: str = ""
    among: tuple[str, ...] = ()
    consent: tuple[str, ...] = ()


def _consents(given: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What may be lost on each of several drives; QualError for what does not say on which."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    for words in given:
        name, _, kind = words.rpartition("=")
        if name not in found or not kind:
            raise QualError(f"{drive_guard.CONSENT} {words}: of several drives say on which, "
                            f"{drive_guard.CONSENT} {names[0]}=TYPE")
        found[name] += (kind,)
    return found


def drives_of(args: argparse.Namespace) -> list[Target]:
    """Which drives the user means; QualError where they are not told apart."""
    count = len(args.device)
    for name, given in (("--serial", args.serial), ("--wwid", args.wwid)):
        if len(given) not in (0, count):
            raise QualError(f"there are {len(given)} {name} for {count} drives: give one for each, in their order")
    serials: list[str] = args.serial or [""] * count
    wwids: list[str] = args.wwid or [""] * count
    if count == 1:
        return [Target(args.device[0], Demand(serials[0], wwids[0], args.nsid), args.output,
                       consent=tuple(args.overwrite_signature))]
    if args.nsid:
        raise QualError("--nsid goes with one drive: give a --wwid for each")
    names = serials if len(set(serials)) == count else wwids
    folders = [re.sub(r"[^A-Za-z0-9.-]", "_", name) for name in names]
    if len(set(folders)) != count or {"", ".", ".."} & set(folders):
        raise QualError(f"{count} drives need a --serial each, in their order, or a --wwid where that is not enough, "
                        "and no two the same")
    consents = _consents(args.overwrite_signature, names)
    return [Target(device, Demand(serial, wwid, ""), args.output / folder, name, tuple(names), consents[name])
            for device, serial, wwid, folder, name in zip(args.device, serials, wwids, folders, names,
                                                          strict=True)]


def _exporters(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys([cases.CONTROL, *map(exporters.checked, args.exporter)]))


def tests_of(words: str) -> str:
    """--tests, each once and in their order; QualError for one that there is not."""
    wanted = words.split(",")
    for one in wanted:
        if one not in snia.TESTS:
            raise QualError(f"--tests: there is no test {one!r}; there are {', '.join(snia.TESTS)}")
    return ",".join(one for one in snia.TESTS if one in wanted)


def scale_of(
    args: argparse.Namespace, needs: requirements.Requirements, drive_bytes: int
) -> cases.Scale:
    """How large the run is; QualError for a size that the drive has not."""
    scale = dataclasses.replace(cases.usual(needs, args.quick), tests=tests_of(args.tests))
    if args.quick and scale.tests != cases.USUAL_TESTS:
        raise QualError("--tests goes without --quick: a quick run does none of SNIA's tests")
    for name in ("cell_seconds", "repeats"):
        value = getattr(args, name, None)
        if value is not None:
            scale = dataclasses.replace(scale, **{name: value})
    size = getattr(args, "size", None)
    if size is not None:
        if cases.size_bytes(size, drive_bytes) is None:
            raise QualError(f"--size {size} is no part of the drive: give bytes that it has (1g) or "
                            "1% … 100%")
        scale = dataclasses.replace(scale, size=size)
    return scale


def _examine(
    args: argparse.Namespace, found: drive.Drive, needs: requirements.Requirements
) -> list[preflight.Check]:
    wanted = _exporters(args)
    return preflight.examine(found, drive.health(found), wanted, needs, args.peer)


def _preflight(args: argparse.Namespace) -> int:
    needs = requirements.load(args.requirements)
    found = drive.find(args.device)
    checks = _examine(args, found, needs)
    print(preflight.table(checks, sys.stdout.isatty()))
    against = safety.reasons(found)
    for reason in against:
        print(f"note  a run would be refused: {reason}")
    return EXIT_FAIL if any(check.level == preflight.RED for check in checks) else EXIT_PASS


def _paths(args: argparse.Namespace) -> int:
    system, progress = System(), Progress(0)
    wanted = list(dict.fromkeys(map(exporters.checked, args.exporter))) or exporters.of_machine(system)
    devices = list(dict.fromkeys(args.device)) or paths.devices(system)
    progress.total = len(wanted) + len(devices)

    def begin(name: str) -> None:
        progress.end()
        progress.start(name)

    answer = paths.find(tools.integrity_program(), system, devices, wanted, bool(args.exporter), begin)
    progress.clear()
    print(json.dumps(answer.words(), indent=1) if args.json else paths.table(answer))
    return answer.status


def _plan(args: argparse.Namespace) -> int:
    needs = requirements.load(args.requirements)
    found = drive.find(args.device)
    scale = scale_of(args, needs, found.bytes)
    made = plan.parts(found, len(_exporters(args)), needs, scale, args.write_speed * 1e6)
    whole = plan.total(made)
    print(plan.table(made))
    print(plan.endurance(whole.written[1], args.rated_tbw, drive.health(found)))
    print(f"assumed: {args.write_speed:.0f} MB/s of writes, three datapaths for each exporter")
    for line in plan.advice(found, len(_exporters(args)), needs, scale, args.write_speed * 1e6):
        print(line)
    limit = budget.parse(args.most_written)
    against = budget.refusal(made, limit, drive.health(found)) if limit is not None else ""
    if against:
        print(f"note  a run would be refused: {against}")
    return EXIT_FAIL if against else EXIT_PASS


def _show(verdicts: list[rules.Judged], work: suite.Suite) -> int:
    """The verdicts on stdout; the exit status."""
    width = max(len(v.id) for v in verdicts)
    for v in verdicts:
        tail = f" → {v.remedy}" if v.remedy and v.status != PASS else ""
        print(f"{v.status:<12}  {v.id:<{width}}  {v.text}{tail}")
    whole = results.summary(verdicts, work.run, work.store.records.values())
    print(f"verdict: {whole.status}: {whole.text}")
    return results.exit_status(whole)


def _run(args: argparse.Namespace) -> int:
    targets = drives_of(args)
    if len(targets) == 1:
        return _one(args, targets[0], lambda: None)

    def job(target: Target) -> beside.Job:
        return beside.Job(target.name, lambda ready: _one(args, target, ready))

    with beside.alone(targets[0].among, say):
        ended = beside.run([job(target) for target in targets])
    print(beside.table(ended))
    return beside.status(ended)


def _one(args: argparse.Namespace, target: Target, ready: beside.Ready) -> int:
    needs = requirements.load(args.requirements)
    found = drive.find(target.device)
    with safety.claim(found, args.erase, target.demand, target.consent, name=target.name) as guard:
        return _qualify(args, needs, found, guard, target, ready)


def _qualify(args: argparse.Namespace, needs: requirements.Requirements, found: drive.Drive,
             guard: Guard, target: Target, ready: beside.Ready) -> int:
    scale = scale_of(args, needs, found.bytes)
    wanted = _exporters(args)
    execute.need_root()
    have = tools.find()
    checks = _examine(args, found, needs)
    preflight.enforce(checks, args.despite)
    for one in checks:
        if one.level != preflight.GREEN:
            say(f"{one.level}: {one.name}: {one.text}")
    if not Path("/dev/dmabuf_rw").exists():
        raise QualError("there is no /dev/dmabuf_rw: modprobe dmabuf_rw")
    made = plan.parts(found, len(wanted), needs, scale, args.write_speed * 1e6)
    limit = budget.parse(args.most_written)
    if limit is not None and (against := budget.refusal(made, limit, drive.health(found))):
        raise QualError(against)
    say(f"{found.model} {found.serial}: {plan.sentence(made)}, at {args.write_speed:.0f} MB/s of writes")
    say(plan.endurance(plan.total(made).written[1], None, drive.health(found)))
    for line in plan.advice(found, len(wanted), needs, scale, args.write_speed * 1e6):
        say(line)
    work = suite.Suite(
        suite.Request(
            found, target.output, wanted, needs, scale, args.quick, args.resume, guard, args.only,
            checks, limit, args.write_speed * 1e6, target.among
        ),
        have,
    )
    if target.among:
        # Who started them all holds the machine; one drive alone waits for it first.
        work.prepare()
    ready()
    status = _show(work.execute(), work)
    try:
        _, written = results.write(target.output)
        say("report: " + ", ".join(str(path) for path in written))
    except QualError as error:
        say(str(error))
    return status


def _report(args: argparse.Namespace) -> int:
    document, written = results.write(args.folder, args.output)
    for path in written:
        print(path)
    print(f"verdict: {document.verdict.status}: {document.verdict.text}")
    return results.exit_status(document.verdict)


def _compare(args: argparse.Namespace) -> int:
    changes, notes = compare.compare(args.old, args.new, args.force)
    for note in notes:
        print(f"note    {note}")
    for change in changes:
        word = {True: "worse", False: "better", None: "changed"}[change.worse]
        print(f"{word:<7} {change.name}: {change.text}")
    return EXIT_FAIL if any(change.worse for change in changes) else EXIT_PASS


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Runs one sub-command; returns the exit status."""
    args = parser().parse_args(argv)
    act = {"preflight": _preflight, "paths": _paths, "plan": _plan, "run": _run, "report": _report,
           "compare": _compare}[args.command]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return program.run(lambda: act(args), say, (QualError, drive_guard.Refused))
