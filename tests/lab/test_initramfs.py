# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs has its modules in an order in which they load, in an archive that cpio can read."""

import shutil
import subprocess
from pathlib import Path

import pytest
from dmabuf_lab import initramfs
from dmabuf_lab.errors import LabError

MODULES_DEP = """\
kernel/fs/netfs/netfs.ko.xz:
kernel/net/9p/9pnet.ko.xz: kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/drivers/gpu/virtio-gpu.ko:
"""


def test_what_is_built_in_is_not_loaded() -> None:
    builtin = "kernel/fs/overlayfs/overlay.ko\n"
    order = initramfs.load_order(MODULES_DEP, ["overlay", "virtio_gpu"], builtin)
    assert order == ["kernel/drivers/gpu/virtio-gpu.ko"]


def test_a_module_comes_after_what_it_needs_and_only_once() -> None:
    order = initramfs.load_order(MODULES_DEP, ["9pnet_virtio", "9p"])
    names = [Path(path).name for path in order]
    assert names == ["netfs.ko.xz", "9pnet.ko.xz", "9pnet_virtio.ko.xz", "9p.ko.xz"]


def test_dashes_and_underscores_in_file_names_are_the_same() -> None:
    assert initramfs.load_order(MODULES_DEP, ["virtio_gpu"]) == ["kernel/drivers/gpu/virtio-gpu.ko"]


def test_a_missing_module_is_named() -> None:
    with pytest.raises(LabError, match="overlay"):
        initramfs.load_order(MODULES_DEP, ["overlay"])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="the host has no cpio to read it with")
def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5
    archive = initramfs.cpio(["d"], {"d/f": (0o755, content), "g": (0o644, b"")})
    subprocess.run(["cpio", "-id", "--quiet"], cwd=tmp_path, input=archive, check=True)
    assert (tmp_path / "d/f").read_bytes() == content
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "g").read_bytes() == b""


def test_every_member_is_aligned_to_four_bytes() -> None:
    archive = initramfs.cpio(["a", "bc"], {"def": (0o644, b"12345")})
    assert len(archive) % 4 == 0
    assert archive.startswith(b"070701")
    assert b"TRAILER!!!" in archive


def test_a_kernel_with_virtio_as_modules_gets_them_before_the_root_is_mounted() -> None:
    first = initramfs.FIRST_MODULES
    assert first.index("virtio_pci") < first.index("9pnet_virtio")
    assert "virtio_console" in first
