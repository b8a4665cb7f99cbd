# SPDX-License-Identifier: GPL-2.0-only
"""Mutants that ctest on this machine should notice: one build and one ctest each."""

import os
import re
import time
from collections.abc import Iterable, Sequence

from dmabuf_common import process
from dmabuf_lab import config as lab_config
from dmabuf_lab import fio_program, fio_source, root
from dmabuf_lab.errors import LabError

from .apply import Stale
from .model import Lists, Mutant
from .progress import say, step
from .results import CAUGHT, ERROR, STALE, SURVIVED, Result, key_of
from .tree import Tree

# How many times longer than with the code as it is the tests may take, and how long at least.
PATIENCE = 5.0
LEAST_LIMIT_S = 60.0
BASE_LIMIT_S = 600.0
# What a change must not be in for a build to be needed.
NOT_BUILT = (".py", ".toml", ".json")

# A test that is a file of Python tests rather than one of ctest's.
PYTEST = "pytest:"
_PYTEST_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)(?: - (.*))?$", re.MULTILINE)
_FAILED = re.compile(r"^\s*\d+ - (\S+) \((.+)\)\s*$", re.MULTILINE)


def expression(tests: Iterable[str]) -> str:
    """ctest's regular expression for tests whose names begin with one of these."""
    return f"^({'|'.join(re.escape(test) for test in tests)})"


def failed_test(output: str) -> tuple[str, str]:
    """The first test that ctest says failed, and how ("Failed", "Timeout", "SEGFAULT", ...)."""
    _, _, tail = output.partition("The following tests FAILED:")
    match = _FAILED.search(tail)
    return (match.group(1), match.group(2)) if match else ("ctest", "ctest failed")


class Local:
    """The build folder of the copy, and what the tests say without a mutant in it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.build = tree.path / "build/host"
        self.jobs = str(os.cpu_count() or 1)
        self.environment = {"PATH": f"/usr/bin:/bin:{os.environ['PATH']}"}

    def _call(self, argv: Sequence[str], limit_s: float) -> tuple[int | None, str]:
        """Status (None: it did not end in time) and output; leaves no process behind."""
        ended = process.run(argv, limit_s, env=self.environment, merge=True)
        return (None, "") if ended.hung else (ended.status, ended.out)

    def configure(self) -> None:
        """Configures the copy's build folder, once."""
        if (self.build / "build.ninja").exists():
            return
        version, mirror = lab_config.TEST_FIO_VERSION, root.debian_mirror()
        fio, program = fio_source.get(version, mirror), fio_program.get(version, mirror)
        with step("configuring the private build"):
            status, output = self._call(
                [
                    *("cmake", "-S", str(self.tree.path), "-B", str(self.build), "-G", "Ninja"),
                    # Not optimised: a mutant's build is most of its time.
                    *("-DCMAKE_BUILD_TYPE=Debug", f"-DFIO_SOURCE_DIR={fio}", "-DDMABUF_TESTS=host"),
                    f"-DFIO_EXECUTABLE={program}",
                    # A mutant that crashes at the start fails a test then, and not the build.
                    "-DCMAKE_GTEST_DISCOVER_TESTS_DISCOVERY_MODE=PRE_TEST",
                ],
                300,
            )
        if status != 0:
            raise LabError(f"cmake failed: {output.strip()}")

    def compile(self, level: str) -> str | None:
        """Builds what the tests of a level need; what the compiler said if it failed."""
        target = "unit_tests" if level == "unit" else "all"
        argv = ["cmake", "--build", str(self.build), "-j", self.jobs, "--target", target]
        status, output = self._call(argv, BASE_LIMIT_S)
        if status == 0:
            return None
        errors = [line for line in output.splitlines() if "error" in line]
        return (errors or output.strip().splitlines() or ["no output"])[0]

    def test(self, tests: Sequence[str], limit_s: float) -> tuple[str, str] | None:
        """Runs the tests until one fails; that one and how it failed, None if all passed."""
        for test in tests:
            if test.startswith(PYTEST):
                failed = self._pytest(test.removeprefix(PYTEST), limit_s)
                if failed:
                    return failed
        tests = [test for test in tests if not test.startswith(PYTEST)]
        if not tests:
            return None
        argv = [
            *("ctest", "--test-dir", str(self.build), "-R", expression(tests), "-j", self.jobs),
            *("--stop-on-failure", "--no-tests=error"),
        ]
        status, output = self._call(argv, limit_s)
        if status is None:
            return "ctest", f"did not end within {limit_s:.0f} s"
        if status == 0:
            return None
        if "No tests were found" in output:
            raise LabError(f"ctest has no test that begins with {' or '.join(tests)}")
        return failed_test(output)

    def _pytest(self, path: str, limit_s: float) -> tuple[str, str] | None:
        """Runs a file of Python tests until one fails; that one and how it failed."""
        # -rfE: which test failed, whatever PYTEST_ADDOPTS asks for (scripts/check asks for what was skipped).
        argv = ["/usr/bin/python3", "-B", "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider"]
        status, output = self._call([*argv, str(self.tree.path / path)], limit_s)
        if status is None:
            return path, f"did not end within {limit_s:.0f} s"
        if status == 0:
            return None
        match = _PYTEST_FAILED.search(output)
        return (match.group(1), match.group(2) or "failed") if match else (path, "pytest failed")


