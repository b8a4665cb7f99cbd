# SPDX-License-Identifier: GPL-2.0-only
"""What the lab consists of: kernels, packages, suites. The only place to change any of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelSeries:
    """A kernel series; the newest release of it that the archive has is taken.

    name:     as given to --kernel
    suite:    the Debian suite to ask for it
    version:  the first two numbers of the version
    realtime: the real-time flavour
    setup:    the set-up of the lab brings it; any other is fetched when it is first asked for
    compiler: packages of the same suite with the compiler that built it, where the lab root has another
    lacks:    devices of a guest that Debian builds this kernel without
    arch:     the architecture
    pages:    the size of its pages
    """

    name: str
    suite: str
    version: str
    realtime: bool = False
    setup: bool = False
    compiler: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    arch: str = "amd64"
    pages: str = "4k"

    @property
    def flavour(self) -> str:
        """The end of its release, which Debian's packages are named by."""
        before = "rt-" if self.realtime else ""
        after = "" if self.pages == "4k" else f"-{self.pages}"
        return f"{before}{self.arch}{after}"


SUITE = "trixie"
BACKPORTS = "trixie-backports"
SECURITY = "trixie-security"
UPDATES = "trixie-updates"

# Every stock kernel, the only list of them. The first one is the default of --kernel.
KERNELS = (
    KernelSeries("7.3", BACKPORTS, "7.3", setup=True),
    KernelSeries("6.12", SUITE, "6.12", setup=True),
    KernelSeries("7.2", BACKPORTS, "7.2"),
    KernelSeries("7.3-rt", BACKPORTS, "7.3", realtime=True),
    KernelSeries(
        "6.1",
        "bookworm",
        "6.1",
        compiler=("gcc-12", "cpp-12"),
        lacks=("/dev/udmabuf", "/dev/dma_heap/system"),
    ),
)
SETUP_KERNELS = tuple(series for series in KERNELS if series.setup)

ARCHITECTURES = ("amd64", "arm64")
# The sizes of pages that there are kernels for.
PAGES = {"amd64": ("4k",), "arm64": ("4k", "16k")}
# The stock kernels for arm64, as given to --kernel. All are fetched when they are first asked for.
_ARM64 = ("7.3", "6.12", "7.2")
ARM64_KERNELS = tuple(
    KernelSeries(
        f"{series.name}-arm64" + ("" if pages == "4k" else f"-{pages}"),
        series.suite,
        series.version,
        arch="arm64",
        pages=pages,
        # Debian builds no kernel for arm64 with DMA heaps.
        lacks=("/dev/dma_heap/system",),
    )
    for series in KERNELS
    if series.name in _ARM64
    for pages in PAGES["arm64"]
)

# The series whose source the debug kernels are built from; the package is taken from BACKPORTS.
DEBUG_SERIES = "7.3"
DEBUG_KERNEL = "debug"
# The debug kernels, as given to --kernel: the file with what each has that debug-kernel.config has not.
DEBUG_FLAVOURS: dict[str, str | None] = {
    DEBUG_KERNEL: None,
    "kcsan": "kcsan-kernel.config",
    "debug-rt": "debug-rt-kernel.config",
}

FIO_VERSION = "3.41"
# The fio that the tests of the host bring: one whose source the archive keeps, and another than the lab's.
TEST_FIO_VERSION = "3.33"
# What of fio is left out where it is built here.
FIO_CONFIGURE = (
    "--disable-native --disable-http --disable-gfapi --disable-rbd --disable-rdma --disable-pmem "
    "--disable-libzbc --disable-lex --disable-xnvme"
)

# Suites asked for a fio source package, in this order, after the host's own suite.
FIO_SOURCE_SUITES = ("sid", "forky", "trixie", "bookworm")

# Nothing here may pull in an initramfs generator or a boot loader: the lab boots kernels directly.
PACKAGES = (
    "apt",
    "bc",
    "bison",
    "btrfs-progs",
    "build-essential",
    "busybox-static",
    "ca-certificates",
    "ccache",
    "cmake",
    "cpio",
    "dmsetup",
    "dpkg-dev",
    "e2fsprogs",
    "f2fs-tools",
    "fdisk",
    "flex",
    "gdb",
    "iproute2",
    "ipxe-qemu",
    "kmod",
    "libaio-dev",
    "libdrm-dev",
    "libelf-dev",
    "libgtest-dev",
    "libnuma-dev",
    "liburing-dev",
    "lvm2",
    "mdadm",
    "ninja-build",
    "nvme-cli",
    "pahole",
    "pciutils",
    "pkg-config",
    "procps",
    "python3",
    "qemu-system-x86",
    "seabios",
    "sparse",
    "strace",
    "udev",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zlib1g-dev",
)

# For arm64: the root with the cross compilers and QEMU. A word may name a suite after a slash.
ARM64_TOOLS = (
    "bc",
    "ccache",
    "cmake",
    "g++-14-aarch64-linux-gnu",
    "gcc-14-aarch64-linux-gnu",
    "ipxe-qemu",
    "kmod",
    "libaio-dev:arm64",
    "libdrm-dev:arm64",
    "libelf1t64",
    "libnuma-dev:arm64",
    "liburing-dev:arm64",
    # Tests of vfio need headers of Linux 7.
    f"linux-libc-dev-arm64-cross/{BACKPORTS}",
    "make",
    "ninja-build",
    "pahole",
    # kernel-doc of 6.12, which W=1 runs.
    "perl",
    "pkg-config",
    "qemu-system-arm",
    "zlib1g-dev:arm64",
)
# For arm64: the root of the guest. Its packages are unpacked, and no script of theirs runs.
ARM64_GUEST = (
    "base-files",
    "base-passwd",
    "bash",
    "btrfs-progs",
    "busybox-static",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dmsetup",
    "e2fsprogs",
    "f2fs-tools",
    "fdisk",
    "findutils",
    "grep",
    "gzip",
    "iproute2",
    "kmod",
    "libaio1t64",
    "libdrm2",
    "libnuma1",
    "libstdc++6",
    "liburing2",
    "lvm2",
    "mawk",
    "mdadm",
    "nvme-cli",
    "pciutils",
    "procps",
    "python3",
    "sed",
    "strace",
    "tar",
    "udev",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zlib1g",
)

