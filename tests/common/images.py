# SPDX-License-Identifier: GPL-2.0-only
"""What file systems, volume managers and partition tables begin with, written by hand: the few fields
that libblkid looks at. No program that makes them is needed."""

import struct
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
SIZE = 64 * MIB
UUID = uuid.UUID("5919c9da-c8f3-4c0a-a533-02eff295a2de")


def crc32c(data: bytes, value: int = 0xFFFFFFFF) -> int:
    """Castagnoli's, bit by bit, without the last inversion."""
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


def put(path: Path, offset: int, data: bytes) -> None:
    """Writes into a file that stands for a drive."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def ext4(path: Path, at: int = 0) -> None:
    block = bytearray(1024)
    struct.pack_into("<IIIIIIIIIII", block, 0, 16384, 16384, 819, 14000, 16000, 1, 2, 2, 8192, 8192, 2048)
    struct.pack_into("<HHHI", block, 0x36, 0xFFFF, 0xEF53, 1, 1)
    struct.pack_into("<IHH", block, 0x54, 11, 256, 0)
    struct.pack_into("<I", block, 0x4C, 1)  # dynamic revision
    struct.pack_into("<III", block, 0x5C, 0x3C, 0x2C2 | 0x40, 0x6B)  # extents: ext4 and not ext3
    block[0x68:0x78] = UUID.bytes
    block[0x78:0x7F] = b"archive"
    put(path, at + 1024, block)


def xfs(path: Path, at: int = 0) -> None:
    block = bytearray(512)
    # magic, block size, blocks, real-time blocks and extents
    struct.pack_into(">4sIQQQ", block, 0, b"XFSB", 4096, 16384, 0, 0)
    block[32:48] = UUID.bytes
    # log start, root, rbm, rsum inodes, rextsize, agblocks, agcount, rbmblocks, logblocks
    struct.pack_into(">QQQQIIIII", block, 48, 8196, 128, 129, 130, 1, 4096, 4, 0, 1024)
    # version, sector size, inode size, inodes per block, label, logs of the sizes
    struct.pack_into(">HHHH12s", block, 100, 0xB4A4, 512, 512, 8, b"")
    struct.pack_into(">BBBBBBBB", block, 120, 12, 9, 9, 3, 12, 0, 0, 25)
    struct.pack_into(">QQQQ", block, 128, 64, 61, 10000, 0)
    put(path, at, block)


def vfat(path: Path, at: int = 0) -> None:
    block = bytearray(512)
    block[0:3] = b"\xeb\x58\x90"
    block[3:11] = b"mkfs.fat"
    sectors = SIZE // 512
    # sector size, sectors a cluster, reserved, fats, root entries, sectors, media, fat length
    struct.pack_into("<HBHBHHBH", block, 11, 512, 1, 32, 2, 0, 0, 0xF8, 0)
    struct.pack_into("<HHIII", block, 24, 32, 8, 0, sectors, 1008)
    struct.pack_into("<HHIHH", block, 40, 0, 0, 2, 1, 6)
    block[66] = 0x29
    block[67:71] = b"\x12\x34\x56\x78"
    block[71:82] = b"NO NAME    "
    block[82:90] = b"FAT32   "
    block[510:512] = b"\x55\xaa"
    put(path, at, block)


def swap(path: Path, at: int = 0) -> None:
    page = bytearray(4096)
    struct.pack_into("<III", page, 1024, 1, SIZE // 4096 - 1, 0)
    page[1036:1052] = UUID.bytes
    page[4086:4096] = b"SWAPSPACE2"
    put(path, at, page)


def lvm(path: Path, at: int = 0) -> None:
    label = bytearray(512)
    struct.pack_into("<8sQIIQ", label, 0, b"LABELONE", 1, 0, 32, int.from_bytes(b"LVM2 001", "little"))
    label[32:64] = b"0123456789abcdefghijklmnopqrstuv"
    value = 0xF597A6CF
    for byte in label[20:]:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    struct.pack_into("<I", label, 16, value)
    put(path, at + 512, label)


def md(path: Path, at: int = 0) -> None:
    """Version 1.2: 4 KiB into the device."""
    block = bytearray(4096)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
    block[16:32] = UUID.bytes
    block[32:38] = b"host:0"
    struct.pack_into("<QIIQII", block, 64, 0, 1, 0, SIZE // 512 - 2048, 0, 2)
    struct.pack_into("<QQQ", block, 128, 2048, SIZE // 512 - 2048, 8)  # data offset, size, super offset
    struct.pack_into("<I", block, 220, 0)
    data = bytes(block[:256])
    total = sum(struct.unpack("<64I", data))
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32))
    put(path, at + 4096, block)


def _nvpair(name: bytes, value: int | bytes) -> bytes:
    """A name and its value, as ZFS writes them: XDR."""
    def padded(text: bytes) -> bytes:
        return struct.pack(">I", len(text)) + text + bytes(-len(text) % 4)

    if isinstance(value, bytes):
        rest = padded(name) + struct.pack(">II", 9, 1) + padded(value)
    else:
        rest = padded(name) + struct.pack(">IIQ", 8, 1, value)
    return struct.pack(">II", 8 + len(rest), 0) + rest


def zfs(path: Path, at: int = 0) -> None:
    """Uberblocks in the first two of the four labels, and what the pool is called: libblkid goes by the
    former before 2.40 and by the latter since."""
    pairs = b"".join(_nvpair(name, value) for name, value in (
        (b"version", 5000), (b"name", b"tank"), (b"state", 1), (b"txg", 100), (b"pool_guid", 77),
        (b"top_guid", 78), (b"guid", 79)))
    for label in (0, 256 << 10):
        put(path, at + label + (16 << 10), struct.pack(">4BII", 1, 1, 0, 0, 0, 1) + pairs + bytes(8))
        for number in range(16):
            uber = struct.pack("<QQQQQ", 0x00BAB10C, 5000, 100 + number, 1, 1)
            put(path, at + label + (128 << 10) + number * 1024, uber)


def luks(path: Path, at: int = 0) -> None:
    block = bytearray(1024)
    struct.pack_into(">6sH", block, 0, b"LUKS\xba\xbe", 1)
    block[168 : 168 + 36] = str(UUID).encode()
    put(path, at, block)


def spdk(path: Path, at: int = 0) -> None:
    """SPDK's blobstore: its superblock begins the device."""
    put(path, at, b"SPDKBLOB" + struct.pack("<IIII", 3, 4096, 1, 1))


