# SPDX-License-Identifier: GPL-2.0-only
"""What is read of PCI devices: their place, access control, payload, BARs, links, IOMMU."""

from pathlib import Path

import pytest
from dmabuf_common import pci
from dmabuf_common.sysfs import System

PORT, DEVICE = "0000:00:01.0", "0000:01:00.0"


def place(root: Path, *addresses: str) -> Path:
    """A device below bridges, the root port first; its folder."""
    links = root / "sys/bus/pci/devices"
    links.mkdir(parents=True, exist_ok=True)
    folder = root / "sys/devices/pci0000:00"
    for address in addresses:
        folder = folder / address
        folder.mkdir(parents=True, exist_ok=True)
        if not (links / address).exists():
            (links / address).symlink_to(folder)
    return folder


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return place(tmp_path, PORT, DEVICE)


def test_access_control_is_read_from_the_extended_capabilities(tmp_path: Path, device: Path) -> None:
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x140 << 20).to_bytes(4, "little")  # AER, then
    config[0x140:0x144] = (0x000D | 1 << 16).to_bytes(4, "little")  # ACS
    config[0x146:0x148] = (0x001D).to_bytes(2, "little")
    (device / "config").write_bytes(config)
    system = System(tmp_path)
    assert (pci.acs_control(system, DEVICE), pci.acs_text(system, DEVICE)) == (0x1D, "0x001d")
    (device / "config").write_bytes(bytes(4096))
    assert (pci.acs_control(system, DEVICE), pci.acs_text(system, DEVICE)) == (None, "none")
    # A user who is not root sees the first 64 bytes only.
    (device / "config").write_bytes(bytes(64))
    assert (pci.acs_control(system, DEVICE), pci.acs_text(system, DEVICE)) == (None, "")


def test_a_list_of_capabilities_that_is_a_circle_ends(tmp_path: Path, device: Path) -> None:
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    (device / "config").write_bytes(config)
    assert pci.acs_control(System(tmp_path), DEVICE) is None


def test_the_payload_size_is_read_from_the_device_control_register(
    tmp_path: Path, device: Path
) -> None:
    config = bytearray(256)
    config[0x34] = 0x40
    config[0x40:0x42] = bytes((0x05, 0x50))  # MSI, then
    config[0x50] = 0x10  # PCI Express
    config[0x58] = 1 << 5
    (device / "config").write_bytes(config)
    assert pci.max_payload(System(tmp_path), DEVICE) == 256
    (device / "config").write_bytes(bytes(64))
    assert pci.max_payload(System(tmp_path), DEVICE) is None


def test_the_way_to_the_root_and_to_a_peer(tmp_path: Path) -> None:
    switch = (PORT, "0000:01:00.0")
    place(tmp_path, *switch, "0000:02:00.0", "0000:03:00.0")
    place(tmp_path, *switch, "0000:02:01.0", "0000:04:00.0")
    place(tmp_path, "0000:00:02.0", "0000:09:00.0")
    system = System(tmp_path)
    assert pci.path_to_root(system, "0000:03:00.0") == ["0000:02:00.0", *reversed(switch)]
    assert pci.common_bridge(system, "0000:03:00.0", "0000:04:00.0") == switch[1]
    assert pci.distance(system, "0000:03:00.0", "0000:04:00.0") == 4
    for other in ("0000:09:00.0", "0000:0a:00.0"):
        assert pci.common_bridge(system, "0000:03:00.0", other) is None
        assert pci.distance(system, "0000:03:00.0", other) is None
    assert pci.chain(system, "") == []


def test_a_device_is_known_by_its_address_or_its_card(tmp_path: Path, device: Path) -> None:
    for node in ("card1", "renderD128"):
        drm = tmp_path / "sys/class/drm" / node
        drm.mkdir(parents=True)
        (drm / "device").symlink_to(device)
    system = System(tmp_path)
    assert pci.of_device(system, "/dev/dri/card1") == DEVICE
    assert pci.of_device(system, "card1") == DEVICE
    assert pci.of_device(system, "10000:09:00.0") == "10000:09:00.0"
    assert (pci.of_device(system, "system"), pci.of_device(system, "card2")) == ("", "")
    assert pci.of_device(system, f"{DEVICE}/2") == DEVICE
    assert pci.of_device(system, "/dev/dri/renderD128") == pci.of_device(system, "renderD128") == DEVICE


