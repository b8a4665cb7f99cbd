# SPDX-License-Identifier: GPL-2.0-only
"""What a run needs is missed before it begins: programs, an engine for this fio, memory of a device."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_preflight import BASE, DRIVE_AT, GPU_AT, bad, config, drive, put, root

from dmabuf_common import pci, process
from dmabuf_common.process import Ended
from dmabuf_common.sysfs import System
from dmabuf_qual import paths, preflight, preflight_needs, requirements
from dmabuf_qual.checks import GREEN, RED, YELLOW, Check

__all__ = ["root"]
GPU = f"{BASE}/0000:02:00.0/{GPU_AT}"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu"


def level(checks: list[Check], name: str) -> str:
    return next((one.level for one in checks if one.name == name), "")


@pytest.fixture
def fio(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str, str], list[list[str]]]:
    """fio, which ends so and says that; the command lines that it got."""
    calls: list[list[str]] = []

    def set_up(status: int, out: str, err: str) -> list[list[str]]:
        def run(argv: list[str], limit_s: float) -> Ended:
            calls.append(argv)
            return Ended(status, out, err, 0.1)

        monkeypatch.setattr(process, "run", run)
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
        return calls

    return set_up


def test_an_engine_that_fio_loads_is_good(fio: Callable[..., list[list[str]]]) -> None:
    calls = fio(0, "dmabuf_exporter         : Who allocates", "")
    checks = preflight_needs.programs("external:/x/libdmabuf.so", "/x/dmabuf-integrity")
    assert level(checks, "engine") == level(checks, "dmabuf-integrity") == GREEN
    assert calls == [["fio", "--enghelp=/x/libdmabuf.so"]]


@pytest.mark.parametrize("status,out,err,says", [
    (1, "IO engine x not found", "libdmabuf: this engine was built for fio-9.99 and cannot work in fio-3.33\n"
     "fio: engine x not loadable", "built for fio-9.99"),
    (1, "IO engine libdmabuf.so not found", "", "not found"),
    (0, "some other engine's options", "", "some other"),
])
def test_an_engine_that_fio_does_not_load_stops_the_run(
    fio: Callable[..., list[list[str]]], status: int, out: str, err: str, says: str
) -> None:
    fio(status, out, err)
    check = preflight_needs.load("libdmabuf.so")
    assert (check.name, check.level) == ("engine", RED) and says in check.text and check.remedy
    assert "engine" in preflight.NEEDED


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else object())
    checks = preflight_needs.programs("libdmabuf.so", "")
    assert bad(checks) == ["dmabuf-integrity", "fio", "report"]
    assert level(checks, "report") == YELLOW and level(checks, "fio") == RED
    assert "python3-jinja2 missing" in checks[-1].text and checks[-1].remedy == "apt-get install python3-jinja2"
    assert {"dmabuf-integrity", "fio"} <= preflight.NEEDED


@pytest.mark.parametrize("said,expected", [(OPEN, GREEN), (CLOSED, RED), ("", YELLOW)])
def test_nvidias_closed_modules_export_nothing(root: Path, said: str, expected: str) -> None:
    if said:
        put(root, "/proc/driver/nvidia/version", f"{said}\nGCC version: 14")
    checks = preflight_needs.nvidia(System(root), ["udmabuf", "cuda:0"])
    assert [one.level for one in checks] == [expected]
    assert preflight_needs.nvidia(System(root), ["udmabuf", "hip"]) == []


@pytest.mark.parametrize("memory,expected", [("256", "BAR"), ("81559", "SMALL_BAR"), ("", "BAR 1")])
def test_nvidias_bar_is_compared_with_its_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch, memory: str, expected: str
) -> None:
    put(root, f"{GPU}/vendor", "0x10de")
    (root / f"{GPU}/mem_info_vram_total".lstrip("/")).unlink()
    asked: list[list[str]] = []
    monkeypatch.setattr(process, "output", lambda argv: asked.append(argv) or memory)
    checks = preflight_needs.bar(System(root), GPU_AT)
    assert [one.name for one in checks] == [expected]
    assert asked[0][:2] == ["nvidia-smi", f"--id={GPU_AT}"]


def test_acs_above_the_peer_is_found_too(root: Path) -> None:
    # The GPU moves below a port of its own, which redirects.
    far = root / f"{BASE}/0000:02:00.0/0000:02:08.0/0000:07:00.0".lstrip("/")
    far.mkdir(parents=True)
    port = far.parent
    (port / "config").write_bytes(config(0x1D))
    for folder in (port, far):
        (root / "sys/bus/pci/devices" / folder.name).symlink_to(folder)
    checks = preflight.route(System(root), drive(), "0000:07:00.0")
    assert bad(checks) == ["ACS_REDIRECT"]
    assert any("0000:02:08.0 sends peer requests" in one.text for one in checks)


def test_acs_above_the_common_bridge_is_in_nobodys_way(root: Path) -> None:
    (root / BASE.lstrip("/") / "config").write_bytes(config(0x1D))
    assert pci.redirecting(System(root), DRIVE_AT) == ["0000:00:01.0"]
    assert bad(preflight.route(System(root), drive(), GPU_AT)) == []


def test_a_peer_that_is_not_there_stops_the_run(root: Path) -> None:
    checks = preflight.route(System(root), drive(), "0000:ff:00.0")
    assert [(one.name, one.level) for one in checks] == [("exporter", RED)]


@pytest.mark.parametrize("model,mode,warns", [("QEMU NVMe Ctrl", "DMA", True), ("QEMU NVMe Ctrl", "identity", False),
                                              ("Real", "DMA", False)])
def test_a_switch_that_a_hypervisor_makes_up_is_warned_of(root: Path, model: str, mode: str, warns: bool) -> None:
    for address in (DRIVE_AT, GPU_AT):
        put(root, f"{BASE}/0000:02:00.0/{address}/iommu_group/type", mode)
    found = bad(preflight.route(System(root), drive(model=model), GPU_AT))
    assert found == (["IOMMU_UNMAPPED_PEER"] if warns else [])


class Answers:
    """What exporters give, by their spec: where the memory is, or why there is none, of premapped or by the
    datapath. `at`: the PCI address that all say, and `device`, the device."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, memories: dict[str, Any], at: str = "", device: str = "d"
    ) -> None:
        def of_exporter(_integrity: str, spec: str) -> paths.Exporter:
            no = None if spec in memories else paths.No("NOT_AVAILABLE", "there is no such GPU")
            return paths.Exporter(spec, device, at, no=no)

        def of_drive(_integrity: str, _system: System, found: Any, wanted: list[paths.Exporter]) -> paths.Asked:
            spec, said = wanted[0].spec, memories[wanted[0].spec]
            ways = said if isinstance(said, dict) else {"premapped": said}
            return paths.Asked(found, [paths.Way(spec, path, no=what) if isinstance(what, paths.No) else
                                       paths.Way(spec, path, what, "switch") for path, what in ways.items()])

        monkeypatch.setattr(paths, "of_exporter", of_exporter)
        monkeypatch.setattr(paths, "of_drive", of_drive)


