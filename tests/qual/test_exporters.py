# SPDX-License-Identifier: GPL-2.0-only
"""Which exporters there are is said in one place, and that place agrees with the engine."""

import re
from pathlib import Path

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import cli, exporters
from dmabuf_qual.errors import QualError

TOP = Path(__file__).resolve().parents[2]
BRIDGE = "/sys/devices/pci0000:00/0000:00:01.0"


def _engine() -> list[tuple[str, str]]:
    """The engine's exporters in their order, and whether the CPU maps their memory or they copy."""
    table = (TOP / "engine/exporter/exporters.def").read_text()
    rows: list[tuple[str, str]] = re.findall(r"^DMABUF_EXPORTER\((\w+), *(maps|copies),", table, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^DMABUF_EXPORTER\(", table, re.MULTILINE)) > 1
    return rows


def test_they_are_those_of_the_engine() -> None:
    assert tuple(name for name, _ in _engine()) == exporters.KINDS


def test_those_that_copy_are_those_that_the_engine_does_not_map() -> None:
    assert {name for name, cpu in _engine() if cpu == "copies"} == set(exporters.COPYING)


def test_those_of_devices_are_those_whose_memory_the_engine_does_not_count() -> None:
    table = (TOP / "engine/exporter/exporters.def").read_text()
    rows = re.findall(r"^DMABUF_EXPORTER\((\w+), *\w+, *(host|device|either),", table, re.MULTILINE)
    assert len(rows) == len(exporters.KINDS)
    assert {name for name, memory in rows if memory == "device"} == set(exporters.OF_DEVICES)


def test_the_command_line_takes_all_of_them_with_the_control_first() -> None:
    args = cli.parser().parse_args(["plan", "--exporter", "cuda:0000:41:00.0", "--exporter", "udmabuf",
                                    "--exporter", "vfio:0000:01:00.0/2", "/dev/x"])
    assert cli._exporters(args) == ["udmabuf", "cuda:0000:41:00.0", "vfio:0000:01:00.0/2"]


@pytest.mark.parametrize("spec,says", [("gpu", "there is no exporter 'gpu'"),
                                       ("vfio", "takes no device unasked"),
                                       ("plugin", "give plugin:FILE, or plugin:FILE,ARGUMENTS"),
                                       ("fd:", "give fd:SOCKET"),
                                       ("plugin:./mine.so", "begins with /, not ./mine.so"),
                                       ("fd:run/pool.sock", "begins with /")])
def test_what_is_none_or_needs_a_device_is_refused(spec: str, says: str) -> None:
    with pytest.raises(QualError, match=says):
        exporters.checked(spec)


@pytest.mark.parametrize("spec", ["plugin:/a/mine.so,./card", "plugin:mine.so", "fd:/run/pool.sock"])
def test_what_is_the_users_own_is_taken_by_its_name(spec: str) -> None:
    assert exporters.checked(spec) == spec
    assert exporters.is_own(spec) and not exporters.of_devices(spec)


def test_those_whose_memory_only_their_owner_knows_are_the_users_own() -> None:
    table = (TOP / "engine/exporter/exporters.def").read_text()
    assert tuple(re.findall(r"^DMABUF_EXPORTER\((\w+), *\w+, *either,", table, re.MULTILINE)) == exporters.OWN


def test_the_file_of_a_plug_in_is_what_is_before_its_arguments(tmp_path: Path) -> None:
    mine = tmp_path / "mine.so"
    assert exporters.plugin_file(f"plugin:{mine},a,b") == ""
    mine.touch()
    assert exporters.plugin_file(f"plugin:{mine},a,b") == str(mine)
    assert exporters.plugin_file(f"heap:{mine}") == exporters.plugin_file("fd:/run/s") == ""


def test_a_device_with_a_colon_stays_one_device_for_fio() -> None:
    assert exporters.for_fio("/a/mine.so,0000:41:00.0") == r"/a/mine.so,0000\:41\:00.0"
    assert exporters.for_fio("/dev/dri/card1") == "/dev/dri/card1"


@pytest.mark.parametrize("spec,copies", [("udmabuf", False), ("plugin:/a/mine.so", True), ("fd:/run/s", False), ("drm:card1", False), ("cuda", True),
                                         ("vfio:0000:01:00.0", True), ("testexp:move-5", False),
                                         ("testexp:move-5+no-cpu", True)])
def test_memory_without_a_view_is_known(spec: str, copies: bool) -> None:
    assert exporters.copies(spec) == copies


def _gpu(root: Path, address: str, vendor: str, driver: str, node: str) -> None:
    folder = root / BRIDGE.lstrip("/") / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor)
    (folder / "class").write_text("0x030200")
    (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    (folder / "driver").symlink_to(root / "drivers" / driver)
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True, exist_ok=True)
    (devices / address).symlink_to(folder)
    if node:
        (root / "sys/class/drm" / node).mkdir(parents=True)
        (root / "sys/class/drm" / node / "device").symlink_to(folder)
        (root / "dev/dri").mkdir(parents=True, exist_ok=True)
        (root / "dev/dri" / node).touch()


def test_a_machine_without_any_still_names_each_kind(tmp_path: Path) -> None:
    named = [kind for kind in exporters.KINDS if kind not in exporters.OWN]
    assert exporters.of_machine(System(tmp_path)) == named
    assert len(named) == len(exporters.KINDS) - 2


def test_each_device_of_a_machine_is_an_exporter_of_its_kind(tmp_path: Path) -> None:
    _gpu(tmp_path, "0000:41:00.0", "0x10de", "nvidia", "")
    _gpu(tmp_path, "0000:42:00.0", "0x10de", "nvidia", "")
    _gpu(tmp_path, "0000:43:00.0", "0x1002", "amdgpu", "renderD128")
    _gpu(tmp_path, "0000:44:00.0", "0x8086", "xe", "renderD129")
    _gpu(tmp_path, "0000:45:00.0", "0x1af4", "virtio-pci", "renderD130")
    (tmp_path / "dev/dri/card0").touch()
    (tmp_path / "dev/dma_heap").mkdir()
    (tmp_path / "dev/dma_heap/system").touch()
    known = ("udmabuf", "heap", "drm", "vfio", "cuda", "hip", "amdgpu", "xe", "i915", "testexp")
    assert [spec for spec in exporters.of_machine(System(tmp_path)) if spec.partition(":")[0] in known] == [
        "udmabuf", "heap:/dev/dma_heap/system", "drm:/dev/dri/card0", "vfio", "cuda:0000:41:00.0",
        "cuda:0000:42:00.0", "hip:0000:43:00.0", "amdgpu:/dev/dri/renderD128",
        "xe:/dev/dri/renderD129", "i915", "testexp",
    ]


@pytest.mark.parametrize("spec,address", [("amdgpu:0", "0000:43:00.0"), ("xe:/dev/dri/renderD129", "0000:44:00.0"),
                                          ("drm:1", "0000:45:00.0"), ("hip:0000:43:00.0", "0000:43:00.0"),
                                          ("cuda:0000:43:00.0+vmm+pcie", "0000:43:00.0"),
                                          ("cuda:0", ""), ("cuda", ""), ("drm:7", "")])
def test_the_device_of_an_exporter_is_known_by_its_name(tmp_path: Path, spec: str, address: str) -> None:
    """fio's engine takes a number for a card or render node; which GPU CUDA's first is, CUDA alone knows."""
    _gpu(tmp_path, "0000:43:00.0", "0x1002", "amdgpu", "renderD128")
    _gpu(tmp_path, "0000:44:00.0", "0x8086", "xe", "renderD129")
    _gpu(tmp_path, "0000:45:00.0", "0x1a03", "ast", "card1")
    assert exporters.pci_address(System(tmp_path), spec) == address
