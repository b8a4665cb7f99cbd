# SPDX-License-Identifier: GPL-2.0-only
"""Takes the kernel itself out of a compressed image, so that no emulated CPU has to.

An x86 image (bzImage, Documentation/arch/x86/boot.rst of Linux) is a program that unpacks the kernel and starts it.
Emulated, that is a fifth of the work of a boot. QEMU starts an unpacked kernel by the entry that Xen's PVH guests have, if
the kernel has one (CONFIG_PVH; Debian's have). What else the program would have done is left out: a random address for the
kernel and for what it maps (KASLR), and five levels of page tables.
"""

import ctypes
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator

# The boot protocol's header, and what it says where.
MAGIC_AT, MAGIC = 0x202, b"HdrS"
VERSION_AT = 0x206
# The first version that says where the payload is.
WITH_PAYLOAD = 0x0208
SETUP_SECTORS_AT = 0x1F1
PAYLOAD_AT = 0x248
SECTOR = 512
# The last bytes of the payload: the size of what it unpacks to. gzip ends in it; for others the kernel's build adds it.
SIZE = struct.Struct("<I")
# Nothing vouches for these bytes: a kernel is not larger.
LARGEST = 1 << 30

PT_NOTE = 4
# Of the notes of "Xen": where PVH guests begin (XEN_ELFNOTE_PHYS32_ENTRY).
PVH_ENTRY = 18


def _to_its_end(unpacker: "zlib._Decompress | lzma.LZMADecompressor", data: bytes, size: int) -> bytes:
    """With the checksum that is at the end."""
    kernel = unpacker.decompress(data, size + 1)
    if not unpacker.eof:
        raise ValueError("it does not end there")
    return kernel


def _gzip(data: bytes, size: int) -> bytes:
    return _to_its_end(zlib.decompressobj(zlib.MAX_WBITS | 16), data, size)


def _xz(data: bytes, size: int) -> bytes:
    return _to_its_end(lzma.LZMADecompressor(), data[: -SIZE.size], size)


def _zstd(data: bytes, size: int) -> bytes:
    """By the library that Debian's dpkg needs. The kernel's frame does not say its size, and the kernel does it in one go, too."""
    library = ctypes.CDLL("libzstd.so.1")
    sized, decompress, failed = library.ZSTD_findFrameCompressedSize, library.ZSTD_decompress, library.ZSTD_isError
    for function in (sized, decompress):
        function.restype = ctypes.c_size_t
    sized.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    failed.argtypes = [ctypes.c_size_t]
    frame = sized(data, len(data) - SIZE.size)
    if failed(frame):
        raise ValueError("no frame of zstd")
    room = ctypes.create_string_buffer(size)
    got = decompress(room, size, data, frame)
    if failed(got):
        raise ValueError("zstd cannot unpack it")
    return ctypes.string_at(room, got)


# By what the compressed kernel begins with.
UNPACK: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"\x1f\x8b\x08": _gzip,
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def _payload(image: bytes) -> bytes:
    """The compressed kernel of an image, with its size behind it; b"" if it is no such image."""
    if image[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        return b""
    if struct.unpack_from("<H", image, VERSION_AT)[0] < WITH_PAYLOAD:
        return b""
    begin = ((image[SETUP_SECTORS_AT] or 4) + 1) * SECTOR
    offset, length = struct.unpack_from("<II", image, PAYLOAD_AT)
    payload = image[begin + offset :][:length]
    return payload if len(payload) == length else b""


def _notes(kernel: bytes) -> Iterator[tuple[bytes, int]]:
    """The owner and the type of each note of an ELF file of 64 bits."""
    table, entry, count = (struct.unpack_from(form, kernel, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56)))
    for number in range(count):
        kind, _, at, _, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", kernel, table + number * entry)
        end = at + size
        while kind == PT_NOTE and at + 12 <= end:
            name, body, note = struct.unpack_from("<III", kernel, at)
            yield kernel[at + 12 : at + 12 + name].rstrip(b"\0"), note
            at += 12 + (name + 3 & ~3) + (body + 3 & ~3)


def _unpacked(image: bytes) -> bytes | None:
    payload = _payload(image)
    unpack = next((way for begin, way in UNPACK.items() if payload.startswith(begin)), None)
    if unpack is None:
        return None
    size: int = SIZE.unpack(payload[-SIZE.size :])[0]
    if size > LARGEST:
        raise ValueError("no kernel is so large")
    kernel = unpack(payload, size)
    good = len(kernel) == size and kernel[:5] == b"\x7fELF\x02" and (b"Xen", PVH_ENTRY) in _notes(kernel)
    return kernel if good else None


def unpacked(image: bytes) -> bytes | None:
    """The kernel of an x86 image as an ELF file that QEMU can start; None if the image has to start it itself: it is of
    another kind, is compressed by something else, is damaged, or has no entry for that, or this machine has no libzstd."""
    try:
        return _unpacked(image)
    except (ArithmeticError, AttributeError, EOFError, OSError, ValueError, lzma.LZMAError, struct.error, zlib.error):
        return None
