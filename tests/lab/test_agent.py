# SPDX-License-Identifier: GPL-2.0-only
"""The parts of the guest's agent that do not need a guest."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

GUEST = Path(__file__).resolve().parents[2] / "scripts/dmabuf_lab/guest"


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agent", GUEST / "agent.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dma_bufs_are_counted_by_the_kernels_own_total(agent: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "bufinfo"
    path.write_text(
        "\nDma-buf Objects:\nsize  flags mode count exp_name ino name\n"
        "00065536 00000002 00080007 00000002 udmabuf 00000012 <none>\n"
        "\tAttached Devices:\nTotal 0 devices attached\n\n\nTotal 1 objects, 65536 bytes\n"
    )
    assert agent.count_buffers(str(path)) == 1
    path.write_text("x\n\nTotal 0 objects, 0 bytes\n")
    assert agent.count_buffers(str(path)) == 0


def test_a_list_without_a_total_is_an_error_and_not_zero(agent: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "bufinfo"
    path.write_text("")
    with pytest.raises(OSError, match="no total"):
        agent.count_buffers(str(path))


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 9"], 9),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/nonexistent/program"], 127),
    ],
)
def test_status_of_a_child(agent: ModuleType, argv: list[str], status: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    pid = agent.spawn(argv, dict(os.environ), "/", [null, null, null])
    assert agent.wait_for(pid, None) == status
    os.close(null)


def test_a_child_that_does_not_end_in_time_has_no_status(agent: ModuleType) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    pid = agent.spawn(["sleep", "60"], dict(os.environ), "/", [null, null, null])
    assert agent.wait_for(pid, 0.05) is None
    os.kill(pid, 9)
    assert agent.wait_for(pid, 5) == 137
    os.close(null)
