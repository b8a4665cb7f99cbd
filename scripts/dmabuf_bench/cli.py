# SPDX-License-Identifier: GPL-2.0-only
"""The command line of dmabuf-bench."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmabuf_common import arguments, files, loader, program
from dmabuf_common.verdict import EXIT_FAIL, EXIT_PASS

from .cases import (
    IOMMUS, MEMORIES, PATHS, SCHEDULER, SCHEDULERS, Case, IoCase, parse_size,
)
from .errors import BenchError
from .progress import say

EXAMPLES = """\
examples:
  dmabuf-bench goals
  dmabuf-bench run --paths host,premapped --sizes 4k,64k --iommu off,strict
  dmabuf-bench run --figures fio --depths 1,32 --jobs 1,2 --out build/bench
  dmabuf-bench run --figures fio --here /dev/nvme0n1 --paths host,premapped
  dmabuf-bench profile io path=premapped memory=scattered bs=4096 depth=32
  dmabuf-bench report build/bench/results.json

exit status:
  goals: 0 when all hold, but for what is beyond the module, 1 when one is missed or is noise, 2 when nothing could
  be measured.
  run, report, profile: 0 or 2.

All but --here runs in the lab, an emulated machine. Its figures compare datapaths with each other
and say nothing about hardware. docs/performance.md says what is counted, and how.
"""

# What the host's Python needs besides itself. Modules that use them are imported where they are
# needed: --help works, and says what is wrong with the arguments, before anything is installed.
PACKAGES = ("python3-numpy", "python3-scipy", "python3-matplotlib")


# What a checkout has built; where it is installed, the file that fio itself loads.
BUILT = Path("build/host/engine/libdmabuf.so")


def _engine() -> Path:
    return BUILT if BUILT.is_file() else Path(loader.find("libdmabuf.so") or BUILT)


def _packages() -> None:
    """Installs what is missing, in a checkout. Where it is installed, its own package asked for them."""
    from . import lab

    if not lab.LAB.exists():
        return
    from dmabuf_lab import apt
    from dmabuf_lab.errors import LabError

    try:
        apt.install(PACKAGES)
    except LabError as error:
        raise BenchError(str(error)) from error


def _repeats(text: str) -> int:
    value = int(text)
    if value < 3:
        raise argparse.ArgumentTypeError("a median needs three repeats or more")
    return value


def parser() -> argparse.ArgumentParser:
    """The argument parser of dmabuf-bench."""
    top = argparse.ArgumentParser(
        prog="dmabuf-bench",
        description="Measures what I/O costs on each datapath, in the lab.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="measure cases chosen by options")
    run.add_argument("--paths", type=arguments.some(PATHS), default=list(PATHS), metavar="LIST",
                     help=f"of {','.join(PATHS)} (default: all)")
    run.add_argument("--memory", type=arguments.some(MEMORIES), default=["scattered"], metavar="LIST",
                     help=f"of {','.join(MEMORIES)} (default: scattered; fio: plain or huge)")
    run.add_argument("--sizes", type=arguments.listed(parse_size), default=[4096, 65536, 524288, 1 << 20],
                     metavar="LIST", help="512 … 8m (default: 4k,64k,512k,1m)")
    run.add_argument("--depths", type=arguments.listed(arguments.positive), default=[32], metavar="LIST",
                     help="I/O in flight (default: 32)")
    run.add_argument("--jobs", type=arguments.listed(arguments.positive), default=[1], metavar="LIST",
                     help="fio's numjobs (default: 1)")
    run.add_argument("--iommu", type=arguments.some(IOMMUS), default=list(IOMMUS), metavar="LIST",
                     help="of off,lazy,strict, a boot for each (default: all)")
    run.add_argument("--figures", type=arguments.some(("instructions", "fio")), default=["instructions"],
                     metavar="LIST", help="of instructions,fio (default: instructions)")
    run.add_argument("--polled", action="store_true",
                     help="polled rings too (host, passthrough, registered, premapped)")
    run.add_argument("--free", action="store_true",
                     help="also without holding completions back: depends on the machine")
    run.add_argument("--writes", action="store_true", help="writes, not reads (not bounce)")
    run.add_argument("--scheduler", choices=SCHEDULERS, default=SCHEDULER,
                     help=f"of the lab's drive (default: {SCHEDULER}, as drives with several queues have)")
    run.add_argument("--here", type=Path, metavar="DEVICE",
                     help="fio's figures on this machine and this drive, which is only read")
    run.add_argument("--engine", type=Path, metavar="FILE",
                     help=f"with --here (default: {BUILT}, else the one that is installed)")
    run.add_argument("--seconds", type=arguments.seconds, default=3, help="of one fio run (default: 3)")
    goals = commands.add_parser("goals", help="measure what the goals need, and judge")
    for command in (run, goals):
        command.add_argument("--repeats", type=_repeats, default=7, metavar="N",
                             help="of each case, interleaved (default: 7)")
        command.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR",
                             help="results.json, table.txt, plot.svg (default: %(default)s)")
    profile = commands.add_parser("profile", help="count the instructions of each function while a case is measured")
    profile.add_argument("case", nargs="+", metavar="WORD",
                         help="a case as results.json names it: io path=premapped ...")
    profile.add_argument("--iommu", choices=IOMMUS, default="strict", help="(default: strict)")
    profile.add_argument("--rounds", type=arguments.positive, default=20, metavar="N",
                         help="times the case is measured (default: 20)")
    profile.add_argument("--most", type=arguments.positive, default=30, metavar="N",
                         help="functions shown (default: 30)")
    profile.add_argument("--out", type=Path, metavar="DIR",
                         help="keep the counts of each address, and the kernel's symbols")
    report = commands.add_parser("report", help="table and plot of a results file")
    report.add_argument("results", type=Path)
    report.add_argument("--plot", type=Path, metavar="FILE", help="PNG or SVG")
    return top


# A polled ring takes the I/O of these.
POLLED = ("host", "passthrough", "registered", "premapped")
# What passthrough does not take is refused by Linux: it never makes two commands of one.
LONGEST_PASSTHROUGH = 128 << 10


def _rings(args: argparse.Namespace) -> list[bool]:
    """Polled or not, to be tried."""
    return [False, True] if args.polled else [False]


def _possible(path: str, bs: int, polled: bool) -> bool:
    """Does this datapath take such I/O?"""
    return (not polled or path in POLLED) and (path != "passthrough" or bs <= LONGEST_PASSTHROUGH)


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases of `run` for instructions."""
    cases: list[Case] = []
    kinds = [False, True] if args.free else [False]
    for path, memory, bs, depth, polled, free in itertools.product(
        args.paths, args.memory, args.sizes, args.depths, _rings(args), kinds
    ):
        if not _possible(path, bs, polled) or (polled and free):
            continue
        if not (args.writes and path == "bounce"):
            cases.append(IoCase(path, memory, bs, depth, args.writes, polled, free))
    return cases


