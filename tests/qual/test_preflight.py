# SPDX-License-Identifier: GPL-2.0-only
"""Each thing that preflight knows is found where it is, and not where it is not."""

import struct
from pathlib import Path

import pytest

from dmabuf_common import pci
from dmabuf_common.sysfs import System
from dmabuf_qual import preflight, preflight_needs
from dmabuf_qual.drive import Drive
from dmabuf_qual.errors import QualError

BASE = "/sys/devices/pci0000:00/0000:00:01.0"
DRIVE_AT, GPU_AT = "0000:03:00.0", "0000:04:00.0"


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def config(acs: int | None) -> bytes:
    space = bytearray(4096)
    if acs is not None:
        # AER first, ACS behind it.
        space[0x100:0x104] = struct.pack("<I", 0x0001 | 1 << 16 | 0x148 << 20)
        space[0x148:0x150] = struct.pack("<IHH", 0x000D | 1 << 16, 0x5F, acs)
    return bytes(space)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A switch at 02:00.0 with the drive and a GPU below it."""
    devices = tmp_path / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    for address, where, acs in (
        ("0000:00:01.0", BASE, None),
        ("0000:02:00.0", f"{BASE}/0000:02:00.0", 0),
        (DRIVE_AT, f"{BASE}/0000:02:00.0/{DRIVE_AT}", None),
        (GPU_AT, f"{BASE}/0000:02:00.0/{GPU_AT}", None),
    ):
        folder = tmp_path / where.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config").write_bytes(config(acs))
        (devices / address).symlink_to(folder)
    gpu = f"{BASE}/0000:02:00.0/{GPU_AT}"
    put(tmp_path, f"{gpu}/resource", "0x0000000010000000 0x000000001fffffff 0x0000000000140204")
    put(tmp_path, f"{gpu}/mem_info_vram_total", str(256 << 20))
    return tmp_path


def drive(**changes: object) -> Drive:
    values: dict[str, object] = {
        "path": "/dev/nvme0n1", "name": "nvme0n1", "disk": "nvme0n1", "controller": "nvme0",
        "pci": DRIVE_AT, "model": "M", "serial": "S", "firmware": "F", "bytes": 10**12, "block": 512,
        "metadata": 0, "multipath": False, "mdts": 524288, **changes,
    }
    return Drive(**values)  # type: ignore[arg-type]


def bad(checks: list[preflight.Check]) -> list[str]:
    return [check.name for check in checks if check.level != preflight.GREEN]


def test_below_one_switch_nothing_is_in_the_way(root: Path) -> None:
    system = System(root)
    assert pci.path_to_root(system, DRIVE_AT) == ["0000:02:00.0", "0000:00:01.0"]
    checks = [*preflight.bus(system, drive()), *preflight.route(system, drive(), GPU_AT)]
    assert bad(checks) == []
    assert any("0000:02:00.0" in check.text for check in checks)


def test_acs_that_redirects_is_found(root: Path) -> None:
    (root / BASE.lstrip("/") / "0000:02:00.0/config").write_bytes(config(0x1D))
    assert pci.redirecting(System(root), DRIVE_AT) == ["0000:02:00.0"]
    assert bad(preflight.route(System(root), drive(), GPU_AT)) == ["ACS_REDIRECT"]


def test_a_bar_smaller_than_the_memory_is_found(root: Path) -> None:
    put(root, f"{BASE}/0000:02:00.0/{GPU_AT}/mem_info_vram_total", str(16 << 30))
    checks = preflight.route(System(root), drive(), GPU_AT)
    assert bad(checks) == ["SMALL_BAR"]
    assert "256 of 16384 MiB" in next(c for c in checks if c.name == "SMALL_BAR").text


def test_no_common_bridge_is_found(root: Path) -> None:
    far = root / "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0"
    far.mkdir(parents=True)
    (root / "sys/bus/pci/devices/0000:81:00.0").symlink_to(far)
    assert "NO_P2P_ROUTE" in bad(preflight.route(System(root), drive(), "0000:81:00.0"))


def test_only_one_behind_an_iommu_is_found(root: Path) -> None:
    (root / BASE.lstrip("/") / f"0000:02:00.0/{GPU_AT}/iommu_group").mkdir()
    assert "IOMMU_UNMAPPED_PEER" in bad(preflight.route(System(root), drive(), GPU_AT))


def test_a_link_below_its_best_is_found(root: Path) -> None:
    at = f"{BASE}/0000:02:00.0/{DRIVE_AT}"
    for name, text in (("current_link_speed", "8.0 GT/s PCIe"), ("max_link_speed", "16.0 GT/s PCIe"),
                       ("current_link_width", "4"), ("max_link_width", "4")):
        put(root, f"{at}/{name}", text)
    assert bad(preflight.bus(System(root), drive())) == ["LINK_DOWNTRAINED"]
    assert bad(preflight.bus(System(root), drive(model="QEMU NVMe Ctrl"))) == []
    put(root, f"{at}/current_link_speed", "16.0 GT/s PCIe")
    assert bad(preflight.bus(System(root), drive())) == []


@pytest.mark.parametrize(
    ("limit", "mdts", "names"),
    [(128, 524288, ["SEGMENT_SPLIT"]), (512, 524288, []), (1280, 524288, []), (128, 0, ["SEGMENT_SPLIT"]),
     (128, None, [])],
)
def test_a_block_layer_that_cuts_is_found(
    root: Path, limit: int, mdts: int | None, names: list[str]
) -> None:
    put(root, "/sys/block/nvme0n1/queue/max_sectors_kb", str(limit))
    assert bad(preflight.cuts(System(root), drive(mdts=mdts))) == names


def test_a_module_without_its_device_is_a_containers_fault(root: Path) -> None:
    """A container sees its host's modules, and of the devices those that it was given."""
    put(root, "/sys/module/dmabuf_rw/version", "0.1.0")
    (check,) = preflight.module(System(root))
    assert check.level == preflight.RED and "no /dev/dmabuf_rw here" in check.text
    assert "--device /dev/dmabuf_rw" in check.remedy
    put(root, "/dev/dmabuf_rw", "")
    assert bad(preflight.module(System(root))) == []


