# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/check says of skipped tests, by what pytest, GoogleTest and ctest really write."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SUITE = """
import pytest

@pytest.mark.parametrize("which", ["a", "b"])
def test_one(which):
    pytest.skip("nothing is here: apt-get install it")

@pytest.mark.skipif(True, reason="needs root")
def test_other():
    pass

def test_passes():
    print("SKIPPED is a word, too")
"""
# As tests/unit are; a test by itself, as ctest runs them, and all of them.
UNIT = r"""
#include <gtest/gtest.h>
class Drive : public testing::Test {
  void SetUp() override { GTEST_SKIP() << "needs root"; }
};
TEST_F(Drive, IsClaimed) {}
TEST(Module, IsNotHere) { GTEST_SKIP() << "this machine\nhas the module"; }
TEST(Module, Other) { GTEST_SKIP(); }
TEST(Module, Passes) { puts("x.cpp:1: Skipped\n[  SKIPPED ] is a word, too"); }
"""


def ctest(folder: Path, entries: str) -> str:
    """Runs the tests of a folder; its output. They all pass."""
    (folder / "CTestTestfile.cmake").write_text(entries)
    environment = {"PATH": "/usr/bin:/bin", "PYTEST_ADDOPTS": "-rs", "HOME": str(folder)}
    done = subprocess.run(["ctest", "--test-dir", str(folder), "--output-on-failure"], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0 and "100% tests passed" in done.stdout, done.stdout
    return done.stdout


def said(log: Path) -> str:
    script = f". {SCRIPTS}/skips.sh; skips {log}"
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("ctest"), reason="needs ctest: apt-get install cmake")
def test_each_reason_of_each_pytest_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = f'"{sys.executable}" "-m" "pytest" "-q" "-p" "no:cacheprovider" "{tmp_path}/test_suite.py"'
    output = ctest(tmp_path, f'add_test("one" {command})\nadd_test("two" {command} "-k" "other")\n')
    assert "needs root" not in output
    assert said(tmp_path / "Testing/Temporary/LastTest.log") == (
        "4 tests were skipped: nothing is here: apt-get install it (2); needs root (2)\n")


@pytest.mark.skipif(not shutil.which("ctest"), reason="needs ctest: apt-get install cmake")
@pytest.mark.skipif(not Path("/usr/include/gtest/gtest.h").exists(), reason="needs GoogleTest: apt-get install libgtest-dev")
def test_what_googletest_skips_is_counted_with_it(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "unit.cpp").write_text(UNIT)
    unit = tmp_path / "unit"
    subprocess.run(["c++", "-o", unit, tmp_path / "unit.cpp", "-lgtest_main", "-lgtest", "-pthread"], check=True)
    skipped = r'PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]"'
    names = ("Drive.IsClaimed", "Module.IsNotHere", "Module.Other", "Module.*")
    entries = "".join(f'add_test("{name}" "{unit}" "--gtest_filter={name}")\nset_tests_properties("{name}" {skipped})\n'
                      for name in names)
    command = f'"{sys.executable}" "-m" "pytest" "-q" "-p" "no:cacheprovider" "{tmp_path}/test_suite.py" "-k" "other"'
    output = ctest(tmp_path, f'{entries}add_test("python" {command})\n')
    assert output.count("***Skipped") == 4, output
    assert said(tmp_path / "Testing/Temporary/LastTest.log") == (
        "6 tests were skipped: needs root (2); this machine has the module (2); no reason is given (2)\n")


def test_where_none_was_skipped_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1/1 Test: lab.pytest\n482 passed in 43.33s\nTest Passed.\n")
    assert said(tmp_path / "log") == ""
    assert said(tmp_path / "no-such-log") == ""


def test_check_says_it() -> None:
    """The log is that of ctest, and pytest is told to name what it skips."""
    text = (SCRIPTS / "check").read_text()
    assert text.index("PYTEST_ADDOPTS=-rs") < text.index("ctest --test-dir build/host \"${select[@]}\" -j")
    assert text.index("skips build/host/Testing/Temporary/LastTest.log") < text.index("a test failed; the output")
