# SPDX-License-Identifier: GPL-2.0-only
"""Holds the one drive that may be overwritten, or refuses it with every reason against it.

    with drive_guard.claim("/dev/nvme1n1", Demand(serial="S5XYZ")) as guard:
        for case in cases:
            guard.check()
            subprocess.run(["fio", f"--filename={guard.child_path}", …], pass_fds=guard.pass_fds)

The descriptor is opened once, exclusively, and is the drive for the whole run: children open it again
by /proc/self/fd, which leads to the same device whatever its name leads to meanwhile. Only those who
open a device exclusively, mounts and swapon among them, are kept out; fio is none.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from . import drive_identity, drive_openers, drive_users
from .drive_devices import Devices
from .drive_identity import Demand, Identity, Node
from .drive_paths import number_of_path
from .drive_signatures import CannotLook, Signature, entries, find
from .sysfs import System
from .terminal import visible

__all__ = ["CONSENT", "Demand", "Gone", "Guard", "Identity", "Refused", "by_options", "claim", "observe"]

# The option of all programs by which somebody agrees to lose what a signature stands for.
CONSENT = "--overwrite-signature"
AS_ROOT = "run as root, outside of containers"

# How somebody tells a program that what these signatures stand for may be lost.
Ask = Callable[[Sequence[str]], str]

# More than tables in earnest have; so that tables within tables end.
MOST_PARTITIONS = 1024


def by_options(types: Sequence[str], whose: str = "") -> str:
    """The options that say so. `whose`: which of several drives they are for, as the program wants it in
    front of a type."""
    return " ".join(f"{CONSENT} {whose}{name}" for name in types)


class Refused(Exception):
    """The drive is not touched: what was asked for, and every reason against it. Of what others named, it says
    what a terminal would obey written out."""

    def __init__(self, text: str) -> None:
        super().__init__(visible(text))


class Gone(Refused):
    """The drive of this run went away, or is not what it was. The run ends, whatever is there now."""


def _walk(
    descriptor: int, places: dict[tuple[int, int], str], top: Node, wanted: Callable[[int, int], bool]
) -> list[tuple[str, Signature]]:
    """What begins at these places of what the descriptor has open, which is `top`, and in the partitions that
    tables there name, each with its place. A place that is not wanted is not looked at."""
    found = []
    # An extended partition begins with a piece of the table that lists it.
    extended: set[int] = set()
    ranges = [one for one in places if wanted(*one)]
    # The list grows as tables are found.
    for start, size in ranges:
        for signature in find(descriptor, start, size):
            found.append((places[start, size], signature))
            if not signature.table or start in extended:
                continue
            for entry in entries(descriptor, start, size, signature.type):
                if entry.extended:
                    extended.add(entry.start)
                # A table can be that of a larger drive.
                one = (entry.start, min(entry.bytes, top.bytes - entry.start))
                if one[1] > 0 and one not in places and wanted(*one):
                    places[one] = f"a partition of {top.path}, from byte {entry.start} on,"
                    ranges.append(one)
        if len(ranges) > MOST_PARTITIONS:
            raise CannotLook(f"it has more than {MOST_PARTITIONS} partitions, which are too many to look at: "
                             "look at it with wipefs; only where none of that is needed, remove that table first")
    return found


class Guard:
    """A drive that is held. Made by claim() and observe()."""

    def __init__(self, path: str, writes: bool, system: System, devices: Devices) -> None:
        self.path = os.path.abspath(path)
        self.writes = writes
        self._system = system
        self._devices = devices
        self._others: dict[str, int] = {}
        self._gone = ""
        # Types that were consented to and are not there.
        self.unneeded: list[str] = []
        self._descriptor = self._open()
        try:
            self.identity = self._identify()
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """The open drive."""
        return self._descriptor

    @property
    def child_path(self) -> str:
        """The drive for a child that was given pass_fds."""
        return f"/proc/self/fd/{self._descriptor}"

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """For subprocess: what a child must inherit. The claims of the other names are among it: a child
        that goes on when this program is killed still writes."""
        return (self._descriptor, *self._others.values())

    def move(self, least: int) -> None:
        """Gives all descriptors numbers of at least this, which nobody uses by habit. Raises OSError where
        the limit of open files does not allow it."""
        moved: dict[int, int] = {}
        try:
            for one in self.pass_fds:
                moved[one] = fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, least)
        except OSError:
            for one in moved.values():
                os.close(one)
            raise
        for one in moved:
            os.close(one)
        self._descriptor = moved[self._descriptor]
        self._others = {number: moved[one] for number, one in self._others.items()}

    def __enter__(self) -> "Guard":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it."""
        for descriptor in (self._descriptor, *self._others.values()):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = -1
        self._others = {}

    def check(self) -> None:
        """Before each case: it is still the drive of this run, and still nobody else's. Raises Gone,
        and does so for good once it has."""
        if not self._gone:
            against = self._lost()
            if self.writes and not against:
                against = [*self._users(), *self._claim_others()]
            self._gone = "; ".join(against)
        if self._gone:
            raise Gone(f"{self.path} is not used any more: {self._gone}")

    # Opening and looking

    def _open(self) -> int:
        """Opens it for reading, once it is known to be a block device: to open a tape or a watchdog does
        something, and a fifo would wait for somebody who writes."""
        try:
            there = self._devices.look(str(self._system.path(self.path)))
            try:
                if not self._devices.number(there):
                    raise Refused(f"{self.path} is no block device; give the namespace, such as /dev/nvme0n1")
                # The device that was looked at, also if the name leads elsewhere by now.
                return self._devices.open(f"/proc/self/fd/{there}", os.O_RDONLY | os.O_NONBLOCK)
            finally:
                os.close(there)
        except OSError as error:
            mine = error.errno in (errno.EACCES, errno.EPERM)
            remedy = AS_ROOT if mine else "give the namespace, such as /dev/nvme0n1"
            if error.errno == errno.ENOENT and not os.path.exists("/proc/self/fd"):
                remedy = "mount /proc"
            raise Refused(f"{self.path} cannot be opened ({error.strerror}): {remedy}") from error

    def _identify(self) -> Identity:
        number = self._devices.number(self._descriptor)
        found = drive_identity.of_number(self._system, number)
        if not self._system.exists("/sys/dev/block"):
            raise Refused(f"it cannot be seen which drive {self.path} is: mount sysfs at /sys")
        if found is None or not self._devices.bytes(self._descriptor):
            raise Refused(f"{self.path} is gone: its device {number} is not in sysfs, or has no size")
        return found

    def _lost(self) -> list[str]:
        """Why the descriptor is not the drive of this run any more."""
        first = self.identity
        now = drive_identity.of_number(self._system, first.node.number)
        size = self._devices.bytes(self._descriptor)
        if now is None or not size:
            return ["the drive went away; see dmesg"]
        if size != first.node.bytes or now.node.bytes != size:
            return [f"it had {first.node.bytes} bytes, and has {size} now"]
        # Compared whole: number, serial, wwid, namespace, and the kernel's count of disks.
        sequence = self._devices.diskseq(self._descriptor)
        if now != first or (sequence and first.diskseq and sequence != first.diskseq):
            changed = [name for name, value in vars(first).items() if getattr(now, name) != value]
            return [f"its device number {first.node.number} is another drive's, or it was made anew "
                    f"({', '.join(changed) or 'diskseq'} changed)"]
        leads = number_of_path(self._system, self.path)
        if leads and leads != first.node.number:
            return [f"the name leads to another device now, {leads}"]
        return []

    # Who else uses it

    def _other_disks(self) -> list[Identity]:
        return drive_identity.other_names(self.identity, drive_identity.disks(self._system))

    def _nodes(self) -> list[tuple[Node, str]]:
        """All devices that share bytes with what is written, by any name, each with words for it."""
        own = self.identity.node
        found = []
        for disk in [self.identity, *self._other_disks()]:
            name = disk.node.disk
            whole = drive_identity.node(self._system, self._system.real(f"/sys/block/{name}"))
            again = "" if name == own.disk else f", the same namespace as {own.path},"
            for node in [whole, *drive_identity.partitions(self._system, name)]:
                if node.overlaps(own.start, own.bytes):
                    found.append((node, f"{node.path}{again}"))
        return found

    def _users(self) -> list[str]:
        return [
            *drive_users.unseen(self._system),
            *drive_users.reasons(self._system, self._devices, self._nodes()),
        ]

    def _claim_others(self) -> list[str]:
        """Holds the other names of the namespace, too, also those that came since: whoever mounts one
        of them does not see that this one is claimed."""
        own = self.identity.node
        found = []
        for other in self._other_disks():
            parts = drive_identity.partitions(self._system, other.node.disk)
            nodes = [part for part in parts if part.overlaps(own.start, own.bytes)]
            if own.whole or not nodes:
                nodes = [other.node]
            found += [self._claim_other(node) for node in nodes if node.number]
        return [reason for reason in found if reason]

    def _claim_other(self, node: Node) -> str:
        """Why another name could not be claimed; "" when it is held."""
        words = f"{node.path}, the same namespace as {self.identity.node.path},"
        if node.number in self._others:
            return ""
        try:
            descriptor = self._devices.claim(str(self._system.path(node.path)), os.O_RDONLY)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return f"{words} is claimed by something: find out what (lsof, zpool status)"
            return f"{words} cannot be opened ({error.strerror})"
        if self._devices.number(descriptor) != node.number:
            os.close(descriptor)
            return f"{words} is not what its name in /dev leads to"
        self._others[node.number] = descriptor
        return ""

    def _claim_own(self) -> list[str]:
        """Replaces the descriptor by one that writes and excludes; why that could not be."""
        try:
            descriptor = self._devices.claim(self.child_path, os.O_RDWR)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return [f"{self.path} is claimed by something: find out what (lsof, zpool status)"]
            return [f"{self.path} cannot be opened for writing ({error.strerror}): {AS_ROOT}"]
        os.close(self._descriptor)
        self._descriptor = descriptor
        return self._lost()

    # What is on it

    def _settle(self) -> None:
        """What was written by another name, a partition's for one, and is in memory yet, goes to the drive: else
        it is not seen, and is written over what comes. The kernel does so when the last one closes that name."""
        for node, _ in self._nodes():
            if not node.number:
                continue
            try:
                descriptor = self._devices.open(str(self._system.path(node.path)), os.O_RDONLY | os.O_NONBLOCK)
                try:
                    if self._devices.number(descriptor) != node.number:
                        raise FileNotFoundError(node.path)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except FileNotFoundError:
                # It has no name here: that of all devices goes there.
                os.sync()
            except OSError as error:
                raise CannotLook(f"{node.path}, which may have more to write to it, fails ({error.strerror}): see "
                                 "dmesg") from error

    def _signatures(self) -> list[tuple[str, Signature]]:
        """Everything that the data begins with, and that of each partition, each with its place: of
        those that the kernel has found, and of those that a table names, within partitions, too."""
        own = self.identity.node
        places = {(0, own.bytes): own.path}
        if own.whole:
            for part in drive_identity.partitions(self._system, own.disk):
                places.setdefault((part.start, part.bytes), part.path)
        return _walk(self._descriptor, places, own, lambda _start, _size: True)

    def _around(self) -> list[str]:
        """What shares the bytes of a partition and is no part of it: the whole drive may be a member of a
        RAID, or one file system with the leftovers of a table in it, and partitions may overlap. No
        consent counts for it: who gives a partition means no more than that."""
        own = self.identity.node
        if own.whole:
            return []
        disk = drive_identity.node(self._system, self._system.real(f"/sys/block/{own.disk}"))
        places = {(0, disk.bytes): disk.path}
        for part in drive_identity.partitions(self._system, own.disk):
            places.setdefault((part.start, part.bytes), part.path)

        def shares(start: int, size: int) -> bool:
            return (start, size) != (own.start, own.bytes) and own.overlaps(start, size)

        try:
            descriptor = self._devices.open(str(self._system.path(disk.path)), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise CannotLook(f"{disk.path}, of which it is a part, cannot be opened ({error.strerror})") from error
        try:
            if self._devices.number(descriptor) != disk.number:
                raise CannotLook(f"{disk.path}, of which it is a part, is not what its name in /dev leads to")
            found = _walk(descriptor, places, disk, shares)
        finally:
            os.close(descriptor)
        return [f"{place} holds {signature}, of which {own.path} has bytes: find out whose that is, since to write "
                "here destroys it; only where nothing of it is needed, remove that signature first"
                for place, signature in found if not signature.table]

    def _signed(self, consent: frozenset[str], only: bool, ask: Ask) -> list[str]:
        """Reasons by what is on it. Consent counts only when it names what is there, no more and no
        less: a list of all that could be there is a habit and not a decision. `only`: nothing else is
        against it, so that consent would help. `ask`: how it is given."""
        try:
            self._settle()
            around = self._around()
            found = self._signatures()
        except CannotLook as error:
            return [f"{self.path}: {error}"]
        where: dict[str, list[str]] = {}
        for place, signature in found:
            where.setdefault(signature.type, []).append(place.removesuffix(","))
        types = set(where)
        self.unneeded = sorted(consent - types)
        if not types or types == consent:
            return around
        reasons = [*around]
        reasons += [f"{place} holds {signature}" for place, signature in found]
        extra = sorted(consent - types)
        if extra:
            reasons.append(f"{ask(extra)} names what is not there: look again")
        if only and not around:
            # One consent covers all signatures of a type: the user has to know how many there are.
            several = "; ".join(f"{len(at)} times {kind}, on {', '.join(at)}" for kind, at in sorted(where.items())
                                if len(at) > 1)
            reasons.append(f"look at it with wipefs {self.path}; if all that may be lost"
                           f"{f' ({several})' if several else ''}: {ask(sorted(types))}")
        return reasons

    def _in_use(self) -> list[str]:
        """Why it must not be overwritten, but for what is on it."""
        against = self._users()
        if drive_users.read_only(self._system, self.identity.node.number):
            against.append(f"{self.path} is read-only, which somebody or the drive itself wanted: find out why; "
                           "blockdev --setrw takes it back where it was a setting of the kernel's")
        return against + drive_openers.writing(self._system, self._nodes())

    def against(self) -> list[str]:
        """What claim() would refuse it for, once somebody named it; only reads. Whether something
        claimed it that has no name here, only claim() tells."""
        named = Demand(serial=self.identity.serial)
        found = drive_identity.not_named(
            self.identity, named, drive_identity.disks(self._system)
        )
        found += self._in_use()
        return [visible(one) for one in found + self._signed(frozenset(), not found, by_options)]

    def demand(self, wanted: Demand, consent: frozenset[str], ask: Ask = by_options) -> None:
        """Claims it; raises Refused with all that is against it."""
        against = drive_identity.not_named(
            self.identity, wanted, drive_identity.disks(self._system)
        )
        if against:
            raise Refused(f"{self.path} is not overwritten: {'; '.join(against)}")
        if not all(one.strip() for one in consent):
            raise Refused(f"{self.path} is not overwritten: an empty {CONSENT} says nothing: look at it with wipefs "
                          f"{self.path}")
        against = self._in_use()
        # Where a user of the drive was found above, the claim would fail because of that user.
        if not against:
            against = [*self._claim_own(), *self._claim_others()]
        against += self._signed(consent, not against, ask)
        if against:
            raise Refused(f"{self.path} is not overwritten: {'; '.join(dict.fromkeys(against))}")


def claim(
    path: str, demand: Demand, consent: Iterable[str] = (), system: System | None = None,
    devices: Devices | None = None, ask: Ask = by_options,
) -> Guard:
    """The drive at `path`, held for writing. Refused unless it is the one that `demand` names, nobody
    uses it by any name, and nothing is on it but what `consent` names. `ask`: how the program lets its user
    say so, for the refusal."""
    guard = Guard(path, True, system or System(), devices or Devices())
    try:
        guard.demand(demand, frozenset(consent), ask)
    except BaseException:
        guard.close()
        raise
    return guard


def observe(
    path: str, demand: Demand = Demand(), system: System | None = None, devices: Devices | None = None
) -> Guard:
    """The drive at `path` for a run that only reads: known and checked, but not claimed."""
    guard = Guard(path, False, system or System(), devices or Devices())
    against = demand.against(guard.identity)
    if against:
        guard.close()
        raise Refused(f"{path} is not measured: {'; '.join(against)}")
    return guard