def test_where_signed_modules_are_asked_for_preflight_says_so(root: Path) -> None:
    put(root, "/sys/kernel/security/lockdown", "[none] integrity confidentiality")
    (check,) = preflight.module(System(root))
    assert (check.text, check.remedy) == ("dmabuf_rw is not loaded", "modprobe dmabuf_rw")
    put(root, "/sys/kernel/security/lockdown", "none [integrity] confidentiality")
    (check,) = preflight.module(System(root))
    assert check.level == preflight.RED and "signed modules only (Secure Boot, or a parameter of Linux)" in check.text
    assert "one that is enrolled" in check.remedy and "docs/kernel-module.md, Secure Boot" in check.remedy
    put(root, "/sys/module/dmabuf_rw/version", "0.1.0")
    put(root, "/dev/dmabuf_rw", "")
    assert bad(preflight.module(System(root))) == []


def test_limits_of_udmabuf_and_what_is_not_there(root: Path) -> None:
    assert bad(preflight.module(System(root))) == ["module"]
    assert bad(preflight.udmabuf(System(root), 64)) == ["udmabuf"]
    put(root, "/dev/udmabuf", "")
    put(root, "/sys/module/udmabuf/parameters/size_limit_mb", "16")
    assert bad(preflight.udmabuf(System(root), 64)) == ["SIZE_CAP"]
    assert bad(preflight.udmabuf(System(root), 16)) == []
    put(root, "/proc/cmdline", "quiet swiotlb=force")
    put(root, "/proc/sys/kernel/io_uring_disabled", "2")
    assert bad(preflight.kernel(System(root), lambda: "EPERM")) == ["IO_URING_DISABLED", "BOUNCED"]
    assert bad(preflight.kernel(System(root), lambda: "")) == ["BOUNCED"], "it is allowed to this user"
    assert bad(preflight.exporters(System(root), ["udmabuf", "drm:/dev/dri/card7"])) == ["exporter"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"metadata": 8}, "METADATA"), ({"block": 8192}, "LBA_SIZE"), ({"controller": ""}, "NOT_NVME"),
     ({"pci": ""}, "NOT_NVME"), ({"mdts": None}, "MDTS"), ({"model": "QEMU NVMe Ctrl"}, "emulated"), ({"metadata": 64}, "METADATA")],
)
def test_what_a_drive_cannot_do_is_found(changes: dict[str, object], name: str) -> None:
    assert name in bad(preflight.drive(drive(**changes), None))
    assert name not in bad(preflight.drive(drive(), None))


