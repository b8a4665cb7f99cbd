# SPDX-License-Identifier: GPL-2.0-only
"""Which drive a number is, and which other names lead to the same data."""

from pathlib import Path

import pytest
from drives import NQN, WWID, Machine

from dmabuf_common import drive_identity
from dmabuf_common.drive_identity import Demand, Identity, Node, not_named, other_names, plain

ZEROS = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def of(machine: Machine, number: str) -> Identity:
    found = drive_identity.of_number(machine.system, number)
    assert found is not None
    return found


def test_a_drive_is_read_by_its_device_number(machine: Machine) -> None:
    machine.drive(eui="00 25 38 5b 11 c0 ff ee", nguid=ZEROS, uuid="")
    found = of(machine, "259:0")
    assert (found.serial, found.wwid, found.nsid, found.nqn) == ("S1", WWID, "1", NQN)
    assert (found.node.name, found.node.whole, found.diskseq) == ("nvme0n1", True, "7")
    assert found.record()["eui"] == "0025385b11c0ffee"
    assert "nguid" not in found.record()


def test_a_partition_has_its_place_and_the_identity_of_its_disk(machine: Machine) -> None:
    machine.drive()
    machine.partition("nvme0n1", 2, "259:2", 8 << 20, 4 << 20)
    found = of(machine, "259:2")
    assert found.node == Node("nvme0n1p2", "259:2", "nvme0n1", 8 << 20, 4 << 20)
    assert (found.serial, found.wwid) == ("S1", WWID)


def test_a_scsi_drive_has_its_serial_number_in_a_page(machine: Machine) -> None:
    machine.drive("sda", "8:0", serial="", wwid="", nsid="", nqn="")
    device = machine.root / "sys/devices/pci0000:00/target-sda"
    (device / "vpd_pg80").write_bytes(b"\x00\x80\x00\x06  ZR01")
    (device / "wwid").write_text("naa.5000c500a1b2c3d4\n")
    assert (of(machine, "8:0").serial, of(machine, "8:0").wwid) == ("ZR01", "naa.5000c500a1b2c3d4")
    # The page says how long it is; what lies behind is none of it.
    (device / "vpd_pg80").write_bytes(b"\x00\x80\x00\x04ZR01rest")
    assert of(machine, "8:0").serial == "ZR01"
    (device / "vpd_pg80").write_bytes(b"\x00\x80\x00")
    assert of(machine, "8:0").serial == ""


def test_a_number_that_sysfs_does_not_have_is_nothing(machine: Machine) -> None:
    assert drive_identity.of_number(machine.system, "259:9") is None


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("eui.0025385B11C0FFEE", "0025385b11c0ffee"), ("00 25 38 5b", "0025385b"),
        ("uuid.5919c9da-c8f3-4c0a-a533-02eff295a2de", "5919c9dac8f34c0aa53302eff295a2de"),
        ("0x5000c500a1b2c3d4", "5000c500a1b2c3d4"), (ZEROS, ""), ("eui.0000000000000000", ""), ("", ""),
        ("t10.ATA     DISK 1", "t10.ata     disk 1"),
    ],
)
def test_identifiers_are_compared_however_they_are_written(text: str, is_plain: str) -> None:
    assert plain(text) == is_plain


def test_a_whole_disk_has_all_bytes_whatever_its_size_says() -> None:
    part = Node("d1", "1:2", "d", 100, 50)
    assert [part.overlaps(*one) for one in ((0, 100), (0, 101), (149, 1), (150, 1))] == [False, True, True, False]
    assert Node("d", "1:1", "d", 0, 0).overlaps(4096, 4096)


