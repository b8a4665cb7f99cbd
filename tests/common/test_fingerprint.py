# SPDX-License-Identifier: GPL-2.0-only
"""The key holds what must be equal, the subject what may change."""

from pathlib import Path

from dmabuf_common import fingerprint
from dmabuf_common.sysfs import System


def machine(root: Path, parameters: str) -> System:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cmdline").write_text(parameters)
    return System(root)


def test_which_kernel_was_booted_is_no_part_of_the_key(tmp_path: Path) -> None:
    keys = []
    for line in ("BOOT_IMAGE=/vmlinuz-1 iommu=pt\n", "BOOT_IMAGE=/vmlinuz-2 iommu=pt\n",
                 "BOOT_IMAGE=/vmlinuz-2 iommu=strict\n"):
        found = fingerprint.collect(str(tmp_path), system=machine(tmp_path, line))
        assert "kernel" in found["subject"] and "kernel" not in found["key"]
        keys.append(fingerprint.digest(found["key"]))
    assert keys[0] == keys[1] != keys[2]


def test_the_hash_does_not_depend_on_the_order() -> None:
    assert fingerprint.digest({"a": "1", "b": "2"}) == fingerprint.digest({"b": "2", "a": "1"})
    assert fingerprint.differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": ""}) == ["b", "c"]


def test_the_distance_to_a_peer_counts_what_lies_between(tmp_path: Path) -> None:
    root = tmp_path / "sys/devices/pci0000:00"
    links = tmp_path / "sys/bus/pci/devices"
    links.mkdir(parents=True)
    switch = ["0000:00:01.0", "0000:01:00.0"]
    drive, peer, far = "0000:04:00.0", "0000:03:00.0", "0000:09:00.0"
    for chain in ([*switch, "0000:02:01.0", drive], [*switch, "0000:02:00.0", peer], ["0000:00:02.0", far]):
        place = root.joinpath(*chain)
        place.mkdir(parents=True)
        (links / chain[-1]).symlink_to(place)
    system = System(tmp_path)
    assert fingerprint.p2p_distance(system, drive, peer) == "4"
    assert fingerprint.p2p_distance(system, drive, far) == "through the host bridge"
    assert fingerprint.p2p_distance(system, drive, "") == ""
