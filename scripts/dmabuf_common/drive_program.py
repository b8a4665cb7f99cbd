# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-guard: the guard of drives for programs that have none of their own.

The command takes this program's place and inherits the open drive: its claims last as long as the command
and what it starts do, and its exit status is the command's.
"""

import argparse
import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from . import drive_guard, program
from .drive_devices import Devices
from .drive_guard import Demand, Guard
from .sysfs import System
from .terminal import Voice, visible
from .verdict import EXIT_PASS

NAME = "dmabuf-guard"
DESCRIPTOR, PATH = "{fd}", "{path}"
# Shells and programs give small numbers to what they open, also where such a number is in use.
LEAST = 500
# By these a shell puts a file of its own in place of a descriptor, or closes it.
INSTEAD = (f"{DESCRIPTOR}>", f"{DESCRIPTOR}<")
# Python ignores these, and what it becomes would go on to.
SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)

DESCRIPTION = """\
Starts COMMAND with a drive whose data it may overwrite, or refuses the drive with every reason against it: it
is not the one that --serial names; something uses it, or its partitions, by any name of the same namespace (a
mount, swap, RAID, LVM, a loop device, another program, another machine); something is on it. COMMAND gets the
open drive, by {fd} as the number of a descriptor and by {path} as a path that leads to it whatever becomes of
its name; a word of COMMAND that names a drive is refused. With --read only {fd}: by a path it would be opened
anew, and that for writing, too. As long as COMMAND runs, nobody can mount or claim the drive, by its other names
neither. COMMAND must keep the descriptor open: sudo, ssh, systemd-run and Python's subprocess close it, and what
they start does not get the drive.
"""

EXAMPLES = """\
examples:
  dmabuf-guard --serial S5XYZ /dev/nvme1n1
  dmabuf-guard --serial S5XYZ /dev/nvme1n1 -- dmabuf-integrity write --device-fd {fd}
  dmabuf-guard --serial S5XYZ --overwrite-signature ext4 /dev/nvme1n1 -- env DEV={path} fio job.fio
  dmabuf-guard --read --serial S5XYZ /dev/nvme1n1 -- dmabuf-integrity check --device-fd {fd}

job.fio has filename=${DEV}, and no other filename: one in a job file adds to --filename, and fio writes both.

DEVICE can be a partition: --serial names its drive, and nothing checks the partition's number. Without COMMAND it is
said which node DEVICE leads to, and its size.

mkfs, mkswap, blkdiscard and wipefs claim the drive for themselves, and fail here, EBUSY, as others do: run them
without this program, right after it found nothing against the drive.

exit status: that of COMMAND; 2 wrong usage, or a drive that is refused: then COMMAND was not started, which stderr
says; COMMAND can have a status of 2, too. Without COMMAND 0: nothing is against it now.
"""


# What parts a word of a command may have: name=path, path:path, (path).
SEPARATORS = re.compile(r"[\s=:,;|&<>(){}\[\]'\"@`]+")
# The longest names in /dev have a few of them; so that a long script is looked at soon.
MOST_PARTS = 12
# How drives are open to commands that no block device sees: /dev/nvme0, /dev/ng0n1, /dev/sg0, /dev/bsg.
CHARACTER = ("nvme", "nvme-generic", "scsi_generic", "bsg")


class Wrong(Exception):
    """COMMAND cannot be started so; what to do instead."""


def parser() -> argparse.ArgumentParser:
    """The argument parser, for what stands before COMMAND."""
    made = argparse.ArgumentParser(
        prog=NAME,
        usage=f"{NAME} [options] DEVICE [-- COMMAND [ARG ...]]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--serial", action="append", default=[],
                      help="the drive's serial number; without it nothing is overwritten")
    made.add_argument("--wwid", action="append", default=[],
                      help="its wwid, NGUID, EUI-64 or UUID, where the serial number is not enough")
    made.add_argument("--nsid", action="append", default=[], help="its namespace id, likewise")
    made.add_argument(drive_guard.CONSENT, action="append", default=[], metavar="TYPE", dest="consent",
                      help="what is on the drive and may be lost, as the refusal names it: ext4, gpt; for each a "
                      "time; it is for all things of that type, which the refusal counts")
    made.add_argument("--read", action="store_true", help="COMMAND only reads: the drive is the one that is named, "
                      "and may be in use; it is not claimed, and {fd} is open for reading alone")
    made.add_argument("device", metavar="DEVICE", help="the drive or partition: /dev/nvme1n1")
    return made


def demanded(args: argparse.Namespace) -> Demand:
    """Which drive is meant. Wrong where an option says nothing, as an unset variable of a shell does, or where
    it is given twice, of which one would not count."""
    found = {}
    for name in ("serial", "wwid", "nsid"):
        given: list[str] = getattr(args, name)
        if len(given) > 1:
            raise Wrong(f"--{name} is given {len(given)} times: which one is meant?")
        if given and not given[0].strip():
            raise Wrong(f"--{name} is empty, and names no drive: leave it out, or give it")
        found[name] = "".join(given)
    return Demand(**found)


def parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is for this program, and COMMAND, which begins after the first "--". Wrong where nothing does, as
    behind a shell's variable that is not set."""
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    if at < len(words) and not any(words[at + 1 : at + 2]):
        raise Wrong("no command follows --: leave that out to only look at the drive")
    return words[:at], words[at + 1 :]


