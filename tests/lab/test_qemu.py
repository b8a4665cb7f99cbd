# SPDX-License-Identifier: GPL-2.0-only
"""The machine has the devices that were asked for, and the names that tests rely on."""

from pathlib import Path

from dmabuf_lab import config, qemu
from dmabuf_lab.guest_kernel import GuestKernel

KERNEL = GuestKernel("7.3", Path("/root/vmlinuz"), Path("/root/usr/lib/modules/7.3"))


def devices(machine: qemu.Machine) -> list[dict[str, str]]:
    """The -device options of a machine, each as a table; the driver's name is its "driver"."""
    formats = range(50, 50 + len(config.FORMATS)) if machine.formats else ()
    fds = qemu.Descriptors(
        initrd=10,
        nvme=11,
        virtio=12,
        channels={name: 20 + i for i, name in enumerate((qemu.CONSOLE, *qemu.PORTS))},
        formats=tuple(formats),
        qmp=(30, 31) if machine.qmp else (),
    )
    words = qemu.arguments(Path("/root"), KERNEL, Path("/checkout"), machine, fds)
    found = []
    for option, value in zip(words, words[1:], strict=False):
        if option == "-device":
            driver, *settings = value.split(",")
            found.append({"driver": driver, **dict(word.split("=", 1) for word in settings)})
    return found


def spaces(machine: qemu.Machine, bus: str) -> list[dict[str, str]]:
    """The namespaces that are given to a controller."""
    return [each for each in devices(machine) if each["driver"] == "nvme-ns" and each["bus"] == bus]


def test_every_format_is_a_namespace_with_its_number() -> None:
    found = spaces(qemu.Machine("7.3", formats=True), "formats")
    assert [int(space["nsid"]) for space in found] == list(range(1, len(config.FORMATS) + 1))
    drives = [space["drive"] for space in found]
    assert len(set(drives)) == len(drives)


def test_formats_keep_the_numbers_by_which_tests_know_them() -> None:
    assert [what for what, _ in config.FORMATS] == [
        "zoned",
        "metadata",
        "protection information",
        "4 KiB blocks",
        "extended protection information",
        "extended metadata",
        "4 KiB blocks with protection information",
        "4 KiB blocks with extended protection information",
        "4 KiB blocks with 64 bytes of metadata",
        "protection information of type 3",
        "protection information with a 64-bit guard",
    ]


def test_a_guest_without_formats_waits_for_none() -> None:
    assert not any("nvme1" in path for path in qemu.guest_devices(qemu.Machine("7.3")))
    found = [p for p in qemu.guest_devices(qemu.Machine("7.3", formats=True)) if "nvme1" in p]
    assert found == [f"/dev/nvme1n{number}" for number in range(1, len(config.FORMATS) + 1)]