def btrfs(path: Path, at: int = 0) -> None:
    block = bytearray(4096)
    block[32:48] = UUID.bytes
    struct.pack_into("<QQ8sQ", block, 48, 65536, 1, b"_BHRfS_M", 7)
    struct.pack_into("<QQQQQQIIII", block, 112, SIZE, 1 << 17, 6, 1, 1, 0, 4096, 16384, 16384, 4096)
    struct.pack_into("<I", block, 0, crc32c(bytes(block[32:])) ^ 0xFFFFFFFF)
    put(path, at + 65536, block)


def dos(path: Path, at: int = 0, *entries: tuple[int, int, int]) -> None:
    """A table of `entries`, each its type, first sector and sectors."""
    block = bytearray(512)
    block[440:444] = b"\x78\x56\x34\x12"
    for index, (kind, first, sectors) in enumerate(entries or [(0x83, 2048, 65536)]):
        struct.pack_into("<BBBBBBBBII", block, 446 + 16 * index, 0, 0, 2, 0, kind, 0, 0, 0, first, sectors)
    block[510:512] = b"\x55\xaa"
    put(path, at, block)


def _gpt_header(own: int, other: int, entries: int, table: bytes, last: int) -> bytes:
    header = bytearray(512)
    struct.pack_into("<8sIIII", header, 0, b"EFI PART", 0x10000, 92, 0, 0)
    struct.pack_into("<QQQQ16sQIII", header, 24, own, other, 34, last - 33, UUID.bytes_le, entries, 128,
                     128, zlib.crc32(table))
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header[:92])))
    return bytes(header)


def gpt(path: Path, at: int = 0, protective: bool = True) -> None:
    last = SIZE // 512 - 1
    table = bytearray(128 * 128)
    kind = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
    struct.pack_into("<16s16sQQ", table, 0, kind.bytes_le, UUID.bytes_le, 2048, 2048 + 65535)
    if protective:
        block = bytearray(512)
        struct.pack_into("<BBBBBBBBII", block, 446, 0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, last)
        block[510:512] = b"\x55\xaa"
        put(path, at, block)
    put(path, at + 512, _gpt_header(1, last, 2, bytes(table), last))
    put(path, at + 1024, table)
    put(path, at + (last - 32) * 512, table)
    put(path, at + last * 512, _gpt_header(last, 1, last - 32, bytes(table), last))


# Each with the name that libblkid has for it.
ALL: dict[str, Callable[[Path], None]] = {
    "spdk_blobstore": spdk,
    "ext4": ext4, "xfs": xfs, "vfat": vfat, "swap": swap, "LVM2_member": lvm,
    "linux_raid_member": md, "zfs_member": zfs, "crypto_LUKS": luks, "btrfs": btrfs,
    "gpt": gpt, "dos": dos,
}