def memories(root: Path, specs: list[str], memory: str, integrity: str = "i") -> list[Check]:
    looked = preflight_needs.look(System(root), drive(), specs, integrity)
    return preflight_needs.memories(System(root), looked, memory)


@pytest.mark.parametrize("memory,expected", [("any", YELLOW), ("peer", RED)])
def test_memory_of_the_machine_where_a_devices_was_meant(
    root: Path, monkeypatch: pytest.MonkeyPatch, memory: str, expected: str
) -> None:
    put(root, "/dev/dmabuf_rw", "")
    Answers(monkeypatch, {"drm:card0": "system", "cuda:0": "peer"})
    checks = memories(root, ["udmabuf", "drm:card0", "cuda:0"], memory)
    assert [(one.name, one.level) for one in checks] == [("SYSTEM_MEMORY", expected), ("memory", GREEN)]
    assert checks[0].text.startswith("drm:card0: by its addresses") and checks[0].remedy


def test_an_exporter_that_makes_nothing_stops_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "/dev/dmabuf_rw", "")
    Answers(monkeypatch, {})
    checks = memories(root, ["udmabuf", "cuda:0"], "any")
    assert [(one.name, one.level) for one in checks] == [("exporter", RED)]
    assert "there is no such GPU" in checks[0].text


