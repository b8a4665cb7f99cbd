# SPDX-License-Identifier: GPL-2.0-only
"""What is taken out of a compressed kernel is the kernel, whole, and only one that QEMU can start."""

import ctypes
import gzip
import lzma
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dmabuf_lab import kernel_image, qemu
from dmabuf_lab.guest_kernel import GuestKernel


def note(owner: bytes, kind: int, body: bytes) -> bytes:
    """One note of an ELF file."""
    padded = [part + bytes(-len(part) % 4) for part in (owner + b"\0", body)]
    return struct.pack("<III", len(owner) + 1, len(body), kind) + b"".join(padded)


LINUX = note(b"Linux", 18, b"7.3.4")
PVH = note(b"Xen", 18, bytes(4))


def elf(*notes: bytes) -> bytes:
    """A kernel with these notes, of an odd size, that does not compress away."""
    body = b"".join(notes)
    head = b"\x7fELF\x02" + bytes(27) + struct.pack("<QQIHHHHHH", 64, 0, 0, 64, 56, 2, 0, 0, 0)
    text = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 64, 64, 0)
    noted = struct.pack("<IIQQQQQQ", 4, 4, 64 + 112, 0, 0, len(body), len(body), 4)
    return head + text + noted + body + random.Random(7).randbytes(300_001)


def zstd(data: bytes) -> bytes:
    """As the kernel's build compresses it."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_compress2.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(len(data) + 4096)
    context = ctypes.c_void_p(library.ZSTD_createCCtx())
    # ZSTD_c_checksumFlag, which the program that the build uses sets.
    library.ZSTD_CCtx_setParameter(context, 201, 1)
    sizes = ctypes.c_size_t(len(room)), ctypes.c_size_t(len(data))
    got = library.ZSTD_compress2(context, room, sizes[0], ctypes.c_char_p(data), sizes[1])
    library.ZSTD_freeCCtx(context)
    return room.raw[:got]


def xz(data: bytes) -> bytes:
    """The same, with its filter for the addresses of x86."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)


def image(compressed: bytes, size: int, setup: int = 39, version: int = 0x20F) -> bytes:
    """A bzImage that has it as its payload."""
    head = bytearray((setup + 1) * 512)
    head[0x1F1] = setup
    head[0x202:0x208] = b"HdrS" + struct.pack("<H", version)
    # gzip ends in the size already.
    payload = compressed if compressed[:2] == b"\x1f\x8b" else compressed + struct.pack("<I", size)
    struct.pack_into("<II", head, 0x248, 716, len(payload))
    return bytes(head) + b"\xcc" * 716 + payload + b"\xcc" * 4096


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd])
def test_the_kernel_comes_out_byte_for_byte(compress: Callable[[bytes], bytes]) -> None:
    kernel = elf(LINUX, PVH)
    assert kernel_image.unpacked(image(compress(kernel), len(kernel))) == kernel


def test_a_kernel_without_the_entry_starts_itself() -> None:
    kernel = elf(LINUX)
    assert kernel_image.unpacked(image(gzip.compress(kernel), len(kernel))) is None


@pytest.mark.parametrize("compress", [gzip.compress, xz, zstd])
def test_what_is_cut_off_or_damaged_is_not_taken(compress: Callable[[bytes], bytes]) -> None:
    kernel = elf(PVH)
    good = compress(kernel)
    for bad in (good[:-40_000], good[:5000] + bytes(1000) + good[6000:]):
        assert kernel_image.unpacked(image(bad, len(kernel))) is None
    for size in (len(kernel) - 1, len(kernel) + 1, (1 << 32) - 1):
        wrong = good[:-4] + struct.pack("<I", size) if compress is gzip.compress else good
        assert kernel_image.unpacked(image(wrong, size)) is None


def test_other_images_start_themselves() -> None:
    kernel = elf(PVH)
    good = image(gzip.compress(kernel), len(kernel))
    assert kernel_image.unpacked(image(b"\x02!L\x18" + zlib.compress(kernel), len(kernel))) is None
    assert kernel_image.unpacked(image(gzip.compress(kernel), len(kernel), version=0x207)) is None
    assert kernel_image.unpacked(good[: len(good) // 2]) is None
    # arm64's, and what is no kernel at all.
    for other in (b"MZ" + bytes(0x4000), kernel, b"", b"HdrS"):
        assert kernel_image.unpacked(other) is None


def test_what_ends_in_its_header_starts_itself() -> None:
    kernel = elf(PVH)
    good = image(gzip.compress(kernel), len(kernel))
    for size in range(0x1F0, 0x260):
        assert kernel_image.unpacked(good[:size]) is None


def test_tables_that_lead_out_of_the_kernel_are_not_followed() -> None:
    kernel = elf(PVH)
    for wrong in (1 << 63, (1 << 64) - 1, len(kernel)):
        bad = kernel[:32] + struct.pack("<Q", wrong) + kernel[40:]
        assert kernel_image.unpacked(image(gzip.compress(bad), len(bad))) is None


def test_only_stock_kernels_of_amd64_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = elf(PVH)
    file = tmp_path / "vmlinuz"
    file.write_bytes(image(gzip.compress(kernel), len(kernel)))
    made = GuestKernel("7.3", file, tmp_path, stock=True)
    assert made.body() == kernel
    assert replace(made, stock=False).body() is None and replace(made, arch="arm64").body() is None
    assert capsys.readouterr().err == ""
    file.write_bytes(b"")
    assert made.body() is None and "has to unpack itself" in capsys.readouterr().err


def test_qemu_starts_what_was_taken_out_of_the_image() -> None:
    kernel = GuestKernel("7.3", Path("/root/vmlinuz"), Path("/root/usr/lib/modules/7.3"))
    channels = {name: 20 for name in (qemu.CONSOLE, *qemu.PORTS)}
    for fd, started in ((None, "/root/vmlinuz"), (7, "/proc/self/fd/7")):
        fds = qemu.Descriptors(10, 11, 12, channels, kernel=fd)
        words = qemu.arguments(Path("/root"), kernel, Path("/checkout"), qemu.Machine("7.3"), fds)
        assert words[words.index("-kernel") + 1] == started
        assert (7 in fds.all()) == (fd is not None)
