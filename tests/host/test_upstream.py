# SPDX-License-Identifier: GPL-2.0-only
"""datapath upstream: what this kernel says, and what the engine asks of one that has it (a stand-in)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fio = Callable[..., Any]


def upstream(fio: Fio, log: Path, **options: Any) -> Any:
    """A job on the stand-in, whose slots are empty: its I/O fails (EFAULT), which fio is told to ignore."""
    env = {"STAND_IN_UPSTREAM": str(log)} | options.pop("env", {})
    defaults: dict[str, Any] = {"size": "64k", "direct": 1, "dmabuf_datapath": "upstream", "continue_on_error": "all",
                                "ignore_error": "14,14"}
    return fio(stand_in=True, env=env, **{**defaults, **options})


def test_a_stock_kernel_does_not_have_it(fio: Fio) -> None:
    result = fio(direct=1, dmabuf_datapath="upstream", stand_in=True)
    assert result.status != 0
    ours = [line for line in result.stderr.splitlines() if line.startswith("libdmabuf: job t: ")]
    assert len(ours) == 1 and "this kernel does not have" in ours[0] and "premapped or registered" in ours[0]
    assert not result.reports


def test_it_needs_no_module_and_registers_for_each_target(fio: Fio, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    result = upstream(fio, log, filename=f"{tmp_path}/a:{tmp_path}/b", env={"STAND_IN_FAIL": "open-module:2"})
    assert result.status == 0, result.stderr
    calls = log.read_text().splitlines()
    assert calls[0] == "slot=0 type=0 target=0 code=0", "the probe"
    filled = [line for line in calls if "type=2" in line]
    emptied = [line for line in calls[1:] if "type=0" in line]
    assert sorted(filled) == ["slot=0 type=2 target=1 code=0", "slot=1 type=2 target=1 code=0"]
    assert len(emptied) == len(filled)
    report = result.reports[0]
    assert (report["datapath"], report["upstream_registrations"], report["errors"]) == ("upstream", 2, 16)
    assert report["issued"]["reads"] == 0


@pytest.mark.parametrize("thread", [0, 1])
def test_slots_and_churn(fio: Fio, tmp_path: Path, thread: int) -> None:
    log = tmp_path / "calls"
    result = upstream(fio, log, iodepth=4, dmabuf_buffers="io_u", dmabuf_remap_every=5, thread=thread)
    assert result.status == 0, result.stderr
    report = result.reports[0]
    assert report["remaps"] == 3
    assert report["upstream_registrations"] == 4 * 4
    assert {line.split()[0] for line in log.read_text().splitlines()} == {f"slot={i}" for i in range(4)}


def test_a_refused_registration_is_named(fio: Fio, tmp_path: Path) -> None:
    result = upstream(fio, tmp_path / "calls", env={"STAND_IN_FAIL": "upstream:95:2"})
    assert result.status != 0
    assert "did not register the dma-buf for" in result.stderr and "EOPNOTSUPP" in result.stderr
    assert not result.reports


@pytest.mark.parametrize("options,word", [({"direct": 0}, "direct=1"), ({"dmabuf_timeout_ms": 5}, "dmabuf_timeout_ms")])
def test_what_it_cannot_have(fio: Fio, tmp_path: Path, options: dict[str, Any], word: str) -> None:
    result = upstream(fio, tmp_path / "calls", **options)
    assert result.status != 0
    assert word in result.stderr and "upstream" in result.stderr
