# SPDX-License-Identifier: GPL-2.0-only
"""Which drive a device number is: its serial number, its namespace, and its other names.

Nothing here takes a path's word for what it leads to. A device number that an open descriptor has
belongs to one device for as long as the descriptor is open; a name such as /dev/nvme0n1 is dealt out
by the order in which drives are found.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .sysfs import System

SECTOR = 512
# How wwids begin that the kernel, or a SCSI drive, composed of serial number and model.
COMPOSED = ("nvme.", "t10.")


@dataclass(frozen=True)
class Node:
    """A block device that sysfs knows: a whole disk, or a partition of one. `number` is empty for
    the paths below a multipath head, which no program can open."""

    name: str
    number: str
    disk: str
    start: int
    bytes: int

    @property
    def path(self) -> str:
        """Its name in /dev."""
        return f"/dev/{self.name}"

    @property
    def whole(self) -> bool:
        """Whether it is a whole disk."""
        return self.name == self.disk

    def overlaps(self, start: int, size: int) -> bool:
        """Whether it has bytes of this range of its disk. One that says no size has all of them."""
        return self.whole or (self.start < start + size and start < self.start + self.bytes)


@dataclass(frozen=True)
class Identity:
    """What a drive says of itself. What it does not say is empty."""

    node: Node
    serial: str = ""
    model: str = ""
    wwid: str = ""
    nguid: str = ""
    eui: str = ""
    uuid: str = ""
    nsid: str = ""
    nqn: str = ""
    diskseq: str = ""

    @property
    def unique(self) -> frozenset[str]:
        """Identifiers that no other namespace on earth has. The wwid is not one where it was composed
        of serial number, model and namespace id, for want of any."""
        own = {plain(one) for one in (self.nguid, self.eui, self.uuid)}
        if not self.wwid.startswith(COMPOSED):
            own.add(plain(self.wwid))
        return frozenset(own - {""})

    @property
    def known(self) -> bool:
        """Whether another name of the same namespace could be told from another namespace."""
        return bool(self.unique or plain(self.wwid) or (self.nqn and self.nsid))

    def same_namespace(self, other: "Identity") -> bool:
        """Whether both are one namespace: the same data by two names.

        Identifiers decide where both have one. Namespaces without are told by their subsystem's
        NQN and their number in it. A composed wwid says no more than the serial number, which another
        drive may have, too. Identifiers of zeros say nothing: a drive that has none reports zeros, and so
        do all others of its kind.
        """
        if self.unique & other.unique:
            return True
        if self.unique and other.unique:
            return False
        return bool(self.nqn and self.nsid) and (self.nqn, self.nsid) == (other.nqn, other.nsid)

    def record(self) -> dict[str, str]:
        """What is worth keeping with a result."""
        said = {
            "device": self.node.name, "serial": self.serial, "model": self.model, "wwid": self.wwid,
            "nguid": plain(self.nguid), "eui": plain(self.eui), "uuid": plain(self.uuid),
            "nsid": self.nsid, "subsystem": self.nqn, "bytes": str(self.node.bytes),
        }
        return {name: value for name, value in said.items() if value}


def plain(identifier: str) -> str:
    """An identifier as bare digits, for comparison: the kernel writes a NGUID with dashes in one
    place and without in another. Nothing for one that is all zeros."""
    text = re.sub(r"^(uuid|eui|nguid|naa)\.|^0x", "", identifier.strip().lower())
    if re.fullmatch(r"[0-9a-f\s-]+", text):
        text = re.sub(r"[\s-]", "", text)
    return text if text.strip("0") else ""


def node(system: System, folder: str) -> Node:
    """The node whose folder in /sys/devices this is."""
    path = Path(folder)
    partition = system.exists(f"{folder}/partition")
    return Node(
        name=path.name,
        number=system.read(f"{folder}/dev"),
        disk=path.parent.name if partition else path.name,
        start=(system.number(f"{folder}/start") or 0) * SECTOR if partition else 0,
        bytes=(system.number(f"{folder}/size") or 0) * SECTOR,
    )


def partitions(system: System, disk: str) -> list[Node]:
    """The partitions of a disk that the kernel has found."""
    folder = system.real(f"/sys/block/{disk}")
    found = [f"{folder}/{name}" for name in system.names(folder)]
    return [node(system, one) for one in found if system.exists(f"{one}/partition")]


def _scsi_serial(data: bytes) -> str:
    """The unit serial number in the vital product data page 0x80."""
    return data[4 : 4 + data[3]].decode(errors="replace").strip("\0 ") if len(data) > 4 else ""


def of_folder(system: System, folder: str) -> Identity:
    """The identity of the node whose folder in /sys/devices this is."""
    own = node(system, folder)
    disk = folder if own.whole else str(Path(folder).parent)

    def first(*names: str) -> str:
        return next(filter(None, (system.read(f"{disk}/{name}") for name in names)), "")

    return Identity(
        node=own,
        serial=first("device/serial", "serial") or _scsi_serial(system.data(f"{disk}/device/vpd_pg80")),
        model=first("device/model"),
        wwid=first("wwid", "device/wwid"),
        nguid=first("nguid"),
        eui=first("eui"),
        uuid=first("uuid"),
        nsid=first("nsid"),
        nqn=first("device/subsysnqn"),
        diskseq=first("diskseq"),
    )


def of_number(system: System, number: str) -> Identity | None:
    """The identity of a device number, MAJOR:MINOR; None when there is no such device any more."""
    folder = system.real(f"/sys/dev/block/{number}")
    return of_folder(system, folder) if folder else None


def disks(system: System) -> list[Identity]:
    """All whole disks of the machine, the hidden paths of multipath heads among them."""
    folders = (system.real(f"/sys/block/{name}") for name in system.names("/sys/block"))
    return [of_folder(system, folder) for folder in folders if folder]


def other_names(identity: Identity, every: Iterable[Identity]) -> list[Identity]:
    """The other disks that are the same namespace."""
    return [
        one for one in every if one.node.disk != identity.node.disk and identity.same_namespace(one)
    ]


@dataclass(frozen=True)
class Demand:
    """Which drive the user means. `wwid` is its wwid, NGUID, EUI-64 or UUID; `nsid` its number."""

    serial: str = ""
    wwid: str = ""
    nsid: str = ""

    def against(self, identity: Identity) -> list[str]:
        """What of it the drive does not fulfil."""
        found = []
        if self.serial and self.serial.strip() != identity.serial:
            found.append(f"its serial number is {identity.serial or 'not known'}, not {self.serial}")
        if self.wwid:
            wanted = plain(self.wwid)
            if not wanted:
                found.append(f"the identifier {self.wwid} is all zeros and names no drive")
            elif wanted not in identity.unique | {plain(identity.wwid)}:
                found.append(f"its wwid is {identity.wwid or 'not known'}, not {self.wwid}")
        if self.nsid and self.nsid != identity.nsid:
            found.append(f"its namespace id is {identity.nsid or 'not known'}, not {self.nsid}")
        return found


def not_named(identity: Identity, demand: Demand, every: Iterable[Identity]) -> list[str]:
    """Why this is not surely the one drive that may be overwritten; empty when it is."""
    if not identity.serial:
        return ["it has no serial number by which it could be named: give the drive itself, no loop, "
                "RAID or device mapper device"]
    if not identity.known:
        return ["it has neither wwid, NGUID nor EUI-64, so that another name of the same data could "
                "not be told from another drive"]
    if not demand.serial:
        return [f"nothing says that it is the drive that is meant: give its serial number, "
                f"{identity.serial}"]
    found = demand.against(identity)
    if found:
        return [*found, "check which drive you mean"]
    for other in every:
        same = other.node.disk == identity.node.disk or identity.same_namespace(other)
        if other.node.number and not same and not demand.against(other):
            whole = Demand(identity.serial, identity.wwid if plain(identity.wwid) else "", identity.nsid)
            advice = (f"name the namespace, too, wwid {identity.wwid or 'none'}, namespace id "
                      f"{identity.nsid or 'none'}" if whole.against(other) else
                      "nothing tells the two apart, detach the other one")
            found.append(f"{other.node.path} has the same serial number, {identity.serial}: {advice}")
    return found
