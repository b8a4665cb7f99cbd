# SPDX-License-Identifier: GPL-2.0-only
"""The command line of dmabuf-mutate."""

import argparse
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from dmabuf_common import program
from dmabuf_common.verdict import EXIT_FAIL
from dmabuf_lab import build, cache, config
from dmabuf_lab.errors import LabError

from . import apply, model, report, results
from .boots import Boots
from .local import LocalRun, describe
from .model import Lists, Mutant
from .progress import say
from .tree import Tree, digest

EXAMPLES = """\
examples:
  dmabuf-mutate check
  dmabuf-mutate run --level unit
  dmabuf-mutate run --level vm 'prp-*' map-other-file
  dmabuf-mutate run --again hotpath-no-async
  dmabuf-mutate report

The code is broken in a copy of the checkout, build/mutate/tree. Results are kept in
build/mutate/results.jsonl; a run that was interrupted goes on where it stopped.

exit status: 0 (nearly) all were caught, 1 more than 5 % survived without an explanation, or a mutant
has no result or is stale, 2 wrong usage or the lab failed
"""

# What a result of a level depends on.
_SCRIPTS = tuple(
    f"{folder}{name}"
    for name in ("common", "qual", "nightly", "report")
    for folder in ("scripts/dmabuf_", "tests/")
)
INPUTS = {
    "unit": ("engine", "kernel/uapi", "tests/unit", "tests/plugins", *_SCRIPTS),
    "host": ("engine", "kernel/uapi", "tests/unit", "tests/host", "tests/fakes", "tests/plugins"),
    "vm": ("engine", "kernel", "tests/vm"),
    "debug": ("engine", "kernel", "tests/vm"),
}


def parser() -> argparse.ArgumentParser:
    """The argument parser of dmabuf-mutate."""
    top = argparse.ArgumentParser(
        prog="dmabuf-mutate",
        description="Breaks the code in small ways, one at a time, and looks which test notices.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("list", "show the mutants"),
        ("check", "see whether every mutant still fits the code"),
        ("run", "try the mutants"),
        ("report", "show the results so far"),
    ):
        command = commands.add_parser(
            name, help=what, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("ids", nargs="*", metavar="ID", help="only these; 'prp-*' names several")
        command.add_argument(
            "--level", action="append", default=[], choices=model.LEVELS, help="only of this level"
        )
        command.add_argument(
            "--file", action="append", default=[], metavar="TEXT", help="only in files with this name"
        )
        if name in ("run", "report"):
            command.add_argument(
                "--keep", action="store_true", help="take results of an earlier state of the code, too"
            )
        if name == "run":
            command.add_argument("--again", action="store_true", help="also what has a result")
            command.add_argument(
                "--kernel",
                choices=[series.name for series in config.SETUP_KERNELS],
                default=config.KERNELS[0].name,
                help="stock kernel of the level vm (default: %(default)s)",
            )
    commands.add_parser("clean", help="remove the copy of the checkout and the results")
    return top


def _list(mutants: Sequence[Mutant]) -> int:
    for mutant in mutants:
        files = ", ".join(dict.fromkeys(edit.file for edit in mutant.edits))
        print(f"{mutant.id} ({mutant.level}, {files}): {mutant.breaks}")
    return 0


def _check(mutants: Sequence[Mutant], base: Path) -> int:
    found = apply.stale(mutants, base)
    for name, why in found.items():
        print(f"stale: {name}: {why}")
    print(f"{len(mutants) - len(found)} of {len(mutants)} mutants fit the code")
    return EXIT_FAIL if found else 0


def _digests(base: Path) -> dict[str, str]:
    return {level: digest(base, tops) for level, tops in INPUTS.items()}


def _show(mutants: Sequence[Mutant], found: dict[str, results.Result]) -> int:
    lines, status = report.summary(mutants, found)
    print("\n".join([*report.table(mutants, found), "", *lines]))
    return status


class Run:
    """One call of `run`: tries what has no result yet."""

    def __init__(self, args: argparse.Namespace, base: Path, lists: Lists) -> None:
        self.args, self.lists, self.tree = args, lists, Tree(base)
        self.file = self.tree.folder / "results.jsonl"
        self.digests = _digests(base)
        self.found: dict[str, results.Result] = {}

    def _done(self, result: results.Result) -> None:
        self.found[result.id] = result
        results.append(self.file, result)
        describe(result)

    def __call__(self, mutants: Sequence[Mutant]) -> int:
        """Tries the mutants and shows the table; the exit status."""
        if not self.args.again:
            trees = None if self.args.keep else self.digests
            self.found = results.known(results.read(self.file), mutants, self.lists, trees)
        todo = [mutant for mutant in mutants if mutant.id not in self.found]
        say(f"{len(mutants)} mutants, {len(mutants) - len(todo)} of them with a result")
        self.tree.update()
        local = [mutant for mutant in todo if mutant.level not in model.GUEST_LEVELS]
        if local:
            run = LocalRun(self.tree, self.lists, self.digests)
            run.prepare(local)
            for mutant in local:
                self._done(run.one(mutant))
        for level, kernel in (("vm", self.args.kernel), ("debug", config.DEBUG_KERNEL)):
            here = [mutant for mutant in todo if mutant.level == level]
            if here:
                Boots(self.tree, self.lists, kernel, self.digests[level], self._done).run(here)
        return _show(mutants, self.found)


def _dispatch(args: argparse.Namespace, base: Path) -> int:
    if args.command == "clean":
        shutil.rmtree(Tree(base).folder, ignore_errors=True)
        return 0
    lists = model.load(base)
    mutants = model.choose(lists, args.ids, args.level, args.file)
    match args.command:
        case "list":
            return _list(mutants)
        case "check":
            return _check(mutants, base)
        case "run":
            with cache.lock(base / "build/.mutate.lock", what="the copy of the checkout"):
                return Run(args, base, lists)(mutants)
    file = Tree(base).folder / "results.jsonl"
    trees = None if args.keep else _digests(base)
    return _show(mutants, results.known(results.read(file), mutants, lists, trees))


def main(argv: list[str]) -> int:
    """Runs one sub-command; returns the exit status."""
    args = parser().parse_args(argv)
    # What was started is ended, too, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return program.run(lambda: _dispatch(args, build.checkout()), say, (LabError,))
