# SPDX-License-Identifier: GPL-2.0-only
"""The machine has the devices that were asked for, and the names that tests rely on."""

import json
from pathlib import Path

import pytest
from dmabuf_lab import config, qemu
from dmabuf_lab.errors import LabError
from dmabuf_lab.guest_kernel import GuestKernel

KERNEL = GuestKernel("7.3", Path("/root/vmlinuz"), Path("/root/usr/lib/modules/7.3"))


def options(machine: qemu.Machine, name: str) -> list[str]:
    """The values of QEMU's option `name` for a machine."""
    formats = range(50, 50 + len(config.FORMATS)) if machine.formats else ()
    fds = qemu.Descriptors(
        initrd=10,
        nvme=11,
        virtio=12,
        channels={name: 20 + i for i, name in enumerate((qemu.CONSOLE, *qemu.PORTS))},
        formats=tuple(formats),
        errors=90 if machine.errors else None,
        qmp=(30, 31) if machine.qmp else (),
        writes=91 if machine.writes else None,
        branches=tuple(range(100, 100 + len(config.BRANCHES))) if machine.topology else (),
    )
    words = qemu.arguments(Path("/root"), KERNEL, Path("/checkout"), machine, fds)
    return [value for option, value in zip(words, words[1:], strict=False) if option == name]


def test_a_root_of_the_users_is_shown_in_place_of_the_labs() -> None:
    shown = [word for word in options(qemu.Machine("7.3"), "-fsdev") if ",id=root," in word]
    assert len(shown) == 1 and "path=/root" in shown[0]
    own = qemu.Machine("7.3", root=Path("/mine"))
    (other,) = [word for word in options(own, "-fsdev") if ",id=root," in word]
    assert other == shown[0].replace("path=/root", "path=/mine")


def devices(machine: qemu.Machine) -> list[dict[str, str]]:
    """The -device options of a machine, each as a table; the driver's name is its "driver"."""
    found = []
    for value in options(machine, "-device"):
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
        "16 KiB blocks",
        "protection information in 64 bytes of metadata",
    ]


def test_a_guest_without_formats_waits_for_none() -> None:
    assert not any("nvme1" in path for path in qemu.guest_devices(qemu.Machine("7.3")))
    found = [p for p in qemu.guest_devices(qemu.Machine("7.3", formats=True)) if "nvme1" in p]
    assert found == [f"/dev/nvme1n{number}" for number in range(1, len(config.FORMATS) + 1)]


def controllers(machine: qemu.Machine) -> list[dict[str, str]]:
    """The NVMe controllers of a machine in the order in which the guest names them."""
    found = devices(machine)
    ports = [each["id"] for each in found if each["driver"] == "pcie-root-port"]
    own = [each for each in found if each["driver"] == "nvme"]
    return sorted(own, key=lambda each: ports.index(each["bus"]) if "bus" in each else -1)


def test_without_paths_the_drive_has_no_subsystem() -> None:
    machine = qemu.Machine("7.3")
    assert [each["driver"] for each in devices(machine)].count("nvme-subsys") == 0
    assert [(each["id"], each["drive"]) for each in controllers(machine)] == [("nvme", "nvme0")]


def test_one_path_is_a_subsystem_too() -> None:
    machine = qemu.Machine("7.3", paths=1)
    assert [each["driver"] for each in devices(machine)].count("nvme-subsys") == 1
    assert [each["id"] for each in controllers(machine)] == ["nvme"]


def test_two_paths_are_two_controllers_with_one_namespace_each_behind_a_port_of_its_own() -> None:
    machine = qemu.Machine("7.3", paths=2, mdts=5)
    first, second = controllers(machine)
    assert (first["id"], second["id"]) == ("nvme", "nvme-path2")
    assert first["serial"] == second["serial"] and first["subsys"] == second["subsys"]
    assert first["mdts"] == second["mdts"] == "5"
    assert first["bus"] != second["bus"]
    assert "drive" not in first and "drive" not in second
    (space,) = [each for each in devices(machine) if each["driver"] == "nvme-ns"]
    assert (space["bus"], space["shared"], space["drive"]) == ("nvme", "on", "nvme0")


