# SPDX-License-Identifier: GPL-2.0-only
"""Addresses of the kernel are found in what a guest shows, and other numbers are not taken for one."""

import pytest
from dmabuf_lab import addresses

ADDRESSES = [
    "buffer at ffff888104c58a00",
    "buffer at 0xFFFF888104C58A00.",
    "pages=ffffea0004131600 count=3",
    "dmabuf_rw_map=ffffffffc0a01045",
    "(0xffffc90000a3fe48)",
    "vmemmap:0xffffea0000000000,",
    "dma_addr=0xfffff000",
    "dma 0x10a4f2000",
    "DMA address: 0x00000001fe000000",
    "phys=0x7ff0000",
    "physical address 0x104c58000",
    "iova: 0xffe00000 length 4096",
    "prp1=0xfffdf000 prp2=0x0",
]

OTHERS = [
    "",
    "error=0xffffffffffffffff",
    "mask ffffffffffffffff",
    "page mask 0xfffffffffffff000",
    "errno as a number: fffffffffffffff4",
    "hashed pointer 00000000a1b2c3d4",
    "(____ptrval____)",
    "user address 0x7f3a5c000000",
    "sha256 ffff888104c58a00ffff888104c58a00ffff888104c58a00ffff888104c58a00",
    "uuid ffff8881-04c5-8a00-ffff-888104c58a00",
    "name_ffff888104c58a00",
    "file_offset=0x10a4f2000 buffer_offset=0x1000",
    "dma_debug_entries=262144",
    "dma-buf 0x10 objects",
    "dma_addr=0x0",
    "physical_block_size 4096",
    "ffff 8881 04c5 8a00",
]


@pytest.mark.parametrize("line", ADDRESSES)
def test_an_address_is_found(line: str) -> None:
    assert addresses.shows_address(line)


@pytest.mark.parametrize("line", OTHERS)
def test_other_numbers_are_no_addresses(line: str) -> None:
    assert not addresses.shows_address(line)


def test_of_the_kernels_log_our_modules_lines_count_only() -> None:
    ours = "dmabuf_testexp: page ffffea0004131600"
    assert addresses.in_log([ours, "nvme: page ffffea0004131600", ours, "dmabuf_rw: fine"]) == [ours]


def fed(*parts: bytes) -> list[str]:
    output = addresses.Output()
    for part in parts:
        output.feed(part)
    output.end()
    return output.found


def test_an_address_is_found_however_the_output_is_split() -> None:
    text = b"first\nbuffer at ffff888104c58a00 of 3\nlast"
    for place in range(len(text)):
        assert fed(text[:place], text[place:]) == ["buffer at ffff888104c58a00 of 3"]


def test_a_last_line_without_an_end_is_looked_at() -> None:
    assert fed(b"ok\n0xffff888104c58a00") == ["0xffff888104c58a00"]


def test_a_line_longer_than_is_kept_is_looked_at() -> None:
    far = b"x" * (addresses.LONGEST_LINE - 8)
    assert len(fed(far, b" ffff888104c58a00 ", far)) == 1
    assert len(fed(far, b" ffff8881", b"04c58a00 ", far)) == 1


def test_the_kernels_log_in_the_output_is_judged_as_such() -> None:
    assert fed(b"[    3.100000] DMAR: ffff888104c58a00\n") == []
    line = "[    3.100000] dmabuf_rw: ffff888104c58a00"
    assert fed(line.encode()) == [line]


def test_bytes_that_are_no_text_do_no_harm_and_only_the_first_lines_are_kept() -> None:
    assert fed(bytes(range(256)) * 100) == []
    assert len(fed(b"ffff888104c58a00\n" * 100)) == addresses.KEPT_LINES