@pytest.mark.parametrize("driver,found", [("ast", ["SYSTEM_MEMORY"]), ("mgag200", ["SYSTEM_MEMORY"]), ("amdgpu", [])])
def test_without_the_module_a_servers_framebuffer_is_known_by_its_driver(
    root: Path, driver: str, found: list[str]
) -> None:
    (root / "drivers" / driver).mkdir(parents=True)
    (root / GPU.lstrip("/") / "driver").symlink_to(root / "drivers" / driver)
    (root / "sys/class/drm/card1").mkdir(parents=True)
    (root / "sys/class/drm/card1/device").symlink_to(root / GPU.lstrip("/"))
    # By its name, or as the only card there is.
    checks, only = (memories(root, [spec], "any", "") for spec in ("drm:/dev/dri/card1", "drm"))
    assert [one.name for one in checks] == [one.name for one in only] == found
    if found:
        assert f"driver {driver} lies in system memory" in checks[0].text
    # Where the machine's own memory is what is meant, nothing is wrong with it.
    assert memories(root, ["drm"], "system", "") == []


def test_all_of_it_is_in_what_preflight_examines(root: Path, fio: Callable[..., list[list[str]]]) -> None:
    fio(1, "", "not loadable")
    put(root, "/proc/driver/nvidia/version", CLOSED)
    names = bad(preflight.examine(drive(), None, ["udmabuf", "cuda:0"], requirements.load(None), None, System(root),
                                  ("e.so", "")))
    assert {"engine", "dmabuf-integrity", "NVIDIA_MODULES"} <= set(names)


def examined(
    root: Path, *specs: str, memory: str = "any", peer: str | None = None, datapaths: tuple[str, ...] = ("premapped",)
) -> list[Check]:
    """All that preflight says of these exporters, on a machine with the module."""
    put(root, "/dev/dmabuf_rw", "")
    needs = {**requirements.load(None), "memory": memory, "datapaths": list(datapaths)}
    return preflight.examine(drive(), None, ["udmabuf", *specs], needs, peer, System(root), ("e.so", "i"))


@pytest.mark.parametrize("memory", ["any", "peer"])
@pytest.mark.parametrize("spec,at,device", [("cuda", GPU_AT, "x"), ("cuda:0", GPU_AT, "x"),
                                            ("amdgpu", "", "/dev/dri/renderD128"),
                                            ("drm:/dev/dri/by-path/pci-x-card", "", "/dev/dri/by-path/pci-x-card"),
                                            (f"cuda:{GPU_AT}", "", "x")])
def test_bar_and_route_are_looked_at_however_the_gpu_is_named(
    root: Path, fio: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch, spec: str, at: str,
    device: str, memory: str,
) -> None:
    """A GPU that shows a part of its memory, below a port that redirects, stops or warns by any name."""
    fio(0, "dmabuf_exporter", "")
    for node in ("card1", "renderD128"):
        put(root, f"/dev/dri/{node}", "")
        (root / f"sys/class/drm/{node}").mkdir(parents=True)
        (root / f"sys/class/drm/{node}/device").symlink_to(root / GPU.lstrip("/"))
    (root / "dev/dri/by-path").mkdir()
    (root / "dev/dri/by-path/pci-x-card").symlink_to("../card1")
    put(root, f"{GPU}/mem_info_vram_total", str(16 << 30))
    (root / f"{BASE}/0000:02:00.0/config".lstrip("/")).write_bytes(config(0x1D))
    Answers(monkeypatch, {spec: "peer"}, at, device)
    checks = examined(root, spec, memory=memory)
    assert (level(checks, "SMALL_BAR"), level(checks, "ACS_REDIRECT")) == (RED, YELLOW)
    assert "PEER_UNKNOWN" not in bad(checks)