def _needs_build(mutant: Mutant) -> bool:
    return any(not edit.file.endswith(NOT_BUILT) for edit in mutant.edits)


def _needs_ctest(mutant: Mutant) -> bool:
    """Whether the build folder is needed at all: files of Python tests do without."""
    return _needs_build(mutant) or any(not test.startswith(PYTEST) for test in mutant.tests)


class LocalRun:
    """Runs the mutants of the levels unit and host, each with a result of its own."""

    def __init__(self, tree: Tree, lists: Lists, digests: dict[str, str]) -> None:
        self.local, self.tree, self.lists, self.digests = Local(tree), tree, lists, digests
        self.limits: dict[tuple[str, ...], float | str] = {}

    def prepare(self, mutants: Sequence[Mutant]) -> None:
        """Builds the code as it is, where a test needs it; without that, no mutant says anything."""
        if any(_needs_ctest(mutant) for mutant in mutants):
            self.local.configure()
        for level in sorted({mutant.level for mutant in mutants if _needs_build(mutant)}):
            with step(f"building for the level {level}"):
                error = self.local.compile(level)
            if error:
                raise LabError(f"the code as it is cannot be built: {error}")

    def _limit(self, mutant: Mutant) -> float | str:
        """How long the mutant's tests may take; why they say nothing if they fail anyway."""
        if mutant.tests not in self.limits:
            start = time.monotonic()
            failed = self.local.test(mutant.tests, BASE_LIMIT_S)
            took = time.monotonic() - start
            if failed:
                self.limits[mutant.tests] = f"without the mutant, too, {failed[0]}: {failed[1]}"
            else:
                self.limits[mutant.tests] = max(LEAST_LIMIT_S, PATIENCE * took)
        return self.limits[mutant.tests]

    def one(self, mutant: Mutant) -> Result:
        """Tries one mutant."""
        start = time.monotonic()

        def result(verdict: str, by: str = "", detail: str = "") -> Result:
            seconds = round(time.monotonic() - start, 1)
            tree = self.digests[mutant.level]
            return Result(mutant.id, key_of(mutant, self.lists), tree, verdict, by, detail, seconds)

        # The baseline is measured on the code as it is, so what the last mutant left is built anew.
        if mutant.tests not in self.limits and _needs_ctest(mutant):
            if error := self.local.compile(mutant.level):
                return result(ERROR, detail=f"the code as it is cannot be built: {error}")
        limit_s = self._limit(mutant)
        if isinstance(limit_s, str):
            return result(ERROR, detail=limit_s)
        start = time.monotonic()
        try:
            with self.tree.broken(mutant):
                if _needs_build(mutant) and (error := self.local.compile(mutant.level)):
                    return result(ERROR, detail=f"does not build: {error}")
                failed = self.local.test(mutant.tests, limit_s)
        except Stale as error:
            return result(STALE, detail=str(error))
        return result(CAUGHT, *failed) if failed else result(SURVIVED)


def describe(result: Result) -> None:
    """Says on stderr what became of a mutant."""
    more = f" by {result.by}" if result.by else ""
    detail = f": {result.detail}" if result.detail else ""
    say(f"{result.id}: {result.verdict}{more}{detail} ({result.seconds:.1f} s)")
