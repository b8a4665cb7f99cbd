# SPDX-License-Identifier: GPL-2.0-only
"""Exporters of GPUs through fio, on stand-ins for the vendors' libraries and drivers. What they
give is the stand-in for a dma-buf; datapath bounce moves the data, by the exporter's copies."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

Fio = Callable[..., Any]

# exporter, dmabuf_device, the device that is reported
GPUS = [
    ("cuda", "0", "0000:41:00.0"),
    ("hip", "0", "0000:03:00.0"),
    ("amdgpu", "/dev/dri/renderD902", "/dev/dri/renderD902"),
    ("xe", "renderD900", "/dev/dri/renderD900"),
    ("i915", "773", "/dev/dri/renderD901"),
]
each_gpu = pytest.mark.parametrize("exporter,device,name", GPUS, ids=[gpu[0] for gpu in GPUS])


@pytest.fixture
def gpu(fio: Fio, tmp_path: Path) -> Callable[..., tuple[Any, list[str]]]:
    """Runs fio on a stand-in of a GPU; gives its result and what the stand-in noted."""

    def run(exporter: str, device: str, *flags: str, env: dict[str, str] | None = None, **options: Any) -> Any:
        log = tmp_path / "gpu.log"
        log.unlink(missing_ok=True)
        folder = Path(environment("FAKES"))
        preload = [str(folder / "nodes.so")]
        if env and "FAKE_CUDA_EARLY" in env:
            preload.append(str(folder / "libcuda.so.1"))
        variables = {"LD_LIBRARY_PATH": str(folder), "FAKE_GPU_LOG": str(log), **(env or {})}
        options = {"dmabuf_datapath": "bounce", "dmabuf_device": device, "size": "2m", **options}
        result = fio(
            *flags, stand_in=True, preload=tuple(preload), env=variables, dmabuf_exporter=exporter, **options
        )
        return result, log.read_text().splitlines() if log.exists() else []

    return run


def check_given_back(notes: list[str], times: int) -> None:
    """As many allocations as there are to be, each given back by the process that took it."""
    took = sorted(note.split(" takes ")[0] + note.split(" takes ")[1] for note in notes if " takes " in note)
    gave = sorted(re.sub(r" gives back (\d+) .*", r"\1", note) for note in notes if " gives back " in note)
    assert took == gave
    assert len(took) == times


@each_gpu
@pytest.mark.parametrize("thread", [0, 1])
def test_verify_with_jobs_as_processes_and_as_threads(
    gpu: Fio, tmp_path: Path, exporter: str, device: str, name: str, thread: int
) -> None:
    result, notes = gpu(
        exporter, device, rw="randrw", verify="crc32c", bs="16k", iodepth=8, numjobs=3, thread=thread,
        filename=None, directory=str(tmp_path),
    )
    assert result.status == 0, result.stderr
    assert len(result.reports) == 3
    for report in result.reports:
        assert (report["exporter"], report["device"], report["proven"]) == (exporter, name, True)
        assert report["issued"]["writes"] > 0
        assert report["issued"]["read_bytes"] == 2 << 20
    check_given_back(notes, 3)


@each_gpu
def test_the_exporter_made_the_copies(gpu: Fio, exporter: str, device: str, name: str) -> None:
    result, notes = gpu(exporter, device, rw="write", verify="crc32c", do_verify=1)
    assert result.status == 0, result.stderr
    copies = result.reports[0]["copies"]
    assert min(copies.values()) >= 2 << 20
    # The others are copied by the CPU, which their stand-ins do not see.
    if exporter in ("cuda", "hip"):
        to, back = re.findall(r"to=(\d+) from=(\d+)", notes[-1])[0]
        assert int(to) >= copies["to_buffer_bytes"]
        assert int(back) >= copies["from_buffer_bytes"]


@pytest.mark.parametrize("exporter", ["cuda", "hip"])
def test_verify_notices_copies_that_are_lost(gpu: Fio, exporter: str) -> None:
    result, notes = gpu(exporter, "0", env={"FAKE_GPU_FAIL": "lose copies"}, rw="write", verify="crc32c", do_verify=1)
    assert result.status != 0
    assert "verify" in result.stderr
    check_given_back(notes, 1)


@each_gpu
def test_a_dma_buf_for_each_slot(gpu: Fio, exporter: str, device: str, name: str) -> None:
    result, notes = gpu(exporter, device, rw="randrw", verify="crc32c", iodepth=5, dmabuf_buffers="io_u")
    assert result.status == 0, result.stderr
    assert result.reports[0]["buffers"] == 5
    check_given_back(notes, 5)


@each_gpu
def test_too_little_memory_says_how_much_there_is(gpu: Fio, exporter: str, device: str, name: str) -> None:
    result, notes = gpu(exporter, device, env={"FAKE_GPU_FAIL": "memory"}, iodepth=64, bs="64k")
    assert result.status != 0
    assert name in result.stderr
    assert re.search(r"\d+ MiB of \d+ MiB (are )?free; lower iodepth or bs", result.stderr), result.stderr
    assert not notes


@pytest.mark.parametrize("exporter,call", [
    ("cuda", "cuMemGetHandleForAddressRange"), ("cuda", "cuPointerSetAttribute"),
    ("hip", "hsa_amd_portable_export_dmabuf"), ("xe", "export"), ("i915", "export"),
])
def test_what_is_taken_before_a_failure_is_given_back(gpu: Fio, exporter: str, call: str) -> None:
    device = next(gpu[1] for gpu in GPUS if gpu[0] == exporter)
    result, notes = gpu(exporter, device, env={"FAKE_GPU_FAIL": call})
    assert result.status != 0
    assert "use" in result.stderr or "update" in result.stderr
    check_given_back(notes, 1)


def test_gpus_are_dealt_out_by_number_and_pci_address(gpu: Fio) -> None:
    result, _ = gpu("cuda", "0:0000\\:42\\:00.0", numjobs=2)
    assert result.status == 0, result.stderr
    assert sorted(report["device"] for report in result.reports) == ["0000:41:00.0", "0000:42:00.0"]
    result, _ = gpu("hip", "2")
    assert result.status != 0
    assert "there is no HIP device 2, the last one is 1" in result.stderr


def test_cuda_that_was_started_before_the_job_wants_threads(gpu: Fio) -> None:
    early = {"FAKE_CUDA_EARLY": "1"}
    result, notes = gpu("cuda", "0", env=early, thread=0)
    assert result.status != 0
    assert "CUDA was in use before fio forked this job" in result.stderr
    assert "thread=1" in result.stderr
    assert not notes
    result, notes = gpu("cuda", "0", env=early, thread=1)
    assert result.status == 0, result.stderr
    check_given_back(notes, 1)


def test_a_driver_without_dma_bufs_names_the_open_kernel_modules(gpu: Fio) -> None:
    result, _ = gpu("cuda", "0", env={"FAKE_GPU_FAIL": "dma-buf"})
    assert result.status != 0
    assert "open kernel modules" in result.stderr


@pytest.mark.parametrize("exporter", ["xe", "i915", "amdgpu"])
def test_a_node_of_another_driver_is_named(gpu: Fio, exporter: str) -> None:
    other, driver = ("renderD901", "i915") if exporter == "xe" else ("renderD900", "xe")
    result, _ = gpu(exporter, other)
    assert result.status != 0
    assert f"driver {driver}, not of a GPU with driver {exporter}" in result.stderr
    result, _ = gpu(exporter, other, env={"FAKE_GPU_FAIL": "open"})
    assert result.status != 0
    assert "may not be opened (EACCES)" in result.stderr


@pytest.mark.parametrize("exporter,lose", [("hip", False), ("hip", True), ("xe", False)])
def test_the_check_for_machines_with_a_gpu(tmp_path: Path, exporter: str, lose: bool) -> None:
    """tests/hardware/gpu.py, which users run on theirs, passes on a stand-in, and not on one that loses copies."""
    folder = Path(environment("FAKES"))
    preload = f"{folder / 'nodes.so'}:{environment('STAND_IN')}"
    variables = os.environ | {"LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": preload}
    if lose:
        variables["FAKE_GPU_FAIL"] = "lose copies"
    device = next(gpu[1] for gpu in GPUS if gpu[0] == exporter)
    done = subprocess.run(
        ["/usr/bin/python3", "-B", str(Path(__file__).parents[1] / "hardware" / "gpu.py"), "--exporter", exporter,
         "--device", device, "--engine", environment("LIBDMABUF"), "--fio", environment("FIO"), "--folder",
         str(tmp_path)],
        env=variables, text=True, capture_output=True, timeout=300, check=False,
    )
    assert done.returncode == (1 if lose else 0), done.stdout + done.stderr
    assert ("does not hold" in done.stdout) == lose
    right, wrong = map(int, re.findall(r"gpu: (\d+) checks hold, (\d+) do not", done.stdout)[0])
    assert right > 5 and (wrong > 0) == lose
    assert not list(tmp_path.iterdir())