def identity(name: str = "nvme0n1", **values: str) -> Identity:
    return Identity(Node(name, "1:1", name, 0, 1), **values)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"wwid": WWID}, {"wwid": WWID}, True),
        ({"wwid": WWID}, {"wwid": "eui.0025385b11c0fff0"}, False),
        # Identifiers decide, whatever the numbers: a private namespace has its controller's number.
        ({"wwid": WWID, "nqn": NQN, "nsid": "1"}, {"wwid": "eui.1", "nqn": NQN, "nsid": "1"}, False),
        # One kernel shows the UUID first and another the NGUID.
        ({"wwid": "uuid.aa", "nguid": "bb"}, {"wwid": "eui.bb"}, True),
        # All zeros is what every drive reports that has none.
        ({"nguid": ZEROS, "eui": ZEROS}, {"nguid": ZEROS, "eui": ZEROS}, False),
        ({"wwid": "eui.0000000000000000"}, {"wwid": "eui.0000000000000000"}, False),
        # Then the place in the subsystem does, by whatever name the kernel puts it together.
        ({"nguid": ZEROS, "nqn": NQN, "nsid": "1"}, {"nguid": ZEROS, "nqn": NQN, "nsid": "1"}, True),
        ({"nqn": NQN, "nsid": "1"}, {"nqn": NQN, "nsid": "2"}, False),
        ({"nqn": NQN, "nsid": "1"}, {"nqn": NQN + "x", "nsid": "1"}, False),
        ({"nqn": NQN}, {"nqn": NQN}, False),
        ({"nsid": "1"}, {"nsid": "1"}, False),
        # The kernel composed both of the same serial number: two drives with one, or two names.
        ({"wwid": "nvme.1b36-31-51-00000001"}, {"wwid": "nvme.1b36-31-51-00000001"}, False),
        ({"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN, "nsid": "1"},
         {"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN + "x", "nsid": "1"}, False),
        ({"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN, "nsid": "1"},
         {"wwid": "nvme.1b36-31-51-00000001"}, False),
        ({"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN, "nsid": "1"},
         {"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN, "nsid": "1"}, True),
        ({"wwid": "t10.ATA     DISK 1"}, {"wwid": "t10.ATA     DISK 1"}, False),
        ({"wwid": "nvme.1b36-31-51-00000001"}, {"wwid": "nvme.1b36-31-51-00000002"}, False),
        ({"wwid": "nvme.1b36-31-51-00000001", "nqn": NQN, "nsid": "1"},
         {"wwid": "nvme.1b36-32-51-00000001", "nqn": NQN, "nsid": "1"}, True),
        ({}, {}, False),
        ({"serial": "S"}, {"serial": "S"}, False),
    ],
)
def test_two_names_of_one_namespace(one: dict[str, str], other: dict[str, str], same: bool) -> None:
    assert identity(**one).same_namespace(identity("nvme1n1", **other)) is same
    assert identity("nvme1n1", **other).same_namespace(identity(**one)) is same


def test_the_other_names_are_found_hidden_paths_among_them(machine: Machine) -> None:
    machine.drive()
    machine.drive("nvme0c0n1", "")
    machine.drive("nvme1n1", "259:4")
    machine.drive("nvme2n1", "259:8", wwid="eui.1")
    found = other_names(of(machine, "259:0"), drive_identity.disks(machine.system))
    assert [(one.node.name, one.node.number) for one in found] == [("nvme0c0n1", ""), ("nvme1n1", "259:4")]


@pytest.mark.parametrize(
    ("known", "demand", "says"),
    [
        ({}, Demand("S1"), ""),
        ({}, Demand(" S1 ", "eui.0025385B11C0FFEE", "1"), ""),
        ({"uuid": "5919c9da-c8f3-4c0a-a533-02eff295a2de"},
         Demand("S1", "5919c9dac8f34c0aa53302eff295a2de"), ""),
        ({"serial": ""}, Demand("S1"), "no serial number"),
        ({"serial": ""}, Demand(""), "no serial number"),
        ({"wwid": "", "nqn": ""}, Demand("S1"), "neither wwid"),
        ({"wwid": "eui.0000000000000000", "nsid": ""}, Demand("S1"), "neither wwid"),
        ({}, Demand(), "give its serial number, S1"),
        ({}, Demand("", WWID, "1"), "give its serial number, S1"),
        ({}, Demand("S2"), "serial number is S1, not S2"),
        ({}, Demand("S1", "eui.1"), f"wwid is {WWID}, not eui.1"),
        ({}, Demand("S1", ZEROS), "all zeros"),
        ({}, Demand("S1", nsid="2"), "namespace id is 1, not 2"),
    ],
)
def test_only_the_drive_that_was_named_is_meant(
    machine: Machine, known: dict[str, str], demand: Demand, says: str
) -> None:
    machine.drive(**known)
    found = not_named(of(machine, "259:0"), demand, drive_identity.disks(machine.system))
    assert (says in "; ".join(found)) if says else not found


def test_a_serial_number_of_two_namespaces_names_neither(machine: Machine) -> None:
    machine.drive()
    machine.drive("nvme0n2", "259:4", wwid="eui.2", nsid="2")
    machine.drive("nvme0c0n2", "", wwid="eui.2", nsid="2")
    every = drive_identity.disks(machine.system)
    found = not_named(of(machine, "259:0"), Demand("S1"), every)
    assert len(found) == 1 and "/dev/nvme0n2 has the same serial number" in found[0]
    assert not not_named(of(machine, "259:0"), Demand("S1", WWID), every)
    assert not not_named(of(machine, "259:0"), Demand("S1", nsid="1"), every)


@pytest.mark.parametrize("nqn", [NQN + "x", ""])
@pytest.mark.parametrize("wanted", [Demand("S1"), Demand("S1", "nvme.1b36-31-51-00000001", "1")])
def test_a_wwid_of_the_serial_number_tells_no_two_drives_apart(machine: Machine, nqn: str, wanted: Demand) -> None:
    machine.drive(wwid="nvme.1b36-31-51-00000001")
    every = drive_identity.disks(machine.system)
    assert not not_named(of(machine, "259:0"), wanted, every)
    machine.drive("nvme1n1", "259:4", wwid="nvme.1b36-31-51-00000001", nqn=nqn)
    found = not_named(of(machine, "259:0"), wanted, drive_identity.disks(machine.system))
    assert len(found) == 1 and "/dev/nvme1n1 has the same serial number" in found[0]
    assert "detach" in found[0] and "name the namespace" not in found[0]


def test_two_names_of_one_namespace_are_not_two_namespaces(machine: Machine) -> None:
    machine.drive()
    machine.drive("nvme1n1", "259:4")
    assert not not_named(of(machine, "259:0"), Demand("S1"), drive_identity.disks(machine.system))