def _parts(word: str) -> Iterator[str]:
    """All that could be a path in it. A path may have separators within, as those by a PCI address do; and it may
    begin right after a letter, as in -o/dev/sdb."""
    gaps = [match.span() for match in SEPARATORS.finditer(word)]
    starts = {0, *(end for _, end in gaps), *(match.start() for match in re.finditer("/+", word))}
    ends = [*(begin for begin, _ in gaps), len(word)]
    for start in sorted(starts):
        for end in [one for one in ends if one > start][:MOST_PARTS]:
            yield word[start:end].replace("\\", "")


def _drive(name: str, system: System, devices: Devices) -> bool:
    """Whether a name leads to a block device, or to a character device that is another way to a drive."""
    try:
        descriptor = devices.look(str(system.path(name)) if name.startswith("/") else name)
    except (OSError, ValueError):
        return False
    try:
        state = os.fstat(descriptor)
        if devices.number(descriptor):
            return True
        number = f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}"
        kind = os.path.basename(system.real(f"/sys/dev/char/{number}/subsystem"))
        return stat.S_ISCHR(state.st_mode) and kind in CHARACTER
    finally:
        os.close(descriptor)


def by_name(command: Sequence[str], guard: Guard, system: System, devices: Devices) -> str:
    """A word of COMMAND by which it would open a drive itself; "" when there is none."""
    own = {guard.path, system.real(guard.path), guard.identity.node.path} - {""}
    for word in command:
        if any(one in word for one in own) or any(_drive(part, system, devices) for part in _parts(word)):
            return word
    return ""


def filled(command: Sequence[str], guard: Guard) -> list[str]:
    """COMMAND with the drive in place of {fd} and {path}; Wrong where it names neither."""
    by_path = next((word for word in command if PATH in word or f"fd/{DESCRIPTOR}" in word), "")
    if by_path and not guard.writes:
        raise Wrong(f"{by_path} is a path, by which {command[0]} could open the drive for writing: with --read give "
                    f"it {DESCRIPTOR}, which is open for reading alone")
    if not any(one in word for word in command for one in (DESCRIPTOR, PATH)):
        raise Wrong(f"{command[0]} would not get the drive: say where, by {DESCRIPTOR} or {PATH}")
    instead = next((word for word in command if any(one in word for one in INSTEAD)), "")
    if instead:
        raise Wrong(f"{instead}: a shell would put another file in place of the drive's descriptor; give its own "
                    "descriptors another name")
    try:
        guard.move(LEAST)
    except OSError as error:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        raise Wrong(f"{soft} open files are too few, as the drive gets a descriptor of {LEAST} or more, which nobody "
                    f"uses by habit: ulimit -n 1024 ({error.strerror})") from error
    return [word.replace(DESCRIPTOR, str(guard.descriptor)).replace(PATH, guard.child_path) for word in command]


def become(command: Sequence[str], guard: Guard, system: System, devices: Devices) -> NoReturn:
    """Becomes COMMAND; returns never. Wrong where it cannot be started."""
    named = by_name(command, guard, system, devices)
    if named:
        raise Wrong(f"{named}: {command[0]} would open a drive by its name, which nobody has looked at, and which can "
                    f"lead elsewhere by then: give it {DESCRIPTOR} or {PATH}")
    words = filled(command, guard)
    for descriptor in guard.pass_fds:
        os.set_inheritable(descriptor, True)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(words[0], words)
    except OSError as error:
        raise Wrong(f"{words[0]} cannot be started: {error.strerror}") from error


def act(argv: Sequence[str], system: System | None = None, devices: Devices | None = None) -> int:
    """Does what the words say. Raises Refused and Wrong."""
    mine, command = parted(argv)
    args = parser().parse_args(mine)
    system, devices = system or System(), devices or Devices()
    demand = demanded(args)
    if args.read:
        guard = drive_guard.observe(args.device, demand, system, devices)
    else:
        guard = drive_guard.claim(args.device, demand, args.consent, system, devices)
    with guard:
        if guard.unneeded:
            Voice(NAME).say(f"{drive_guard.by_options(guard.unneeded)} names what is not on {guard.path}")
        if command:
            become(command, guard, system, devices)
        own = guard.identity
        what = visible(f"{own.model} {own.serial}".strip()) or "neither model nor serial number is known"
        if not args.read:
            # A partition has its drive's serial number: whether it is the one that is meant, this tells.
            print(f"{guard.path} ({what}) may be overwritten: all of {own.node.path}, {own.node.bytes} bytes")
        elif demand == Demand():
            print(f"{guard.path} is {own.node.path} ({what})")
        else:
            print(f"{guard.path} ({what}) is the drive that is named")
        sys.stdout.flush()
    return EXIT_PASS


def standard_streams() -> None:
    """Where one of them is closed, what is opened next would be it, the drive perhaps; and COMMAND would print
    there. It leads nowhere instead."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The smallest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python has none for what was closed.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)


def main(argv: list[str]) -> int:
    """The exit status, where COMMAND does not take the place of this program."""
    standard_streams()
    return program.run(lambda: act(argv), Voice(NAME).say, (drive_guard.Refused, Wrong))
