# SPDX-License-Identifier: GPL-2.0-only
"""What gpu-check makes of the driver's answers. On stand-ins for GPUs it runs in tests/host."""

import ctypes
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common.sysfs import System
from dmabuf_gpu import cli, cuda, jobs, machine
from dmabuf_gpu.tally import Tally

GOOD = {"dmabuf": {"size": cuda.SIZE, "exp_name": "nv_dmabuf", "mmap": False, "sync": True},
        "copy": {"bytes": cuda.SIZE, "wrong": 0}}
PROMISED = {"DMA_BUF_SUPPORTED": 1, "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 1,
            "GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED": 1}


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
])
def test_what_is_promised_and_fails_is_wrong(
    one: dict[str, Any], attributes: dict[str, int], wrong: int, skipped: int
) -> None:
    tally = judged(one, **attributes)
    assert (len(tally.wrong), len(tally.skipped)) == (wrong, skipped)


def test_the_kernels_refusal_of_a_mapping_has_its_name() -> None:
    """NVIDIA's driver answers an mmap() of its dma-buf with a number that only the kernel knows."""
    def refused() -> dict[str, Any]:
        raise OSError(524, "Unknown error 524")

    driver = cuda.Driver(ctypes.CDLL(None))
    assert driver.system("mmap", refused) is False
    assert [(call["call"], call["answer"], call["name"]) for call in driver.calls] == [("mmap", 524, "ENOTSUPP")]


def test_a_function_that_the_driver_lacks_is_named() -> None:
    """Those that the engine does without are only not looked at."""
    none = "no such function"
    tally = judged(calls=[{"call": "cuMemMap", "name": none}, {"call": "cuInit", "name": "CUDA_SUCCESS"},
                          {"call": "cuDeviceGetUuid", "name": none}, {"call": "cuDeviceGetUuid", "name": none},
                          {"call": "cuMemAlloc_v2", "name": none}])
    assert [check["why"] for check in tally.wrong] == ["the driver has no cuMemAlloc_v2"]
    assert [check["why"] for check in tally.skipped] == [f"the driver has no {call}" for call in ("cuDeviceGetUuid", "cuMemMap")]


@pytest.mark.parametrize("program,says", [
    ("raise SystemExit('died')", "ended with status 1: died"),
    ("import time; time.sleep(60)", "did not end within"),
    ("import os; os.kill(os.getpid(), 11)", "ended with status -11"),
])
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


def asked(monkeypatch: pytest.MonkeyPatch, action: Any, *words: str) -> int:
    """gpu-check, whose work is `action`."""
    monkeypatch.setattr(cli, "check", action)
    return cli.main(list(words))


def passes(*_: Any) -> str:
    return "pass"


def test_an_answer_that_cannot_be_written_is_known_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback's exit status is 1, which says that a check does not hold."""
    ran = []
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for output in (tmp_path / "none/gpu.json", tmp_path, link):
        assert asked(monkeypatch, lambda *_: ran.append(1) or "pass", "--output", str(output)) == 2
        assert str(output) in capsys.readouterr().err
    assert not ran and not (tmp_path / "elsewhere").exists(), "root follows nobody's link"
    assert asked(monkeypatch, passes, "--output", str(tmp_path / "gpu.json")) == 0
    assert json.loads((tmp_path / "gpu.json").read_text())["verdict"] == "pass"


def test_a_check_that_is_ended_midway_leaves_no_earlier_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    output.write_text('{"verdict": "pass"}')

    def interrupted(*_: Any) -> str:
        raise KeyboardInterrupt

    assert asked(monkeypatch, interrupted, "--output", str(output)) == 130
    assert json.loads(output.read_text())["verdict"] == "error"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/var/tmp/x"),
                                   subprocess.TimeoutExpired("fio", 300)], ids=["disk", "fio"])
def test_what_keeps_it_from_going_on_is_no_check_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def breaks(*_: Any) -> str:
        raise error

    assert asked(monkeypatch, breaks) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "error" and str(error) in said["why"]


FAKE_SMI = """\
#!/bin/sh
case "$*" in
*--id={gpu}*) ;;
*) echo 5; echo 5; exit ;;
esac
read pid <{folder}/pid && kill -0 $pid 2>/dev/null && echo 2000 || echo {idle}
"""
FAKE_FIO = """\
#!/bin/sh
echo $$ >{folder}/pid
case "$*" in
*--runtime=60*) exec sleep 60 ;;
*) exec sleep 1 ;;
esac
"""


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, idle: str) -> jobs.Bench:
    """nvidia-smi of a machine whose second GPU has a job; nobody uses the first."""
    for name, text in (("nvidia-smi", FAKE_SMI), ("fio", FAKE_FIO)):
        (folder / name).write_text(text.format(folder=folder, gpu=SECOND, idle=idle))
        (folder / name).chmod(0o755)
    (folder / "pid").write_text("999999999\n")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return jobs.Bench(str(folder / "fio"), Path("engine.so"), "cuda", "1", folder)


SECOND = "0000:42:00.0"


def test_it_is_the_chosen_gpus_memory_that_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tally = Tally()
    jobs.memory(tally, smi(tmp_path, monkeypatch, "100"), SECOND)
    assert tally.wrong == [] and tally.right == 4


@pytest.mark.parametrize("says", ["[N/A]", "", "[Insufficient Permissions]"])
def test_a_driver_that_tells_no_memory_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    tally = Tally()
    jobs.memory(tally, smi(tmp_path, monkeypatch, f"'{says}'"), SECOND)
    assert (tally.right, tally.wrong, len(tally.skipped)) == (0, [], 1)


def test_a_report_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    fio = tmp_path / "fio"
    fio.write_text("#!/bin/sh\nfor word; do case $word in --dmabuf_report=*) "
                   """printf '{"a": 1}\\n{"a"' >"${word#*=}" ;; esac; done\n""")
    fio.chmod(0o755)
    run = jobs.Bench(str(fio), Path("engine.so"), "cuda", "0", tmp_path).run("x")
    assert run.reports == [{"a": 1}]