def test_no_option_changes_the_names_of_drives() -> None:
    for machine in (
        qemu.Machine("7.3", formats=True),
        qemu.Machine("7.3", formats=True, p2p=True),
        qemu.Machine("7.3", formats=True, qmp=True),
        qemu.Machine("7.3", formats=True, errors=True),
        qemu.Machine("7.3", formats=True, paths=2),
    ):
        assert [each["id"] for each in controllers(machine)][:2] == ["nvme", "formats"]


def test_the_drive_with_bad_sectors_has_the_name_that_the_guest_is_told() -> None:
    for machine in (
        qemu.Machine("7.3", errors=True),
        qemu.Machine("7.3", errors=True, paths=2),
        qemu.Machine("7.3", errors=True, formats=True, paths=2, qmp=True),
    ):
        number = [each["id"] for each in controllers(machine)].index("errors")
        device = f"/dev/nvme{number}n1"
        assert qemu.guest_environment(machine)["LAB_ERRORS"] == device
        assert device in qemu.guest_devices(machine)
    assert qemu.guest_environment(qemu.Machine("7.3")) == {}


def test_the_guest_is_told_of_the_sectors_that_fail() -> None:
    machine = qemu.Machine("7.3", errors=True)
    (node,) = [json.loads(value) for value in options(machine, "-blockdev")]
    told = qemu.guest_environment(machine)
    for bad in config.BAD_SECTORS:
        rules = [
            rule["sector"]
            for rule in node["inject-error"]
            if rule["iotype"] == bad.access and rule["once"] == bad.once
        ]
        assert told[bad.variable].split() == [str(sector) for sector in rules]
        assert len(rules) >= 4


def test_bad_sectors_are_on_the_drive_and_apart() -> None:
    sectors = sorted(sector for bad in config.BAD_SECTORS for sector in bad.sectors)
    # A partition table at either end is read when the guest starts.
    edges = [2047, *sectors, (config.ERRORS_BYTES >> 9) - 2048]
    assert all(after - before >= 2049 for before, after in zip(edges, edges[1:], strict=False))


def test_no_two_devices_share_a_port() -> None:
    found = devices(qemu.Machine("7.3", formats=True, paths=2, p2p=True, qmp=True))
    ports = {each["id"] for each in found if each["driver"] == "pcie-root-port"}
    used = [each["bus"] for each in found if each.get("bus") in ports]
    assert len(used) == len(set(used)) == len(ports)


def test_an_instruction_takes_as_long_as_was_asked_for() -> None:
    assert options(qemu.Machine("7.3", icount=True), "-icount") == ["shift=1"]
    assert options(qemu.Machine("7.3", icount=True, icount_shift=7), "-icount") == ["shift=7"]
    assert not options(qemu.Machine("7.3", icount_shift=7), "-icount")


def test_a_plugin_is_loaded_when_asked_for() -> None:
    assert options(qemu.Machine("7.3", plugin="/x.so,out=/y"), "-plugin") == ["file=/x.so,out=/y"]
    assert not options(qemu.Machine("7.3"), "-plugin")


def test_a_switch_has_a_port_for_each_device_in_the_order_of_the_root_ports() -> None:
    plain, switched = (devices(qemu.Machine("7.3", p2p=True, switch=switch)) for switch in (False, True))
    ports = [one for one in switched if one["driver"] == "xio3130-downstream"]
    roots = [one for one in plain if one["driver"] == "pcie-root-port"]
    assert [one["id"] for one in ports] == [one["id"] for one in roots]
    assert {one["bus"] for one in ports} == {"switch"}
    assert [one["bus"] for one in switched if one["driver"] == "x3130-upstream"] == ["root"]
    assert [one["id"] for one in switched if one["driver"] == "pcie-root-port"] == ["root"]
    for driver in ("nvme", "ivshmem-plain"):
        bus = [one["bus"] for one in switched if one["driver"] == driver]
        assert bus == [one["bus"] for one in plain if one["driver"] == driver]
        assert bus[0] in [one["id"] for one in ports]