def test_protection_information_of_eight_bytes_is_no_reason_to_stop() -> None:
    levels = {check.name: check.level for check in preflight.drive(drive(metadata=8), None)}
    assert levels["METADATA"] == preflight.YELLOW
    levels = {check.name: check.level for check in preflight.drive(drive(metadata=64), None)}
    assert levels["METADATA"] == preflight.RED


@pytest.mark.parametrize(
    ("model", "vendor", "emulated"),
    [("QEMU NVMe Ctrl", "", True), ("VMware Virtual NVMe Disk", "", True), ("ORCL-VBOX-NVME-VER12", "", True),
     ("Amazon Elastic Block Store", "", True), ("Amazon EC2 NVMe Instance Storage", "", True),
     ("nvme_card-pd", "", True), ("MSFT NVMe Accelerator v1.0", "", True), ("bhyve-NVMe", "", True),
     ("A disk", "0x1b36", True), ("A disk", "0x15ad", True), ("A disk", "0x80ee", True),
     ("A disk", "0x1d0f", True), ("A disk", "0x1ae0", True), ("A disk", "0x1414", True),
     ("SAMSUNG MZQL21T9HCJR-00A07", "0x144d", False), ("Micron_7450_MTFDKCC3T2TFS", "0x1344", False),
     ("Linuxium SSD", "0x8086", False)],
)
def test_a_drive_that_a_hypervisor_makes_up_is_emulated(model: str, vendor: str, emulated: bool) -> None:
    assert drive(model=model, vendor=vendor).emulated == emulated


def test_the_test_exporter_is_missed_before_the_run(root: Path) -> None:
    assert bad(preflight.testexp(System(root))) == ["TESTEXP"]
    put(root, "/dev/dmabuf_testexp", "")
    assert bad(preflight.testexp(System(root))) == []


def stops(*names: str) -> list[preflight.Check]:
    warned = [preflight.Check("SEGMENT_SPLIT", preflight.YELLOW, "w", "r")]
    return warned + [preflight.Check(name, preflight.RED, f"{name} is wrong", "mend it") for name in names]


def test_a_run_does_not_begin_where_preflight_says_stop() -> None:
    preflight.enforce(stops(), [])
    with pytest.raises(QualError, match="BOUNCED is wrong.*mend it.*--despite BOUNCED"):
        preflight.enforce(stops("BOUNCED"), [])
    with pytest.raises(QualError, match="SMALL_BAR is wrong"):
        preflight.enforce(stops("BOUNCED", "SMALL_BAR"), ["BOUNCED"])
    preflight.enforce(stops("BOUNCED", "SMALL_BAR"), ["SMALL_BAR", "BOUNCED"])


@pytest.mark.parametrize("name", sorted(preflight.NEEDED))
def test_nothing_can_be_done_without_what_a_run_needs(name: str) -> None:
    with pytest.raises(QualError, match=f"{name} is wrong; mend it$"):
        preflight.enforce(stops(name), [name])


def test_device_memory_that_a_run_asks_for_is_looked_at(root: Path) -> None:
    card = root / "sys/class/drm/card1"
    card.mkdir(parents=True)
    (card / "device").symlink_to(root / f"{BASE}/0000:02:00.0/{GPU_AT}".lstrip("/"))
    system = System(root)
    looked = preflight_needs.look(system, drive(), ["udmabuf", "drm:/dev/dri/card1", "heap"], "")
    assert preflight.peers(system, looked, None) == ([GPU_AT], [])
    assert preflight.peers(system, looked, "0000:05:00.0") == (["0000:05:00.0", GPU_AT], [])
    assert preflight.peers(system, looked, GPU_AT) == ([GPU_AT], [])


def test_every_finding_has_a_remedy(root: Path) -> None:
    checks = [*preflight.drive(drive(metadata=64, mdts=None), None), *preflight.module(System(root)),
              *preflight.kernel(System(root), lambda: "ENOMEM"), *preflight.udmabuf(System(root), 1)]
    assert all(check.remedy for check in checks if check.level != preflight.GREEN)
    assert "stop  METADATA" in preflight.table(checks, colour=False)


def test_a_disk_that_is_not_nvme_is_not_asked_what_only_nvme_tells() -> None:
    """A virtual machine's own disk had 'run as root' three times, for root."""
    found = drive(controller="", pci="", mdts=None)
    assert [check.name for check in preflight.drive(found, None)] == ["drive", "NOT_NVME"]
    assert not preflight.iommu(System(Path("/nowhere")), found)
