# SPDX-License-Identifier: GPL-2.0-only
"""Two runs are comparable when the machine, the drive and what was asked for are the same."""

from pathlib import Path

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import environment
from dmabuf_qual.drive import Drive

ADDRESS = "0000:01:00.0"
DRIVE = Drive("/dev/nvme0n1", "nvme0n1", "nvme0n1", "nvme0", ADDRESS, "M", "S", "F", 1 << 30, 512, 0,
              False, 131072)


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    device = f"/sys/devices/pci0000:00/{ADDRESS}"
    controller = f"{device}/nvme/nvme0"
    for name, text in (("model", "M"), ("serial", "S"), ("firmware_rev", "F")):
        put(tmp_path, f"{controller}/{name}", text)
    put(tmp_path, f"{controller}/nvme0n1/size", "2097152")
    put(tmp_path, f"{device}/current_link_speed", "16.0 GT/s PCIe")
    put(tmp_path, f"{device}/current_link_width", "4")
    put(tmp_path, f"{device}/iommu_group/type", "DMA-FQ")
    put(tmp_path, "/proc/cmdline", "quiet")
    for link in (f"sys/bus/pci/devices/{ADDRESS}", "sys/block/nvme0n1"):
        (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / f"sys/bus/pci/devices/{ADDRESS}").symlink_to(tmp_path / device.lstrip("/"))
    (tmp_path / "sys/block/nvme0n1").symlink_to(tmp_path / controller.lstrip("/") / "nvme0n1")
    (tmp_path / controller.lstrip("/") / "nvme0n1/device").symlink_to("..")
    return tmp_path


def known(root: Path, drive: Drive = DRIVE) -> environment.Facts:
    return environment.facts(drive, "", System(root))


def key(root: Path, drive: Drive = DRIVE) -> str:
    return environment.comparability_key(known(root, drive), {})


def test_drive_machine_and_kernel_have_their_roles(root: Path) -> None:
    found = {(name, value, role) for name, value, role in known(root)}
    assert ("drive serial", "S", "key") in found
    assert ("IOMMU", "DMA-FQ", "key") in found
    assert ("PCIe link", "16.0 GT/s PCIe x4", "key") in found
    assert ("MDTS", "131072", "key") in found
    assert ("drive firmware", "F", "subject") in found
    assert ("PCI address", ADDRESS, "state") in found
    assert {role for name, _, role in found if name == "kernel"} == {"subject"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (f"/sys/devices/pci0000:00/{ADDRESS}/current_link_width", "2"),
        (f"/sys/devices/pci0000:00/{ADDRESS}/iommu_group/type", "identity"),
        (f"/sys/devices/pci0000:00/{ADDRESS}/nvme/nvme0/serial", "another"),
        ("/proc/cmdline", "quiet swiotlb=force"),
        ("/sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C6"),
    ],
)
def test_another_machine_has_another_key(root: Path, file: str, text: str) -> None:
    before = key(root)
    assert key(root) == before
    put(root, file, text)
    assert key(root) != before


def test_new_firmware_is_what_is_judged_and_changes_no_key(root: Path) -> None:
    before = key(root)
    put(root, f"/sys/devices/pci0000:00/{ADDRESS}/nvme/nvme0/firmware_rev", "F2")
    assert key(root) == before


def test_another_scale_or_exporter_has_another_key(root: Path) -> None:
    keys = {
        environment.comparability_key(known(root), more)
        for more in ({}, {"exporters": ["udmabuf"]}, {"exporters": ["udmabuf", "heap"]}, {"scale": {"a": 1}})
    }
    assert len(keys) == 4
