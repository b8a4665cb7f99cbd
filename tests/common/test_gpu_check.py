# SPDX-License-Identifier: GPL-2.0-only
"""What gpu-check makes of the driver's answers. On stand-ins for GPUs it runs in tests/host."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common.sysfs import System
from dmabuf_gpu import cli, cuda, machine
from dmabuf_gpu.tally import Tally

GOOD = {"dmabuf": {"size": cuda.SIZE, "exp_name": "nv_dmabuf", "mmap": False, "sync": True},
        "copy": {"bytes": cuda.SIZE, "wrong": 0}}  # fmt: skip
PROMISED = {"DMA_BUF_SUPPORTED": 1, "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 1,
            "GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED": 1}  # fmt: skip


def way(kind: str = "alloc", mapping: str = "default", answer: str = "CUDA_SUCCESS", **more: Any) -> dict[str, Any]:
    exported = answer == "CUDA_SUCCESS"
    return {"kind": kind, "mapping": mapping, "answer": answer, "exported": exported, **(GOOD if exported else {}), **more}


def judged(*ways: dict[str, Any], calls: list[dict[str, Any]] | None = None, **attributes: int) -> Tally:
    tally = Tally()
    cli.judge_calls(tally, {"gpu": {"attributes": PROMISED | attributes}, "ways": ways, "calls": calls or []})
    return tally


def test_a_driver_that_does_all_holds() -> None:
    tally = judged(*(way(kind, mapping) for kind in cuda.KINDS for mapping in cuda.MAPPINGS))
    assert (tally.right, tally.wrong, tally.skipped) == (9, [], [])


@pytest.mark.parametrize("one,attributes,wrong,skipped", [
    (way(mapping="pcie", answer="CUDA_ERROR_NOT_SUPPORTED"), {}, 0, 1),
    (way(mapping="pcie", answer="CUDA_ERROR_INVALID_VALUE"), {}, 0, 1),
    (way(mapping="pcie", answer="CUDA_ERROR_UNKNOWN"), {}, 1, 0),
    (way(answer="CUDA_ERROR_NOT_SUPPORTED"), {}, 1, 0),
    (way(answer="CUDA_ERROR_NOT_SUPPORTED"), {"DMA_BUF_SUPPORTED": 0}, 0, 1),
    (way("vmm", answer="cuMemCreate: CUDA_ERROR_NOT_SUPPORTED"), {}, 1, 0),
    (way("vmm", answer="cuMemCreate: CUDA_ERROR_NOT_SUPPORTED"), {"GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED": 0}, 0, 1),
    (way(copy={"bytes": cuda.SIZE, "wrong": 1}), {}, 1, 0),
    (way(dmabuf=GOOD["dmabuf"] | {"size": 4096}), {}, 1, 0),
])  # fmt: skip
def test_what_is_promised_and_fails_is_wrong(
    one: dict[str, Any], attributes: dict[str, int], wrong: int, skipped: int
) -> None:
    tally = judged(one, **attributes)
    assert (len(tally.wrong), len(tally.skipped)) == (wrong, skipped)


def test_a_function_that_the_driver_lacks_is_named() -> None:
    """Those that the engine does without are only not looked at."""
    none = "no such function"
    tally = judged(calls=[{"call": "cuMemMap", "name": none}, {"call": "cuInit", "name": "CUDA_SUCCESS"},
                          {"call": "cuDeviceGetUuid", "name": none}, {"call": "cuDeviceGetUuid", "name": none},
                          {"call": "cuMemAlloc_v2", "name": none}])  # fmt: skip
    assert [check["why"] for check in tally.wrong] == ["the driver has no cuMemAlloc_v2"]
    assert [check["why"] for check in tally.skipped] == [f"the driver has no {call}" for call in ("cuDeviceGetUuid", "cuMemMap")]


@pytest.mark.parametrize("program,says", [
    ("raise SystemExit('died')", "ended with status 1: died"),
    ("import time; time.sleep(60)", "did not end within"),
    ("import os; os.kill(os.getpid(), 11)", "ended with status -11"),
])  # fmt: skip
def test_a_driver_that_dies_or_hangs_is_a_check_that_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    real = subprocess.run
    monkeypatch.setattr(cli, "CALLS_LIMIT_S", 2)
    monkeypatch.setattr(cli.subprocess, "run", lambda _, **words: real([sys.executable, "-c", program], **words))
    said, tally = cli.ask_cuda("0"), Tally()
    cli.judge_calls(tally, said)
    assert says in tally.wrong[0]["why"] and said["calls"] == []


def test_each_word_of_the_pattern_names_its_page_and_generation() -> None:
    one, other = cuda.pattern(1), cuda.pattern(2)
    assert len(one) == cuda.SIZE
    assert one[cuda.PAGE : cuda.PAGE + 8] == (cuda.PAGE ^ 1).to_bytes(8, "little")
    assert all(one[at : at + 8] != other[at : at + 8] for at in range(0, cuda.SIZE, cuda.PAGE))


def test_the_kernels_switches_are_read_from_either_file(tmp_path: Path) -> None:
    assert machine.kernel_config(System(tmp_path), "1.2") == {}
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_PCI_P2PDMA=y\n# CONFIG_X is not set\n"))
    assert machine.kernel_config(System(tmp_path), "1.2")["CONFIG_PCI_P2PDMA"] == "y"
    assert machine.kernel_config(System(tmp_path), "1.2")["CONFIG_BLK_DEV_NVME"] == "n"
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config-1.2").write_text("CONFIG_BLK_DEV_NVME=m\n")
    assert machine.kernel_config(System(tmp_path), "1.2")["CONFIG_BLK_DEV_NVME"] == "m"


def test_the_module_is_not_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = cli.main(["--engine", str(tmp_path / "none.so"), "--fio", "/nowhere/fio", "--folder", str(tmp_path)])
    said = json.loads(capsys.readouterr().out)
    assert (status, said["verdict"]) == (2, "error") and "--only calls" in said["why"]