def _store(args: argparse.Namespace, found: dict[str, Any], text: str) -> None:
    from . import plots, results

    args.out.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out / "results.json", found)
    files.replace(args.out / "table.txt", text + "\n")
    samples = {name: kept for name, kept in results.samples_of(found).items() if kept}
    if samples:
        plots.draw(samples, args.out / "plot.svg")
    say(f"results are in {args.out}")


def _boots(
    cases_of: Callable[[str], list[Case]],
    modes: list[str],
    repeats: int,
    scheduler: str = SCHEDULER,
) -> list[Any]:
    from . import lab

    boots = []
    for iommu in modes:
        cases = cases_of(iommu)
        say(f"IOMMU {iommu}, scheduler {scheduler}: {len(cases)} cases, {repeats} repeats")
        boots.append(lab.instructions(cases, iommu, repeats, scheduler))
    return boots


def _run(args: argparse.Namespace) -> int:
    from . import fio, results, table

    if args.here is not None and args.figures != ["fio"]:
        raise BenchError("--here measures with fio only: add --figures fio")
    parts = []
    boots = []
    if "instructions" in args.figures:
        cases = chosen(args)
        if not cases:
            raise BenchError("these options leave nothing to measure")
        boots = _boots(lambda _: cases, args.iommu, args.repeats, args.scheduler)
        for boot in boots:
            head = f"IOMMU {boot.iommu}, scheduler {boot.scheduler}: {boot.command}"
            parts += [head, table.of_samples(boot.found), ""]
    seen: list[dict[str, Any]] = []
    if "fio" in args.figures:
        fio_cases = [
            fio.FioCase(path, "huge" if memory == "huge" else "plain", bs, depth, jobs, polled)
            for path, memory, bs, depth, jobs, polled in itertools.product(
                args.paths, args.memory, args.sizes, args.depths, args.jobs, _rings(args)
            )
            if _possible(path, bs, polled)
        ]
        if args.here is not None:
            records = fio.measure_here(
                fio_cases, args.here, args.engine or _engine(), args.repeats, args.seconds
            )
            command = f"fio on {args.here}"
            seen.append({"iommu": "as it is", "command": command, "cases": records})
            parts += [command, table.of_fio(records), ""]
            args.iommu = []
        for iommu in args.iommu:
            command, records = fio.measure(
                fio_cases, iommu, args.repeats, args.seconds, max(args.jobs), args.scheduler
            )
            seen.append({"iommu": iommu, "scheduler": args.scheduler, "command": command, "cases": records})
            head = f"IOMMU {iommu}, scheduler {args.scheduler}, fio: {command}"
            parts += [head, table.of_fio(records), ""]
    text = "\n".join(parts)
    print(text)
    _store(args, results.document(boots, seen), text)
    return EXIT_PASS


