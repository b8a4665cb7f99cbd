# SPDX-License-Identifier: GPL-2.0-only
"""What lies on a drive is found by its type, wherever it lies; what cannot be looked at is not empty."""

import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import images
import pytest

from dmabuf_common import drive_signatures
from dmabuf_common.drive_signatures import CannotLook, Entry, Signature, entries, find


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "drive"
    path.touch()
    os.truncate(path, images.SIZE)
    return path


def look(path: Path, offset: int = 0, size: int = 0) -> list[Signature]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return find(descriptor, offset, size)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", images.ALL)
def test_each_type_is_found_and_undamaged(image: Path, kind: str) -> None:
    images.ALL[kind](image)
    found = look(image)
    assert [(one.type, one.damaged) for one in found] == [(kind, False)]


def test_an_empty_drive_and_noise_are_no_signature(image: Path) -> None:
    assert not look(image)
    images.put(image, 0, random.Random(5).randbytes(4 * images.MIB))
    assert not look(image)


def test_all_of_several_are_found_although_they_contradict_each_other(image: Path) -> None:
    images.lvm(image)
    images.ext4(image)
    images.dos(image)
    images.btrfs(image)
    assert {one.type for one in look(image)} == {"ext4", "LVM2_member", "dos", "btrfs"}


def test_a_range_is_looked_at_by_itself(image: Path) -> None:
    images.ext4(image, 8 * images.MIB)
    assert not look(image)
    assert [one.type for one in look(image, 8 * images.MIB, 8 * images.MIB)] == ["ext4"]
    assert not look(image, 16 * images.MIB, 8 * images.MIB)


def test_a_gpt_is_found_without_its_protective_table_and_by_its_copy(image: Path) -> None:
    images.gpt(image, protective=False)
    assert [one.type for one in look(image)] == ["gpt"]
    images.put(image, 0, bytes(images.MIB))
    assert [one.type for one in look(image)] == ["gpt"]


@pytest.mark.parametrize("kind", images.ALL)
def test_only_partition_tables_are_called_so(image: Path, kind: str) -> None:
    images.ALL[kind](image)
    assert [one.table for one in look(image)] == [kind in ("gpt", "dos")]


def test_the_entries_of_a_table_are_counted_from_the_beginning_of_the_device(image: Path) -> None:
    images.dos(image, 16 * images.MIB, (0x83, 2048, 4096), (0x05, 8192, 4096))
    images.dos(image, 20 * images.MIB, (0x83, 64, 128))
    with open(image, "rb") as file:
        found = entries(file.fileno(), 16 * images.MIB, 32 * images.MIB, "dos")
    assert found == [
        Entry(17 * images.MIB, 2 * images.MIB, False), Entry(20 * images.MIB, 2 * images.MIB, True),
        Entry(20 * images.MIB + 64 * 512, 128 * 512, False),
    ]


def test_what_libblkid_calls_a_table_without_entries_has_none(image: Path) -> None:
    images.dos(image, 0, (0xEE, 1, images.SIZE // 512 - 1))
    assert [one.type for one in look(image)] == ["PMBR"]
    with open(image, "rb") as file:
        assert not entries(file.fileno(), 0, images.SIZE, "PMBR")


def test_a_damaged_superblock_still_counts(image: Path) -> None:
    images.lvm(image)
    images.put(image, 512 + 100, b"damage")
    found = look(image)
    assert [(one.type, one.damaged) for one in found] == [("LVM2_member", True)]
    assert "damaged" in str(found[0])


def test_label_and_uuid_are_said(image: Path) -> None:
    images.ext4(image)
    assert str(look(image)[0]) == f'ext4 ("archive", UUID {images.UUID})'


def test_what_cannot_be_read_is_not_taken_for_empty(image: Path) -> None:
    descriptor = os.open(image, os.O_WRONLY)
    try:
        with pytest.raises(CannotLook, match="Bad file descriptor"):
            find(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing(*_: object, **__: object) -> ctypes.CDLL:
        raise OSError("cannot open shared object file")

    drive_signatures._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    yield
    drive_signatures._library.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_without_the_library_nothing_is_taken_for_empty(image: Path) -> None:
    with pytest.raises(CannotLook, match="apt install libblkid1"):
        look(image)


@pytest.mark.parametrize("program", ["mkfs.ext4", "mkfs.xfs", "mkswap"])
def test_what_the_real_programs_write_is_found(image: Path, program: str) -> None:
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    os.truncate(image, 512 * images.MIB)
    subprocess.run([path, str(image)], check=True, capture_output=True)
    assert [one.type for one in look(image)] == [program.removeprefix("mkfs.").removeprefix("mk")]