def test_a_gpu_whose_place_is_not_known_is_said_to_be_so(
    root: Path, fio: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fio(0, "dmabuf_exporter", "")
    Answers(monkeypatch, {"cuda": "peer"})
    unknown = [one for one in examined(root, "cuda") if one.name == "PEER_UNKNOWN"]
    assert [one.level for one in unknown] == [YELLOW] and "cuda" in unknown[0].text and "--peer" in unknown[0].remedy
    # The user says where; or it is no device's memory; or there is none, which stops the run.
    assert "PEER_UNKNOWN" not in bad(examined(root, "cuda", peer=GPU_AT))
    assert "PEER_UNKNOWN" not in bad(examined(root, "heap", "hip"))
    Answers(monkeypatch, {"drm": "system"})
    assert "PEER_UNKNOWN" not in bad(examined(root, "drm"))
    # An address that leads to no device is none; the user cannot be told to mend what the exporter says.
    Answers(monkeypatch, {"cuda": "peer"}, "0000:ff:00.0")
    checks = examined(root, "cuda")
    assert level(checks, "PEER_UNKNOWN") == YELLOW and level(checks, "exporter") == GREEN
    assert not any(one.name == "exporter" and one.level == RED for one in checks)


@pytest.mark.parametrize("driver,device,looked", [("ast", "d", False), ("amdgpu", "d", True),
                                                  ("ast", "/dev/dri/card1", False)])
def test_the_bar_of_a_servers_screen_is_no_drives_concern(
    root: Path, fio: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch, driver: str, device: str,
    looked: bool,
) -> None:
    """Its buffers are the machine's own memory, wherever the device is: its route would say nothing."""
    fio(0, "dmabuf_exporter", "")
    (root / "drivers" / driver).mkdir(parents=True)
    (root / GPU.lstrip("/") / "driver").symlink_to(root / "drivers" / driver)
    (root / "sys/class/drm/card1").mkdir(parents=True)
    (root / "sys/class/drm/card1/device").symlink_to(root / GPU.lstrip("/"))
    put(root, "/dev/dri/card1", "")
    spec = "drm" if device == "/dev/dri/card1" else "drm:/dev/dri/card1"
    Answers(monkeypatch, {spec: "system"}, device=device)
    checks = examined(root, spec)
    assert ("p2p" in [one.name for one in checks]) == looked
    assert level(checks, "SYSTEM_MEMORY") == YELLOW
    assert (f"driver {driver}" in next(one.text for one in checks if one.name == "SYSTEM_MEMORY"))


NO_ROUTE, NO_VIEW = paths.No("NO_P2P_ROUTE", "there is no route"), paths.No("NO_CPU_VIEW", "there is no view")
HANG = paths.No("IO_HANG", "no answer within 60 s, blocked in dma_resv_wait")
BROKEN = paths.No("PROBE_FAILED", "dmabuf-integrity ended with status -11: died")
MAP = paths.No("MAP", "the exporter does not map")


def all_ways(what: Any) -> dict[str, Any]:
    return dict.fromkeys(paths.DATAPATHS, what)


@pytest.mark.parametrize("said,datapaths,expected", [
    ({"premapped": NO_ROUTE, "bvec": NO_VIEW}, ["premapped"], [("NO_P2P_ROUTE", RED)]),
    ({"premapped": NO_ROUTE, "bvec": NO_VIEW}, ["premapped", "bvec"], [("NO_P2P_ROUTE", RED), ("REFUSED_NO_CPU_VIEW", RED)]),
    ({"premapped": "peer", "bvec": NO_VIEW}, ["premapped"], []),
    ({"premapped": MAP}, ["premapped"], [("REFUSED_MAP", RED)]),
    # By the name of the check of the command line, so that one --despite is enough.
    ({"registered": paths.No("BOUNCED", "swiotlb=force")}, ["registered"], [("BOUNCED", RED)]),
    # A hang is one finding, whatever is required; a program that broke says nothing of the machine.
    (all_ways(HANG), ["bvec"], [("IO_HANG", RED)]),
    ({"premapped": "peer", "registered": HANG}, ["premapped"], [("IO_HANG", RED)]),
    (all_ways(BROKEN), ["premapped", "bvec"], [("PROBE_FAILED", YELLOW)]),
])
@pytest.mark.parametrize("spec", ["cuda:0", "heap", "udmabuf"])
def test_what_the_module_refuses_now_stops_the_run(
    root: Path, fio: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch, said: dict[str, Any],
    datapaths: list[str], expected: list[tuple[str, str]], spec: str,
) -> None:
    """path.accepted would fail by the same name after hours, of the control's refusals, too."""
    fio(0, "dmabuf_exporter", "")
    put(root, "/dev/udmabuf", "")
    Answers(monkeypatch, {"udmabuf": all_ways("system"), spec: said}, GPU_AT)
    names = {"NO_P2P_ROUTE", "REFUSED_NO_CPU_VIEW", "REFUSED_MAP", "IO_HANG", "PROBE_FAILED", "BOUNCED"}
    more = [] if spec == "udmabuf" else [spec]
    found = [one for one in examined(root, *more, datapaths=tuple(datapaths)) if one.name in names]
    assert [(one.name, one.level) for one in found] == expected
    assert all(spec in one.text and one.remedy for one in found)


@pytest.mark.parametrize("said,wanted,expected", [
    ("peer", "peer", ("memory", GREEN)), ("peer", "any", ("memory", GREEN)),
    ("system", "peer", ("SYSTEM_MEMORY", RED)), ("system", "any", ("SYSTEM_MEMORY", YELLOW)),
    ("mixed", "peer", ("SYSTEM_MEMORY", RED)), ("mixed", "any", ("SYSTEM_MEMORY", YELLOW)),
    ("unknown", "peer", ("MEMORY_UNKNOWN", RED)), ("unknown", "any", ("MEMORY_UNKNOWN", YELLOW)),
    ({"premapped": "peer", "bvec": "system"}, "peer", ("SYSTEM_MEMORY", RED)),
    ({"premapped": NO_ROUTE, "registered": "system"}, "peer", ("SYSTEM_MEMORY", RED)),
    ({"premapped": "peer", "registered": "unknown"}, "peer", ("MEMORY_UNKNOWN", RED)),
    ("system", "system", ("memory", GREEN)), ("peer", "system", ("DEVICE_MEMORY", RED)),
    ("unknown", "system", ("MEMORY_UNKNOWN", RED)), ("mixed", "system", ("DEVICE_MEMORY", RED)),
])
def test_only_memory_that_is_where_it_has_to_be_is_green(
    root: Path, monkeypatch: pytest.MonkeyPatch, said: Any, wanted: str, expected: tuple[str, str]
) -> None:
    put(root, "/dev/dmabuf_rw", "")
    Answers(monkeypatch, {"cuda:0": said})
    checks = memories(root, ["cuda:0"], wanted)
    assert [(one.name, one.level) for one in checks] == [expected]
    assert expected[1] == GREEN or checks[0].remedy


def test_a_heap_is_no_devices_memory_either(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """path.placement fails for it; nobody means a device's with the defaults, nor with the control."""
    put(root, "/dev/dmabuf_rw", "")
    put(root, "/dev/udmabuf", "")
    Answers(monkeypatch, {"heap": "system", "udmabuf": "system"})
    assert [(one.name, one.level) for one in memories(root, ["udmabuf", "heap"], "peer")] == [("SYSTEM_MEMORY", RED)]
    assert memories(root, ["udmabuf", "heap"], "any") == []
