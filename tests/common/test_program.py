# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong ends a program with a sentence and a status, never with a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from dmabuf_common import program

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class OurError(Exception):
    """One whose text is for the user."""


@pytest.mark.parametrize(
    ("raised", "says", "status"),
    [
        (OurError("no drive; plug one in"), ["no drive; plug one in"], 7),
        (FileNotFoundError(2, "No such file or directory", "x"), ["No such file or directory: x"], 7),
        (OSError("odd"), ["odd"], 7),
        (KeyboardInterrupt(), [], 130),
    ],
)
def test_an_error_ends_with_its_status(raised: BaseException, says: list[str], status: int) -> None:
    said: list[str] = []

    def action() -> int:
        raise raised

    assert program.run(action, said.append, (OurError,), wrong=7) == status
    assert said == says


def test_a_fault_of_the_program_itself_is_not_hidden() -> None:
    def action() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program.run(action, pytest.fail, (OurError,))


def test_the_status_of_what_went_well_is_its_own() -> None:
    assert program.run(lambda: 77, pytest.fail, (OurError,)) == 77


def test_nobody_who_reads_is_an_error_without_a_traceback() -> None:
    code = "from dmabuf_common import program; import sys\n" \
           "def act():\n    while True: print('x', flush=True)\n" \
           "sys.exit(program.run(act, print, ()))"
    child = subprocess.Popen([sys.executable, "-B", "-c", code], cwd=SCRIPTS, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(60) == 2
    assert child.stderr.read() == ""