def test_a_topology_has_a_drive_on_every_branch() -> None:
    machine = qemu.Machine("7.3", topology=True, nodes=2)
    found = devices(machine)
    by_id = {one["id"]: one for one in found if "id" in one}
    drives = {one["serial"]: one for one in found if one["driver"] == "nvme"}
    assert set(drives) == {"lab-nvme", *(f"lab-{name}" for name in config.BRANCHES)}
    assert "bus" not in drives["lab-nvme"]
    assert len({one["drive"] for one in drives.values()}) == len(drives)
    above = {name: by_id[drives[f"lab-{name}"]["bus"]] for name in config.BRANCHES}
    assert len({port["id"] for port in above.values()}) == len(above)
    (memory,) = [one for one in found if one["driver"] == "ivshmem-plain"]
    switch = [above["left"], above["right"], by_id[memory["bus"]]]
    assert {(port["driver"], port["bus"]) for port in switch} == {("xio3130-downstream", "fork")}
    assert by_id["fork"]["driver"] == "x3130-upstream"
    for name in ("port-a", "port-b"):
        assert (above[name]["driver"], above[name]["bus"]) == ("pcie-root-port", "pcie.0")
    root = by_id[above["far"]["bus"]]
    assert (root["driver"], root["numa_node"]) == ("pxb-pcie", "1")
    # QEMU puts what names no bus on the root complex that was made last.
    made = [one["driver"] for one in found]
    assert all("bus" in one for one in found[made.index("pxb-pcie") :])
    slots = [one["slot"] for one in found if "slot" in one]
    assert len(set(slots)) == len(slots)
    assert "/dev/nvme5n1" in qemu.guest_devices(machine)
    assert "/dev/nvme1n1" not in qemu.guest_devices(qemu.Machine("7.3"))


def test_a_log_of_writes_is_between_the_drive_and_its_disk() -> None:
    plain = qemu.Machine("7.3")
    assert any("id=nvme0,file=/proc/self/fd/11" in value for value in options(plain, "-drive"))
    logged = qemu.Machine("7.3", writes=Path("/log"))
    assert not any("id=nvme0," in value for value in options(logged, "-drive"))
    (node,) = [json.loads(value) for value in options(logged, "-blockdev")]
    assert (node["driver"], node["node-name"]) == ("blklogwrites", "nvme0")
    assert (node["file"]["filename"], node["log"]["filename"]) == ("/proc/self/fd/11", "/proc/self/fd/91")
    # A flush of the guest's has to reach the log.
    assert "cache" not in node
    assert controllers(logged) == controllers(plain)


def test_zeros_take_no_room_on_a_large_drive_only() -> None:
    for gib, found in ((1, False), (8, True)):
        values = [value for value in options(qemu.Machine("7.3", drive_gib=gib), "-drive") if "id=nvme0," in value]
        assert ["detect-zeroes=unmap" in value for value in values] == [found]


def test_the_version_is_what_the_emulator_of_the_guest_says(tmp_path: Path) -> None:
    """A root's QEMU is started by the root's loader, which this one takes the place of."""
    loader = tmp_path / "usr/lib64/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    says = 'case "$*" in *qemu-system-aarch64*) v=10.0.9;; *) v=10.0.13;; esac; echo "QEMU emulator version $v (Debian 1:$v+ds)"'
    loader.write_text(f"#!/bin/sh\n{says}\n")
    loader.chmod(0o755)
    assert (qemu.version(tmp_path), qemu.version(tmp_path, "arm64")) == ("10.0.13", "10.0.9")
    loader.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    with pytest.raises(LabError, match="QEMU does not start: no such library"):
        qemu.version(tmp_path)