def test_a_device_is_known_by_whatever_name_leads_to_it(tmp_path: Path, device: Path) -> None:
    for node in ("card1", "renderD128"):
        (tmp_path / "sys/class/drm" / node).mkdir(parents=True)
        (tmp_path / "sys/class/drm" / node / "device").symlink_to(device)
    links = tmp_path / "dev/dri/by-path"
    links.mkdir(parents=True)
    for node in ("card1", "renderD128"):
        (tmp_path / "dev/dri" / node).touch()
    for name, node in (("card", "card1"), ("render", "renderD128")):
        (links / f"pci-{DEVICE}-{name}").symlink_to(f"../{node}")
    (links / "pci-0000:0a:00.0-card").symlink_to("../card7")
    (tmp_path / "dev/my-gpu").symlink_to("dri/card1")
    system = System(tmp_path)
    for name in (f"/dev/dri/by-path/pci-{DEVICE}-card", f"by-path/pci-{DEVICE}-render", "/dev/my-gpu"):
        assert pci.of_device(system, name) == DEVICE, name
    # A link that leads nowhere is no device, whatever its name says.
    assert pci.of_device(system, "/dev/dri/by-path/pci-0000:0a:00.0-card") == ""
    # CUDA takes an address without its domain and in capitals, and nvidia-smi says eight digits of domain.
    for name in ("C1:00.0", "0000:C1:00.0", "00000000:C1:00.0"):
        assert pci.of_device(system, name) == "0000:c1:00.0", name


def test_bars_are_those_in_use(tmp_path: Path, device: Path) -> None:
    (device / "resource").write_text(
        "0x0000000010000000 0x0000000010003fff 0x0000000000140204\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x0000000000002000 0x00000000000020ff 0x0000000000040101\n"
        + 3 * "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        + "0x0000000020000000 0x000000002fffffff 0x0000000000046200\n"  # the ROM
    )
    system = System(tmp_path)
    assert pci.bars(system, DEVICE) == [pci.Bar(16384, True), pci.Bar(256, False)]
    assert pci.largest_bar(system, DEVICE) == 16384
    assert pci.largest_bar(system, PORT) == 0


def speeds(folder: Path, now: tuple[str, str] | None, most: tuple[str, str]) -> None:
    for name, pair in (("current", now), ("max", most)):
        if pair:
            (folder / f"{name}_link_speed").write_text(pair[0])
            (folder / f"{name}_link_width").write_text(pair[1])


@pytest.mark.parametrize(
    ("now", "port", "downtrained"),
    [
        (("16.0 GT/s PCIe", "4"), ("16.0 GT/s PCIe", "16"), False),
        (("8.0 GT/s PCIe", "4"), ("16.0 GT/s PCIe", "16"), True),
        (("16.0 GT/s PCIe", "2"), ("16.0 GT/s PCIe", "16"), True),
        (("8.0 GT/s PCIe", "4"), ("8.0 GT/s PCIe", "16"), False),  # the slot can do no more
        (("Unknown", "255"), ("16.0 GT/s PCIe", "16"), False),
        (("8.0 GT/s PCIe", "4"), ("Unknown", "0"), True),  # the port does not say
    ],
)
def test_a_link_is_slow_when_both_ends_could_do_more(
    tmp_path: Path, device: Path, now: tuple[str, str], port: tuple[str, str], downtrained: bool
) -> None:
    speeds(device, now, ("16.0 GT/s PCIe", "4"))
    speeds(device.parent, None, port)
    link = pci.link(System(tmp_path), DEVICE)
    assert link.downtrained == downtrained
    assert link.known == (now[0] != "Unknown")


def test_a_link_in_words(tmp_path: Path, device: Path) -> None:
    speeds(device, ("2.5 GT/s PCIe", "1"), ("16.0 GT/s PCIe", "4"))
    link = pci.link(System(tmp_path), DEVICE)
    assert (link.text(), link.most_text()) == ("2.5 GT/s x1", "16 GT/s x4")
    assert pci.link(System(tmp_path), PORT) == pci.Link(0, 0, 0, 0)


def test_the_mode_of_the_iommu(tmp_path: Path, device: Path) -> None:
    system = System(tmp_path)
    assert pci.iommu_mode(system, DEVICE) == pci.NO_IOMMU
    (device / "iommu_group").mkdir()
    (device / "iommu_group/type").write_text("DMA-FQ\n")
    assert pci.iommu_mode(system, DEVICE) == "DMA-FQ"
    assert (pci.iommu_mode(system, ""), pci.iommu_mode(system, "0000:0a:00.0")) == ("", "")


def test_errors_are_counted_by_kind(tmp_path: Path, device: Path) -> None:
    (device / "aer_dev_fatal").write_text("Undefined 0\nDLP 2\nTOTAL_ERR_FATAL 2\n")
    (device / "aer_dev_correctable").write_text("RxErr 0\nTOTAL_ERR_COR 0\n")
    assert pci.aer_totals(System(tmp_path), DEVICE) == {"aer_dev_fatal": 2, "aer_dev_correctable": 0}
