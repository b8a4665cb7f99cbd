# SPDX-License-Identifier: GPL-2.0-only
"""The demo accepts a report only when it proves what was asked for."""

import copy
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GUEST = Path(__file__).resolve().parents[2] / "scripts/dmabuf_lab/guest"

JOB = {"read": {"total_ios": 100}, "write": {"total_ios": 0}}
MODULE = {"reads": 100, "writes": 0, "commands": 100, "registrations": 1}
REPORT: dict[str, Any] = {
    "datapath": "premapped",
    "proven": True,
    "proof": "a sentence",
    "issued": {"reads": 100, "writes": 0},
    "module": MODULE,
    "copies": {"to_buffer_bytes": 0, "from_buffer_bytes": 0},
}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_guest", GUEST / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_guest"] = module
    spec.loader.exec_module(module)
    return module


def report(datapath: str, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REPORT), "datapath": datapath, **changes}


def test_a_complete_report_is_a_proof(demo: ModuleType) -> None:
    lane = demo.Lane("drm", "premapped")
    assert "100 NVMe commands" in demo.check_report(lane, JOB, report("premapped"))
    lane = demo.Lane("drm", "registered")
    assert "100 fixed-buffer" in demo.check_report(lane, JOB, report("registered"))


@pytest.mark.parametrize(
    ("lane", "changes"),
    [
        ("premapped", {"datapath": "host"}),
        ("premapped", {"proven": False}),
        ("premapped", {"proven": "yes"}),
        ("premapped", {"issued": {"reads": 99, "writes": 0}}),
        ("premapped", {"issued": {"reads": 100, "writes": 1}}),
        ("premapped", {"module": {**MODULE, "reads": 99}}),
        ("registered", {"module": {**MODULE, "registrations": 0}}),
        ("bounce", {}),
    ],
)
def test_anything_that_does_not_agree_is_refused(
    demo: ModuleType, lane: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(demo.Failed):
        demo.check_report(demo.Lane("udmabuf", lane), JOB, {**report(lane), **changes})


def test_no_report_is_refused(demo: ModuleType) -> None:
    with pytest.raises(demo.Failed, match="no report"):
        demo.check_report(demo.Lane("udmabuf", "premapped"), JOB, {})


def test_blocks_differ_by_their_offset_and_are_full_size(demo: ModuleType) -> None:
    first, second = demo.block(0), demo.block(demo.VERIFY_BLOCK)
    assert len(first) == len(second) == demo.VERIFY_BLOCK
    assert first != second


def test_the_table_is_aligned(demo: ModuleType) -> None:
    rows = [["exporter", "datapath", "IOPS", "MiB/s", "proof"], ["drm", "x", "12345", "1.0", "y"]]
    lines = demo.table(rows).splitlines()
    assert lines[0].index("proof") == lines[1].index("y")


SCRIPTS = GUEST.parents[1]


def start(folder: Path, info: str, setup: int = 0, run: int = 0, ended: int = 0) -> tuple[int, list[str], str]:
    """scripts/demo with a lab that only notes what it is asked for: its status, what it said and printed, and the notes.
    ended: the status of `info`."""
    (folder / "scripts").mkdir()
    for name in ("demo", "needed.sh"):
        shutil.copy(SCRIPTS / name, folder / "scripts")
    lab = f'''#!/bin/sh
echo "$1" >>{folder}/asked
case $1 in
info) echo '{info}'; exit {ended} ;;
setup) echo "lab: setting up" >&2; exit {setup} ;;
run) echo "lab: running" >&2; exit {run} ;;
esac
'''
    (folder / "bin").mkdir()
    for path, text in (("scripts/dmabuf-lab", lab), ("bin/id", "#!/bin/sh\necho 0\n"),
                       ("bin/dpkg-query", "#!/bin/sh\nprintf 'ii '\n")):
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    done = subprocess.run([folder / "scripts/demo"], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.splitlines(), (folder / "asked").read_text()


def test_without_a_lab_the_demo_says_what_it_will_do_and_how_long_before_it_begins(tmp_path: Path) -> None:
    status, said, asked = start(tmp_path, "         not made yet; run `dmabuf-lab setup`")
    assert status == 0 and asked.split() == ["info", "setup", "run"]
    assert said[0].startswith("demo: three steps: the lab is set up, once (about 3 GiB; some minutes")
    assert "engine and module are built (a minute or two)" in said[0] and "Ctrl-C" in said[0]
    assert said[1:3] == ["lab: setting up", "lab: running"]
    assert said[3].startswith("Every path is proven.")


def test_with_a_lab_the_demo_promises_no_set_up(tmp_path: Path) -> None:
    status, said, _ = start(tmp_path, "made:    2026-11-27 in 240 s")
    assert status == 0
    assert said[0].startswith("demo: the lab is set up;") and "three steps" not in said[0]


def test_a_lab_that_can_be_kept_nowhere_ends_the_demo_with_one_sentence(tmp_path: Path) -> None:
    """Which is the lab's: nothing is promised, and nothing is tried."""
    status, said, asked = start(tmp_path, "dmabuf-lab: the cache folder must be an absolute path, not here", ended=2)
    assert (status, said, asked.split()) == (2, [], ["info"])


def test_a_demo_that_fails_says_so_and_has_that_status(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    status, said, asked = start(tmp_path / "a", "not made yet", setup=2)
    assert status == 2 and asked.split() == ["info", "setup"] and said[-1] == "lab: setting up"
    (tmp_path / "b").mkdir()
    status, said, _ = start(tmp_path / "b", "made", run=7)
    assert status == 7 and said[-1].startswith("demo: failed with status 7")
    assert not [line for line in said if "proven" in line]
