# SPDX-License-Identifier: GPL-2.0-only
"""What is there is read, and what is not is "", whoever's folder stands for the machine."""

from pathlib import Path

from dmabuf_common.sysfs import System, is_pci_address, pci_parts


def put(root: Path, name: str, text: str = "") -> Path:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def link(root: Path, name: str, to: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(root / to.lstrip("/"))


def test_a_file_loses_white_space_and_nul_at_its_ends(tmp_path: Path) -> None:
    put(tmp_path, "/sys/a", " x y \n")
    put(tmp_path, "/sys/compatible", "virt\0")
    system = System(tmp_path)
    assert system.read("/sys/a") == "x y"
    assert system.read("/sys/compatible") == "virt"


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    put(tmp_path, "/sys/word", "none")
    system = System(tmp_path)
    assert (system.read("/x"), system.real("/x"), system.data("/x")) == ("", "", b"")
    assert (system.names("/x"), system.pci_chain("sda")) == ([], [])
    assert (system.number("/x"), system.number("/sys/word"), system.exists("/x")) == (None, None, False)
    assert (system.controller("sda"), system.nvme_controller("sda")) == ("", "")


def test_a_kernel_that_is_locked_down_or_was_told_so_takes_signed_modules_only(tmp_path: Path) -> None:
    system = System(tmp_path)
    assert not system.signed_modules_only()
    put(tmp_path, "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    put(tmp_path, "/sys/module/module/parameters/sig_enforce", "N\n")
    assert not system.signed_modules_only()
    put(tmp_path, "/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert system.signed_modules_only()
    put(tmp_path, "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    put(tmp_path, "/sys/module/module/parameters/sig_enforce", "Y\n")
    assert system.signed_modules_only()


def test_numbers_folders_and_links_are_those_of_the_root(tmp_path: Path) -> None:
    put(tmp_path, "/sys/b/n", "-1\n")
    put(tmp_path, "/sys/b/m", "m")
    link(tmp_path, "/sys/l", "/sys/b")
    system = System(tmp_path)
    assert system.number("/sys/l/n") == -1
    assert system.names("/sys/l") == ["m", "n"]
    assert system.real("/sys/l") == "/sys/b"
    assert not system.real_machine and System().real_machine


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    (tmp_path / "sys/folder").mkdir(parents=True)
    assert (System(tmp_path).read("/sys/folder"), System(tmp_path).data("/sys/folder")) == ("", b"")


def test_a_pci_address_may_have_a_long_domain() -> None:
    # Behind Intel's VMD.
    assert is_pci_address("10000:e1:00.0") and is_pci_address("0000:01:00.0")
    for text in ("pci0000:00", "0000:00", "0000:01:00.8", "00:01.0", "nvme0", "0000:01:00.0x"):
        assert not is_pci_address(text)
    path = "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:1b.0/10000:e1:00.0/nvme/nvme0"
    assert pci_parts(path) == ["0000:00:0e.0", "10000:e0:1b.0", "10000:e1:00.0"]


def test_the_controller_of_a_namespace_is_found(tmp_path: Path) -> None:
    controller = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme3"
    put(tmp_path, f"{controller}/nvme3n1/size", "8")
    link(tmp_path, f"{controller}/nvme3n1/device", controller)
    link(tmp_path, "/sys/block/nvme3n1", f"{controller}/nvme3n1")
    system = System(tmp_path)
    assert system.nvme_controller("nvme3n1") == "nvme3"
    assert system.controller("nvme3n1") == controller
    assert system.pci_chain("nvme3n1") == ["0000:00:01.0", "0000:01:00.0"]


def test_a_multipath_head_has_the_controller_of_its_first_path(tmp_path: Path) -> None:
    subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    controller = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0"
    put(tmp_path, f"{subsystem}/nvme0n1/size", "8")
    put(tmp_path, f"{controller}/model", "M")
    link(tmp_path, f"{subsystem}/nvme0", controller)
    link(tmp_path, f"{subsystem}/nvme0n1/device", subsystem)
    link(tmp_path, "/sys/block/nvme0n1", f"{subsystem}/nvme0n1")
    system = System(tmp_path)
    assert system.nvme_controller("nvme0n1") == "nvme0"
    assert system.controller("nvme0n1") == controller
    assert system.pci_chain("nvme0n1") == ["0000:00:01.0", "0000:01:00.0"]


def test_a_disk_that_is_not_nvme_has_its_device(tmp_path: Path) -> None:
    put(tmp_path, "/sys/devices/ata1/block/sda/size", "8")
    link(tmp_path, "/sys/devices/ata1/block/sda/device", "/sys/devices/ata1")
    link(tmp_path, "/sys/block/sda", "/sys/devices/ata1/block/sda")
    system = System(tmp_path)
    assert (system.nvme_controller("sda"), system.controller("sda")) == ("", "/sys/devices/ata1")
