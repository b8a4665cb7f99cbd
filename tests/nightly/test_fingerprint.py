# SPDX-License-Identifier: GPL-2.0-only
"""The key holds what must be equal, the subject what may change."""

from pathlib import Path

import pytest
from dmabuf_nightly import fingerprint, health
from dmabuf_nightly.errors import NightlyError
from dmabuf_nightly.sysfs import System


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
