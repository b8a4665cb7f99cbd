# SPDX-License-Identifier: GPL-2.0-only
"""The key holds what must be equal, the subject what may change."""

from pathlib import Path

import pytest
from dmabuf_common.sysfs import System
from dmabuf_nightly import fingerprint, health
from dmabuf_nightly.errors import NightlyError


def machine(root: Path, parameters: str) -> System:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cmdline").write_text(parameters)
    return System(root)


def test_which_kernel_was_booted_is_no_part_of_the_key(tmp_path: Path) -> None:
    keys = []
    for line in ("BOOT_IMAGE=/vmlinuz-1 iommu=pt\n", "BOOT_IMAGE=/vmlinuz-2 iommu=pt\n",
                 "BOOT_IMAGE=/vmlinuz-2 iommu=strict\n"):  # fmt: skip
        found = fingerprint.collect(str(tmp_path), system=machine(tmp_path, line))
        assert "kernel" in found["subject"] and "kernel" not in found["key"]
        keys.append(fingerprint.digest(found["key"]))
    assert keys[0] == keys[1] != keys[2]


def test_the_hash_does_not_depend_on_the_order() -> None:
    assert fingerprint.digest({"a": "1", "b": "2"}) == fingerprint.digest({"b": "2", "a": "1"})
    assert fingerprint.differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": ""}) == ["b", "c"]


def test_the_payload_size_is_read_from_the_device_control_register(tmp_path: Path) -> None:
    config = bytearray(256)
    config[0x34] = 0x40
    config[0x40:0x42] = bytes((0x05, 0x50))  # MSI, then
    config[0x50] = 0x10  # PCI Express
    config[0x58] = 1 << 5
    (tmp_path / "config").write_bytes(config)
    assert fingerprint.max_payload(System(tmp_path), "/") == "256"
    (tmp_path / "config").write_bytes(bytes(64))
    assert fingerprint.max_payload(System(tmp_path), "/") == ""


def test_a_fingerprint_goes_over_the_wire_whole() -> None:
    facts = {"key": {"CPU": "x"}, "subject": {}, "state": {"T": "1"}}
    seen = health.Snapshot({"n": 1}, {"tainted": "0"}, {}, ["x"])
    assert fingerprint.from_json(fingerprint.to_json(facts, seen), "h") == (facts, seen)
    for text in ("", "{}", '{"format": "libdmabuf-fingerprint", "version": 1}'):
        with pytest.raises(NightlyError, match="of h"):
            fingerprint.from_json(text, "h")


def test_access_control_is_read_from_the_extended_capabilities(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:00:01.0"
    device.mkdir(parents=True)
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x140 << 20).to_bytes(4, "little")  # AER, then
    config[0x140:0x144] = (0x000D | 1 << 16).to_bytes(4, "little")  # ACS
    config[0x146:0x148] = (0x001D).to_bytes(2, "little")
    (device / "config").write_bytes(config)
    system = System(tmp_path)
    assert fingerprint.acs_control(system, "0000:00:01.0") == "0x001d"
    (device / "config").write_bytes(bytes(4096))
    assert fingerprint.acs_control(system, "0000:00:01.0") == "none"
    # A user who is not root sees the first 64 bytes only.
    (device / "config").write_bytes(bytes(64))
    assert fingerprint.acs_control(system, "0000:00:01.0") == ""


def test_the_distance_to_a_peer_counts_what_lies_between(tmp_path: Path) -> None:
    root = tmp_path / "sys/devices/pci0000:00"
    links = tmp_path / "sys/bus/pci/devices"
    links.mkdir(parents=True)
    switch = ["0000:00:01.0", "0000:01:00.0"]
    for chain in ([*switch, "0000:02:00.0", "0000:03:00.0"], ["0000:00:02.0", "0000:09:00.0"]):
        place = root.joinpath(*chain)
        place.mkdir(parents=True)
        (links / chain[-1]).symlink_to(place)
    drm = tmp_path / "sys/class/drm/card1"
    drm.mkdir(parents=True)
    (drm / "device").symlink_to(links / "0000:03:00.0")
    system = System(tmp_path)
    assert fingerprint.pci_of(system, "/dev/dri/card1") == "0000:03:00.0"
    assert fingerprint.pci_of(system, "0000:09:00.0") == "0000:09:00.0"
    assert fingerprint.pci_of(system, "system") == ""
    drive = [*switch, "0000:02:01.0", "0000:04:00.0"]
    assert fingerprint.p2p_distance(system, drive, "0000:03:00.0") == "4"
    assert fingerprint.p2p_distance(system, drive, "0000:09:00.0") == "through the host bridge"
    assert fingerprint.p2p_distance(system, drive, "") == ""
