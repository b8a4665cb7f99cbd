# SPDX-License-Identifier: GPL-2.0-only
"""What a drive's data is, by libblkid: file systems, LVM, RAID, ZFS, LUKS, swap, partition tables,
also where nothing of it is active. Read from an open descriptor, never from a path."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

LIBRARY = "libblkid.so.1"
PACKAGE = "libblkid1"

# <blkid/blkid.h>
_SUBLKS_LABEL, _SUBLKS_UUID, _SUBLKS_TYPE, _SUBLKS_USAGE = 1 << 1, 1 << 3, 1 << 5, 1 << 7
_SUBLKS_MAGIC, _SUBLKS_BADCSUM = 1 << 9, 1 << 10
_PARTS_FORCE_GPT, _PARTS_MAGIC = 1 << 1, 1 << 3
_FLTR_ONLYIN = 2
# libblkid counts partitions in these, whatever the drive's own sectors are.
_SECTOR = 512
# What begins with these bytes, of which libblkid does not know: SPDK's blobstore, below its logical volumes.
_BEGINNINGS = {b"SPDKBLOB": "spdk_blobstore"}
# More than a drive can have; so that a fault of the library ends.
_MOST = 64


class CannotLook(Exception):
    """It cannot be known what is on the drive: one sentence with cause and remedy."""


@dataclass(frozen=True)
class Signature:
    """What begins at `offset`. `type` as libblkid calls it: ext4, LVM2_member, gpt."""

    type: str
    offset: int
    label: str = ""
    uuid: str = ""
    damaged: bool = False
    table: bool = False

    def __str__(self) -> str:
        more = [f'"{self.label}"'] if self.label else []
        more += [f"UUID {self.uuid}"] if self.uuid else []
        more += ["damaged"] if self.damaged else []
        return f"{self.type} ({', '.join(more)})" if more else self.type


@dataclass(frozen=True)
class Entry:
    """A partition as its table says it, in bytes of the whole device. An extended one is a frame for
    others, which are entries of the same table."""

    start: int
    bytes: int
    extended: bool


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise CannotLook(
            f"nothing can say whether it holds data, since {LIBRARY} is missing: apt install {PACKAGE}"
        ) from error
    probe, number, large = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.blkid_new_probe.restype = probe
    library.blkid_new_probe.argtypes = []
    library.blkid_free_probe.restype = None
    library.blkid_free_probe.argtypes = [probe]
    library.blkid_do_probe.argtypes = [probe]
    library.blkid_probe_set_device.argtypes = [probe, number, large, large]
    library.blkid_probe_lookup_value.argtypes = [
        probe, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_size_t)
    ]
    library.blkid_probe_filter_partitions_type.argtypes = [
        probe, number, ctypes.POINTER(ctypes.c_char_p)
    ]
    library.blkid_probe_get_partitions.restype = probe
    library.blkid_probe_get_partitions.argtypes = [probe]
    library.blkid_partlist_numof_partitions.argtypes = [probe]
    library.blkid_partlist_get_partition.restype = probe
    library.blkid_partlist_get_partition.argtypes = [probe, number]
    for name in ("get_start", "get_size"):
        getattr(library, f"blkid_partition_{name}").restype = large
        getattr(library, f"blkid_partition_{name}").argtypes = [probe]
    library.blkid_partition_is_extended.argtypes = [probe]
    for name in ("enable_superblocks", "set_superblocks_flags", "enable_partitions",
                 "set_partitions_flags"):
        getattr(library, f"blkid_probe_{name}").argtypes = [probe, number]
    return library


def _value(library: ctypes.CDLL, probe: int, name: str) -> str:
    text = ctypes.c_char_p()
    if library.blkid_probe_lookup_value(probe, name.encode(), ctypes.byref(text), None) != 0:
        return ""
    return (text.value or b"").decode(errors="replace")


def _signature(library: ctypes.CDLL, probe: int) -> Signature:
    def value(name: str) -> str:
        return _value(library, probe, name)

    table = value("PTTYPE")
    if table:
        return Signature(table, int(value("PTMAGIC_OFFSET") or 0), uuid=value("PTUUID"), table=True)
    return Signature(value("TYPE") or value("USAGE") or "unknown", int(value("SBMAGIC_OFFSET") or 0),
                     value("LABEL"), value("UUID"), bool(value("SBBADCSUM")))


def find(descriptor: int, offset: int = 0, size: int = 0) -> list[Signature]:
    """All signatures in a range of what the descriptor has open; size 0: up to its end. CannotLook
    where that cannot be known: neither a fault of reading nor a missing library means "none"."""
    with _probe(descriptor, offset, size) as (library, probe):
        library.blkid_probe_enable_superblocks(probe, 1)
        library.blkid_probe_set_superblocks_flags(
            probe,
            _SUBLKS_LABEL | _SUBLKS_UUID | _SUBLKS_TYPE | _SUBLKS_USAGE | _SUBLKS_MAGIC
            | _SUBLKS_BADCSUM,
        )
        library.blkid_probe_enable_partitions(probe, 1)
        library.blkid_probe_set_partitions_flags(probe, _PARTS_FORCE_GPT | _PARTS_MAGIC)
        return [*_own(descriptor, offset), *_all(library, probe)]


def entries(descriptor: int, offset: int, size: int, table: str) -> list[Entry]:
    """The partitions of a table of this type, which find() found in the same range. The kernel knows
    those only of a table that it has read, and of one of several."""
    with _probe(descriptor, offset, size) as (library, probe):
        library.blkid_probe_enable_superblocks(probe, 0)
        library.blkid_probe_enable_partitions(probe, 1)
        library.blkid_probe_set_partitions_flags(probe, _PARTS_FORCE_GPT)
        # Without, the library lists the first table that it finds, and no other.
        names = (ctypes.c_char_p * 2)(table.encode(), None)
        library.blkid_probe_filter_partitions_type(probe, _FLTR_ONLYIN, names)
        listed = library.blkid_probe_get_partitions(probe)
        if not listed:
            raise CannotLook(f"{LIBRARY} does not list the partitions of a {table} that is on it: look "
                             "at it with wipefs; only where nothing of it is needed, remove that signature "
                             "first")
        one_by_one = (
            library.blkid_partlist_get_partition(listed, index)
            for index in range(library.blkid_partlist_numof_partitions(listed))
        )
        return [
            Entry(
                offset + library.blkid_partition_get_start(one) * _SECTOR,
                library.blkid_partition_get_size(one) * _SECTOR,
                library.blkid_partition_is_extended(one) == 1,
            )
            for one in one_by_one
        ]


@contextmanager
def _probe(descriptor: int, offset: int, size: int) -> Iterator[tuple[ctypes.CDLL, int]]:
    library = _library()
    # What another name of the same namespace wrote is not in this device's page cache.
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
    probe = library.blkid_new_probe()
    if not probe:
        raise CannotLook(f"{LIBRARY} could not begin: out of memory")
    try:
        if library.blkid_probe_set_device(probe, descriptor, offset, size) != 0:
            raise CannotLook(f"{LIBRARY} does not take the device: {os.strerror(ctypes.get_errno())}")
        yield library, probe
    finally:
        library.blkid_free_probe(probe)
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def _own(descriptor: int, offset: int) -> list[Signature]:
    """What is found without the library."""
    try:
        begin = os.pread(descriptor, max(map(len, _BEGINNINGS)), offset)
    except OSError as error:
        raise CannotLook(f"it could not be read: {os.strerror(error.errno or 0)}") from error
    return [Signature(name, 0) for bytes_, name in _BEGINNINGS.items() if begin.startswith(bytes_)]


def _all(library: ctypes.CDLL, probe: int) -> list[Signature]:
    """One after the other. The library's safe probe stops at the first, and finds nothing where two
    contradict each other."""
    found: list[Signature] = []
    while len(found) < _MOST:
        status = library.blkid_do_probe(probe)
        if status == 1:
            return found
        if status != 0:
            code = ctypes.get_errno() or -status
            raise CannotLook(f"{LIBRARY} could not read it: {os.strerror(code)}")
        found.append(_signature(library, probe))
    raise CannotLook(f"{LIBRARY} finds more than {_MOST} signatures")
