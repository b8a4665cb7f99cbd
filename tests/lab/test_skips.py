# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/check says of skipped tests, by what pytest and ctest really write."""

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


def said(log: Path) -> str:
    script = f". {SCRIPTS}/skips.sh; skips {log}"
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("ctest"), reason="needs ctest: apt-get install cmake")
def test_each_reason_of_each_pytest_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = f'"{sys.executable}" "-m" "pytest" "-q" "-p" "no:cacheprovider" "{tmp_path}/test_suite.py"'
    (tmp_path / "CTestTestfile.cmake").write_text(f'add_test("one" {command})\nadd_test("two" {command} "-k" "other")\n')
    environment = {"PATH": "/usr/bin:/bin", "PYTEST_ADDOPTS": "-rs", "HOME": str(tmp_path)}
    done = subprocess.run(["ctest", "--test-dir", str(tmp_path), "--output-on-failure"], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0 and "100% tests passed" in done.stdout and "needs root" not in done.stdout, done.stdout
    assert said(tmp_path / "Testing/Temporary/LastTest.log") == (
        "4 tests were skipped by pytest: nothing is here: apt-get install it (2); needs root (2)\n")


def test_where_none_was_skipped_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1/1 Test: lab.pytest\n482 passed in 43.33s\nTest Passed.\n")
    assert said(tmp_path / "log") == ""
    assert said(tmp_path / "no-such-log") == ""


def test_check_says_it() -> None:
    """The log is that of ctest, and pytest is told to name what it skips."""
    text = (SCRIPTS / "check").read_text()
    assert text.index("PYTEST_ADDOPTS=-rs") < text.index("ctest --test-dir build/host \"${select[@]}\" -j")
    assert text.index("skips build/host/Testing/Temporary/LastTest.log") < text.index("a test failed; the output")