def _goals(args: argparse.Namespace) -> int:
    from . import goals, jobs, results, table

    boots = _boots(goals.needed, list(goals.BOOTS), args.repeats)
    by_mode = {boot.iommu: boot.found for boot in boots}
    verdicts = [goals.judge(goal, by_mode) for goal in goals.GOALS]
    # Kept, should the next boot fail.
    _store(args, results.document(boots, []), table.of_verdicts(verdicts))
    say(f"IOMMU {jobs.IOMMU}, one job and {jobs.JOBS}: {args.repeats} repeats")
    verdicts.append(jobs.judge(*jobs.measure(args.repeats)))
    text = f"scheduler {SCHEDULER}\n{table.of_verdicts(verdicts)}"
    print(text)
    _store(args, results.document(boots, []), text)
    held = [verdict for verdict in verdicts if verdict.holds]
    beyond = [verdict for verdict in verdicts if verdict.decides and not verdict.holds]
    print(f"{len(held)} of {len(verdicts)} goals hold, {len(beyond)} are beyond this module")
    return EXIT_PASS if len(held) + len(beyond) == len(verdicts) else EXIT_FAIL


def _profile(args: argparse.Namespace) -> int:
    from . import profiles

    figure, functions = profiles.measure(" ".join(args.case), args.iommu, args.rounds, args.out)
    print(profiles.text(figure, functions, args.most))
    return EXIT_PASS


def _report(args: argparse.Namespace) -> int:
    from . import plots, results, table

    found = results.load(args.results)
    samples = results.samples_of(found)
    schedulers = {boot["iommu"]: boot["scheduler"] for boot in found["boots"]}
    for iommu, kept in samples.items():
        print(f"IOMMU {iommu}, scheduler {schedulers[iommu]}\n{table.of_samples(kept)}\n")
    for boot in found["fio"]:
        print(f"IOMMU {boot['iommu']}, fio\n{table.of_fio(boot['cases'])}\n")
    print(found["note"])
    if args.plot is not None:
        plots.draw(samples, args.plot)
    return EXIT_PASS


def main(argv: list[str]) -> int:
    """Runs one sub-command; returns the exit status."""
    args = parser().parse_args(argv)
    commands = {"run": _run, "goals": _goals, "report": _report, "profile": _profile}

    def act() -> int:
        _packages()
        return commands[args.command](args)

    return program.run(act, say, (BenchError,))