# For --secure-boot: the firmware, the boot loader that Microsoft signed, and what the guest has besides.
SECURE_BOOT_PACKAGES = (
    "ovmf",
    "shim-signed",
    "shim-helpers-amd64-signed",
    "grub-efi-amd64-signed",
    "mokutil",
    "libefivar1t64",
)

# Shown by `dmabuf-lab info`, with the versions that were taken.
SHOWN_PACKAGES = (
    "cmake",
    "g++",
    "gcc-14",
    "libc6",
    "libdrm-dev",
    "liburing-dev",
    "nvme-cli",
    "pahole",
    "python3",
    "qemu-system-x86",
    "sparse",
)

MINIMUM_QEMU = (10, 0)

# What the host needs for set-up; each brings what it needs itself.
HOST_PACKAGES = ("mmdebstrap", "debian-archive-keyring")

# Where the guest and the build chroot see the checkout, and the products in it.
GUEST_SOURCE = "/src"
BUILD_DIR = "build/lab"
# The products for arm64. A guest of that architecture sees them at BUILD_DIR.
ARM64_BUILD_DIR = "build/lab-arm64"
ENGINE = f"{GUEST_SOURCE}/{BUILD_DIR}/engine/libdmabuf.so"
FIO_SOURCE = f"/usr/local/src/fio-{FIO_VERSION}"

DEFAULT_TIMEOUT_S = 600
# A guest that is not ready by then hangs: it takes 10 s on an idle machine, the debug kernel 25 s.
BOOT_S = 240
DEFAULT_MEMORY_MIB = 2048
# The debug kernel is several times slower, and an eighth of its memory is shadow.
DEBUG_TIMEOUT_S = 1800
DEBUG_BOOT_S = 600
DEBUG_MEMORY_MIB = 4096
# Linux lets PCI peers talk through the host bridge of a Zen processor.
DEFAULT_CPU = "EPYC"
# Not cortex-a72: it has no pages of 16 KiB.
ARM64_CPU = "neoverse-n1"
DEFAULT_SMP = 2
DISK_BYTES = 1 << 30
# With --icount an instruction takes 1 ns << this.
DEFAULT_ICOUNT_SHIFT = 1
P2P_BAR_MIB = 16

_FOUR_KIB = "logical_block_size=4096,physical_block_size=4096"

# The namespaces of the drive that --formats adds, by number from 1: what it is, and QEMU's words for it.
# Tests know them by number: append, never insert.
FORMATS = (
    ("zoned", f"zoned=on,zoned.zone_size=4M,{_FOUR_KIB}"),
    ("metadata", "ms=8"),
    ("protection information", "ms=8,pi=1"),
    ("4 KiB blocks", _FOUR_KIB),
    ("extended protection information", "ms=8,mset=1,pi=1"),
    # Linux cannot read or write its blocks: the block device is there, and has no sectors.
    ("extended metadata", "ms=16,mset=1"),
    ("4 KiB blocks with protection information", f"{_FOUR_KIB},ms=8,pi=1"),
    ("4 KiB blocks with extended protection information", f"{_FOUR_KIB},ms=8,mset=1,pi=1"),
    ("4 KiB blocks with 64 bytes of metadata", f"{_FOUR_KIB},ms=64"),
    ("protection information of type 3", "ms=8,pi=3"),
    ("protection information with a 64-bit guard", "ms=16,pif=2,pi=1"),
    # Larger than a page: for older kernels a block device without sectors.
    ("16 KiB blocks", "logical_block_size=16384,physical_block_size=16384"),
    # The drive makes and strips no more than the protection information.
    ("protection information in 64 bytes of metadata", "ms=64,pi=1"),
)
# The drives that --topology adds, by what follows "lab-" in their serial numbers, and the port of each.
BRANCHES = {
    "port-a": "root port",
    "port-b": "root port",
    "left": "switch",
    "right": "switch",
    "far": "node 1",
}
BRANCH_BYTES = 256 << 20
# The other root complex's first bus, which leaves the first one more than QEMU ever needs.
FAR_BUS = 128

# As much as the smallest drive that dmabuf-qual takes has, and more.
FORMAT_BYTES = 128 << 20


@dataclass(frozen=True)
class BadSectors:
    """Sectors of 512 bytes of the drive that --errors adds, which fail with a medium error.

    variable: the environment variable that tells the guest the numbers of the sectors
    access:   "read" or "write": what fails
    once:     only the first command that touches the sector fails
    """

    variable: str
    access: str
    once: bool
    sectors: tuple[int, ...]


# 2 MiB between two of them: room for transfers that touch one of them only, and for some that touch none.
BAD_SECTORS = (
    BadSectors("LAB_BAD_READ", "read", False, tuple(range(4096, 20480, 4096))),
    BadSectors("LAB_BAD_WRITE", "write", False, tuple(range(20480, 36864, 4096))),
    BadSectors("LAB_BAD_READ_ONCE", "read", True, tuple(range(36864, 77824, 4096))),
    BadSectors("LAB_BAD_WRITE_ONCE", "write", True, tuple(range(77824, 118784, 4096))),
)
ERRORS_BYTES = 64 << 20
