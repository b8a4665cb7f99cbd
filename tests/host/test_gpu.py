# SPDX-License-Identifier: GPL-2.0-only
"""Exporters of GPUs through fio, on stand-ins for the vendors' libraries and drivers. What they
give is the stand-in for a dma-buf; datapath bounce moves the data, by the exporter's copies."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import environment

TOP = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((TOP / "docs/schema/gpu-check.schema.json").read_text())

Fio = Callable[..., Any]

# exporter, dmabuf_device, the device that is reported
GPUS = [
    ("cuda", "0", "0000:41:00.0"),
    ("hip", "0", "0000:03:00.0"),
    ("amdgpu", "/dev/dri/renderD902", "/dev/dri/renderD902"),
    ("xe", "renderD900", "/dev/dri/renderD900"),
    ("i915", "773", "/dev/dri/renderD901"),
]
GpuCheck = Callable[..., tuple[int, dict[str, Any], str]]
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


@pytest.fixture
def gpu_check(tmp_path: Path) -> GpuCheck:
    """Runs scripts/gpu-check on the stand-ins; gives its status, its JSON, and what it said besides."""

    def run(*words: str, fails: str = "", fio: bool = True, fakes: bool = True) -> tuple[int, dict[str, Any], str]:
        folder = Path(environment("FAKES"))
        variables = os.environ | {"FAKE_GPU_FAIL": fails}
        if fakes:
            variables |= {"LD_LIBRARY_PATH": str(folder),
                          "LD_PRELOAD": f"{folder / 'nodes.so'}:{environment('STAND_IN')}"}
        command = ["/usr/bin/python3", "-B", str(TOP / "scripts/gpu-check"), "--folder", str(tmp_path)]
        if fio:
            command += ["--fio", environment("FIO"), "--engine", environment("LIBDMABUF")]
        done = subprocess.run([*command, *words], env=variables, text=True, capture_output=True, timeout=300, check=False)
        said = json.loads(done.stdout)
        jsonschema.validate(said, SCHEMA)
        return done.returncode, said, done.stderr

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


CUDA_PLUGIN = f"{environment('PLUGINS')}/cuda_plugin.so"


@pytest.mark.parametrize("thread", [0, 1])
@pytest.mark.parametrize("buffers", ["job", "io_u"])
def test_the_example_of_a_plug_in_for_cuda(gpu: Fio, tmp_path: Path, thread: int, buffers: str) -> None:
    result, notes = gpu("plugin", f"{CUDA_PLUGIN},0", rw="randrw", verify="crc32c", iodepth=4, numjobs=3, thread=thread,
                        dmabuf_buffers=buffers, filename=None, directory=str(tmp_path))
    assert result.status == 0, result.stderr
    assert [(r["exporter"], r["device"], r["proven"]) for r in result.reports] == [("plugin", "0000:41:00.0", True)] * 3
    check_given_back(notes, 12 if buffers == "io_u" else 3)


@pytest.mark.parametrize(
    "argument,fails,says",
    [("nine", "", "'nine' is no number of a GPU"), ("9", "", "no such GPU: the CUDA driver's error 101"),
     ("0", "cuMemGetHandleForAddressRange", "is not exported as a dma-buf"), ("0", "memory", "cuMemAlloc: the CUDA driver's error 2")],
)
def test_the_example_says_what_cuda_refuses(gpu: Fio, argument: str, fails: str, says: str) -> None:
    result, notes = gpu("plugin", f"{CUDA_PLUGIN},{argument}", env={"FAKE_GPU_FAIL": fails})
    assert result.status != 0
    assert says in result.stderr
    check_given_back(notes, 1 if fails.startswith("cuMemGet") else 0)


def test_verify_notices_copies_that_the_example_loses(gpu: Fio) -> None:
    result, notes = gpu("plugin", f"{CUDA_PLUGIN},0", env={"FAKE_GPU_FAIL": "lose copies"},
                        rw="write", verify="crc32c", do_verify=1)
    assert result.status != 0
    assert "verify" in result.stderr
    check_given_back(notes, 1)


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


@pytest.mark.parametrize("device,fails,exported", [
    ("0", "", "alloc+pcie"), ("1+default", "", "alloc+default"), ("0000:42:00.0+vmm", "", "vmm+pcie"),
    ("GPU-50505050+vmm", "PCIe mapping", "vmm+default"), ("MIG-61", "MIG", "alloc+pcie"),
    ("0", "ordering", "alloc+pcie"),
])
def test_the_report_says_how_cuda_made_the_memory(gpu: Fio, device: str, fails: str, exported: str) -> None:
    result, notes = gpu("cuda", device, env={"FAKE_GPU_FAIL": fails}, rw="randrw", verify="crc32c", iodepth=4)
    assert result.status == 0, result.stderr
    assert result.reports[0]["exported"] == exported
    assert f"exporter cuda ({exported})" in result.stderr
    check_given_back(notes, 1)


@pytest.mark.parametrize("device,fails,says", [
    ("0+pcie", "PCIe mapping", "has no PCIe mapping"), ("0+vmm", "virtual memory", "drop +vmm"),
    ("0+pci", "", "knows the words pcie, default, vmm and alloc"), ("GPU-5", "", "the beginning of 2 GPUs' UUIDs"),
    ("MIG-61", "", "CUDA_VISIBLE_DEVICES=MIG-61"), ("0+vmm", "cuMemSetAccess", "cuMemSetAccess"),
])
def test_what_cuda_cannot_make_is_refused(gpu: Fio, device: str, fails: str, says: str) -> None:
    result, notes = gpu("cuda", device, env={"FAKE_GPU_FAIL": fails})
    assert result.status != 0
    assert says in result.stderr
    check_given_back(notes, 1 if fails == "PCIe mapping" or fails.startswith("cu") else 0)


def test_vmm_jobs_side_by_side_as_processes_and_as_threads(gpu: Fio, tmp_path: Path) -> None:
    for thread in (0, 1):
        result, notes = gpu("cuda", "+vmm", rw="randrw", verify="crc32c", iodepth=4, numjobs=3, thread=thread,
                            filename=None, directory=str(tmp_path), dmabuf_buffers="io_u")
        assert result.status == 0, result.stderr
        assert [report["exported"] for report in result.reports] == ["vmm+pcie"] * 3
        check_given_back(notes, 12)


@pytest.mark.parametrize("exporter,lose", [
    ("cuda", False), ("cuda", True), ("hip", False), ("hip", True), ("xe", False),
])
def test_the_check_for_machines_with_a_gpu(gpu_check: GpuCheck, tmp_path: Path, exporter: str, lose: bool) -> None:
    """scripts/gpu-check passes on a stand-in, and not on one that loses copies."""
    device = next(gpu[1] for gpu in GPUS if gpu[0] == exporter)
    status, said, err = gpu_check("--exporter", exporter, "--device", device, fails="lose copies" if lose else "")
    checks = said["checks"]
    assert (status, said["verdict"]) == ((1, "fail") if lose else (0, "pass")), err
    assert checks["hold"] > 5 and bool(checks["wrong"]) == lose
    assert {run["name"] for run in said["jobs"]} >= {"host", "write", "too much"}
    # What the engine made is compared with what the driver's own calls gave.
    if exporter == "cuda":
        assert [way["exported"] for way in said["ways"]] == [True] * 4
        assert {way["copy"]["wrong"] == 0 for way in said["ways"]} == {not lose}
        made = {run["name"]: run["reports"][0]["exported"] for run in said["jobs"] if "device=0+" in run["name"]}
        assert len(made) == 5 and made["dmabuf_device=0+vmm+default"] == "vmm+default"
    assert not list(tmp_path.glob("libdmabuf-gpu-*"))


@pytest.mark.parametrize("fails,wrong,skipped", [
    ("PCIe mapping", [], ["alloc, pcie mapping", "vmm, pcie mapping"]),
    ("virtual memory", [], []),
    ("cuMemSetAccess", ["vmm, default mapping: is exported, as the GPU's attributes promise"], []),
    ("cuMemGetHandleForAddressRange", ["alloc, default mapping: is exported, as the GPU's attributes promise"], []),
    ("other bytes", ["alloc, default mapping: each byte that was copied"], []),
])
def test_the_drivers_calls_alone(gpu_check: GpuCheck, fails: str, wrong: list[str], skipped: list[str]) -> None:
    """Needs neither fio nor the engine. A call that fails is in the answer by its name."""
    status, said, err = gpu_check("--only", "calls", fails=fails, fio=False)
    assert said["jobs"] == [] and said["gpu"]["pci"] == "0000:41:00.0"
    assert (status, said["verdict"]) == ((1, "fail") if wrong else (0, "pass")), err
    assert set(wrong) <= {check["what"] for check in said["checks"]["wrong"]}
    assert set(skipped) <= {check["what"] for check in said["checks"]["skipped"]}
    if fails.startswith("cu"):
        assert any(fails in call["call"] and call["answer"] for call in said["calls"])


def test_what_is_missing_is_said_in_words(gpu_check: GpuCheck, tmp_path: Path) -> None:
    status, said, _ = gpu_check("--only", "calls", fio=False, fakes=False)
    assert (status, said["verdict"]) == (77, "skip") and "there is no NVIDIA driver" in said["why"]
    status, said, _ = gpu_check("--only", "calls", fails="cuInit", fio=False)
    assert (status, said["verdict"]) == (77, "skip") and "cuInit: CUDA_ERROR_UNKNOWN" in said["why"]
    status, said, _ = gpu_check("--device", "GPU-9", "--only", "calls", fio=False)
    assert status == 77 and "no device GPU-9" in said["why"]
    status, said, _ = gpu_check(fails="dma-buf")
    assert (status, said["verdict"]) == (77, "skip") and "exports no dma-bufs" in said["why"]
    status, said, _ = gpu_check("--fio", "/nowhere/fio")
    assert status == 2 and "there is no fio at /nowhere/fio" in said["why"]
    status, said, _ = gpu_check("--engine", "/nowhere/engine.so")
    assert status == 2 and "there is no engine at /nowhere/engine.so" in said["why"]
    status, said, _ = gpu_check("--engine", environment("LIBDMABUF_OTHER"))
    assert status == 2 and "fio with this engine does not run" in said["why"]
    status, said, _ = gpu_check("--exporter", "hip", fakes=False)
    assert (status, said["verdict"]) == (77, "skip")
    assert "exporter hip gives no memory here" in said["why"] and "libamdhip64" in said["why"]
