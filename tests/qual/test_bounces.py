# SPDX-License-Identifier: GPL-2.0-only
"""What swiotlb copied is told by the kernel's tracepoint."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dmabuf_qual import bounces
from dmabuf_qual.bounces import TRIGGER, Bounces

HIST = """# event histogram
#
# trigger info: hist:keys=dev_name:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ dev_name: udmabuf                                            } hitcount:         20
{ dev_name: 0000:00:04.0                                       } hitcount:       1600

Totals:
    Hits: 1620
"""


INSTANCES = "instances"


@pytest.fixture
def tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracing file system: a new instance has the events of the first one."""
    (tmp_path / bounces.EVENT).mkdir(parents=True)
    (tmp_path / INSTANCES).mkdir()
    real = Path.mkdir

    def mkdir(self: Path, *words: Any, **more: Any) -> None:
        real(self, *words, **more)
        if self.parent == tmp_path / INSTANCES:
            real(self / bounces.EVENT, parents=True)
            (self / bounces.EVENT / "hist").write_text(HIST)
            (self / bounces.EVENT / "trigger").write_text("")

    def rmdir(self: Path) -> None:
        shutil.rmtree(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    return tmp_path


def instances(tracing: Path) -> list[str]:
    return sorted(path.name for path in (tracing / INSTANCES).iterdir())


def test_only_the_drive_counts_in_an_instance_of_its_own(tracing: Path) -> None:
    with Bounces("0000:00:04.0", tracing) as one:
        mine = tracing / INSTANCES / instances(tracing)[0] / bounces.EVENT
        assert (mine / "trigger").read_text() == TRIGGER
        assert one.count() == 1600
    assert instances(tracing) == [] and one.count() is None
    with Bounces("0000:01:00.0", tracing) as one:
        assert one.count() == 0


def test_two_runs_do_not_end_each_others_count(tracing: Path) -> None:
    with Bounces("0000:00:04.0", tracing) as first:
        with Bounces("0000:01:00.0", tracing) as second:
            assert len(instances(tracing)) == 2
            assert (first.count(), second.count()) == (1600, 0)
        assert first.count() == 1600
    assert instances(tracing) == []


def test_what_a_killed_run_left_is_taken_away(tracing: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        child.wait()
    gone = child.pid
    for name in (f"dmabuf-qual-{gone}-0", f"dmabuf-qual-{os.getpid()}-7", "somebody-elses"):
        (tracing / INSTANCES / name).mkdir()
    with Bounces("0000:00:04.0", tracing):
        assert f"dmabuf-qual-{gone}-0" not in instances(tracing)
    assert instances(tracing) == [f"dmabuf-qual-{os.getpid()}-7", "somebody-elses"]


def test_a_kernel_without_the_tracepoint_is_none_that_did_not_copy(tmp_path: Path, tracing: Path) -> None:
    shutil.rmtree(tracing / bounces.EVENT)
    for folder in (tracing, tmp_path / "none"):
        with Bounces("0000:00:04.0", folder) as one:
            assert one.count() is None and not one.counting
    assert instances(tracing) == []
