# SPDX-License-Identifier: GPL-2.0-only
"""A drive that is in use is not overwritten, with the reason; nor one that was not named."""

from pathlib import Path

import pytest

from dmabuf_common.sysfs import System
from dmabuf_qual import drive, safety
from dmabuf_qual.errors import Refused


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    controller = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0"
    block = f"{controller}/nvme0n1"
    for name, text in (("model", "M"), ("serial", "S1"), ("firmware_rev", "F")):
        put(tmp_path, f"{controller}/{name}", text)
    put(tmp_path, f"{block}/dev", "259:0")
    put(tmp_path, f"{block}/size", "2097152")
    put(tmp_path, f"{block}/ro", "0")
    put(tmp_path, f"{block}/queue/logical_block_size", "512")
    put(tmp_path, f"{block}/nvme0n1p1/partition", "1")
    put(tmp_path, f"{block}/nvme0n1p1/dev", "259:1")
    put(tmp_path, f"{block}/nvme0n1p1/size", "1048576")
    for folder in ("sys/block", "sys/class/block", "sys/class/nvme"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / f"{block}/device".lstrip("/")).symlink_to("..")
    (tmp_path / "sys/block/nvme0n1").symlink_to(tmp_path / block.lstrip("/"))
    (tmp_path / "sys/class/block/nvme0n1").symlink_to(tmp_path / block.lstrip("/"))
    (tmp_path / "sys/class/block/nvme0n1p1").symlink_to(tmp_path / f"{block}/nvme0n1p1".lstrip("/"))
    (tmp_path / "sys/class/nvme/nvme0").symlink_to(tmp_path / controller.lstrip("/"))
    (tmp_path / controller.lstrip("/") / "device").symlink_to("../..")
    put(tmp_path, "/proc/self/mounts", "/dev/sda1 / ext4 rw 0 0")
    put(tmp_path, "/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw")
    put(tmp_path, "/proc/swaps", "Filename Type Size Used Priority")
    return tmp_path


def find(root: Path, name: str = "/dev/nvme0n1") -> tuple[drive.Drive, System]:
    system = System(root)
    return drive.find(name, system), system


def test_the_drive_is_read_from_sysfs(root: Path) -> None:
    found, _ = find(root)
    assert (found.model, found.serial, found.controller) == ("M", "S1", "nvme0")
    assert (found.pci, found.bytes, found.multipath) == ("0000:01:00.0", 1 << 30, False)


def test_a_free_drive_that_was_named_is_allowed(root: Path) -> None:
    safety.demand(find(root)[0], True, "S1 ", find(root)[1])


@pytest.mark.parametrize(
    ("erase", "serial", "says"),
    [(False, "S1", "--erase"), (True, None, "--serial"), (True, "S2", "another serial")],
)
def test_a_drive_that_was_not_named_is_refused(
    root: Path, erase: bool, serial: str | None, says: str
) -> None:
    with pytest.raises(Refused, match=says):
        safety.demand(*find(root)[:1], erase, serial, System(root))


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("/proc/self/mounts", "/dev/nvme0n1 /data ext4 rw 0 0", "it is mounted at /data"),
        ("/proc/self/mounts", "/dev/nvme0n1p1 / ext4 rw 0 0", "nvme0n1p1 holds the running system"),
        ("/proc/self/mountinfo", "22 1 259:1 / /x rw - ext4 none rw", "nvme0n1p1 is mounted at /x"),
        ("/proc/swaps", "Filename\n/dev/nvme0n1p1 partition 1 0 -2", "nvme0n1p1 is swap space"),
        ("/sys/block/nvme0n1/ro", "1", "read-only"),
        ("/sys/block/nvme0n1/holders/md0/x", "", "held by md0"),
        ("/sys/block/nvme0n1/nvme0n1p1/holders/dm-3/x", "", "partition nvme0n1p1 is held by dm-3"),
    ],
)
def test_a_drive_in_use_is_refused_with_the_reason(
    root: Path, file: str, text: str, says: str
) -> None:
    put(root, file, text)
    found, system = find(root)
    with pytest.raises(Refused, match=says):
        safety.demand(found, True, "S1", system)


def test_a_partition_is_judged_by_itself(root: Path) -> None:
    put(root, "/proc/self/mounts", "/dev/nvme0n1p1 /data ext4 rw 0 0")
    found, system = find(root, "/dev/nvme0n1p1")
    assert (found.disk, found.bytes) == ("nvme0n1", 1 << 29)
    assert safety.reasons(found, system) == ["it is mounted at /data: unmount it first"]
