# SPDX-License-Identifier: GPL-2.0-only
"""The drives of a night: a job that writes does so to the drive that the plan names, and to no other.

What a job says is read here to tell what must be held, and to refuse what writes beside the files that
filename= names. For these files fio itself sees to it: it runs with --readonly unless the drive is held.
Jobs are judged once, when the night begins, and it is that text that runs, whatever the files say by then.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from dmabuf_common import drive_guard
from dmabuf_common.drive_devices import Devices
from dmabuf_common.drive_guard import Guard
from dmabuf_common.drive_paths import number_of_path
from dmabuf_common.sysfs import System

from .errors import NightlyError
from .jobfacts import OURS
from .jobfile import REPORT, Job
from .plan import Case, Host, Target
from .store import Series

# Options by which a job gets at files that filename= does not name.
ELSEWHERE = ("directory", "opendir", "filename_format", "read_iolog", "replay_redirect")

# Engines that do no more than read and write the files of filename=, as rw= says, and are done when fio
# is. mmap is none: the kernel writes its pages back later. io_uring_cmd and sg want a character device,
# which cannot be held. exec, filecreate, filedelete, dircreate and the like do something else altogether.
ENGINES = ("io_uring", "libaio", "null", "posixaio", "psync", "pvsync", "pvsync2", "sync", "vsync")
# Options that run a program, or write to or remove a file that filename= does not name.
BESIDE = ("exec_prerun", "exec_postrun", "write_iolog", "merge_blktrace_file", "profile")
UNLINKS = ("unlink", "unlink_each_loop")
MEMORY = ("iomem", "mem")


class Planned(NamedTuple):
    """A job that a night has, its report not yet named."""

    case: Case
    host: Host
    job: Job
    series: Series


@dataclass
class Want:
    """A drive that a night needs."""

    path: str
    target: Target
    writes: bool = False


def _remote(case: Case, host: Host) -> NightlyError:
    return NightlyError(
        f"case {case.name} writes on host {host.name}, which only reads: fio --server there opens the "
        "drive by its name, whatever that leads to by then, and nothing can hold it from here; run "
        "dmabuf-nightly on that machine"
    )


def _nameless(case: Case) -> NightlyError:
    return NightlyError(
        f"case {case.name} writes, and the plan does not say which drive that is meant for; add "
        '[target] with serial = "…" (see nvme list), or take the case out. Only a block device can be a '
        "target: no plan writes to a file in a file system"
    )


def _plain(path: str) -> bool:
    """Whether there is one way alone to spell this path."""
    return path.startswith("/") and not path.startswith("//") and os.path.normpath(path) == path


def _only(case: Case, job: Job) -> str:
    """The one path that a job of a host with a target uses."""
    for option in ELSEWHERE:
        if any(name == option for name, _ in job.options):
            raise NightlyError(
                f"{case.job.name} has {option}, by which it could reach more than the target; name "
                "the drive by filename= alone"
            )
    paths = list(dict.fromkeys(job.files))
    if len(paths) != 1:
        raise NightlyError(
            f"{case.job.name} names {', '.join(paths)}; with a [target], all jobs use that one drive (a "
            "colon parts names; one in a name is written \\:)"
        )
    if not _plain(paths[0]):
        raise NightlyError(
            f"{case.job.name} names {paths[0]!r}; write the drive's whole path, as in /dev/nvme1n1, without "
            "//, . or .."
        )
    return paths[0]


def allowed(case: Case, job: Job) -> None:
    """NightlyError for a job that could write beside what filename= names: --readonly keeps fio from
    none of this. So it is asked of every job, also of those that only read, and of other machines'."""
    where = case.job.name
    for name, value in job.options:
        if name == "ioengine" and value not in ENGINES and not OURS.fullmatch(value):
            raise NightlyError(
                f"{where} has ioengine={value}, of which it is not known that it does no more than read and "
                f"write filename=; use libdmabuf.so or one of {', '.join(ENGINES)}"
            )
        if name in BESIDE or (name in UNLINKS and value != "0"):
            raise NightlyError(
                f"{where} has {name}, which runs a program, or writes to or removes what filename= does not "
                "name; take it out"
            )
        if name in MEMORY and ":" in value:
            raise NightlyError(f"{where} has {name}={value}, which writes to that file; use {name}=mmap")
    reports = [value for name, value in job.options if name == REPORT]
    if reports not in ([], [job.placed_report]):
        raise NightlyError(f"{where} has {REPORT}, which this program sets itself; take it out")


def wanted(planned: Iterable[Planned]) -> dict[str, Want]:
    """The drives that must be held or known, by path. NightlyError for what must not run."""
    found: dict[str, Want] = {}
    of_host: dict[str, str] = {}
    for case, host, job, _ in planned:
        allowed(case, job)
        if host.target is None:
            if job.writes:
                raise _remote(case, host) if host.address else _nameless(case)
            continue
        path = _only(case, job)
        if of_host.setdefault(host.name, path) != path:
            raise NightlyError(
                f"the plan names {of_host[host.name]} and {path} on host {host.name}; with a "
                "[target], all jobs use that one drive, by one name"
            )
        want = found.setdefault(path, Want(path, host.target))
        if want.target != host.target:
            raise NightlyError(f"two hosts of the plan have {path}, each with another [target]")
        want.writes |= job.writes
    return found


def _one_name(found: Iterable[str], system: System) -> None:
    """NightlyError where two names lead to one device: one of the two could not be claimed, and nothing
    would say why."""
    names: dict[str, str] = {}
    for path in found:
        number = number_of_path(system, path)
        if number and names.setdefault(number, path) != path:
            raise NightlyError(
                f"the plan's hosts name {names[number]} and {path}, which are one drive (device {number}); "
                "use one name"
            )


def _ask(types: Sequence[str]) -> str:
    """How a plan says that what is on its drive may be lost."""
    return f"overwrite_signature = {json.dumps(list(types))} in the plan's [target]"


class Drives:
    """The drives that are held, or known, and the jobs that were judged for them."""

    def __init__(
        self, guards: dict[str, Guard] | None = None, jobs: dict[Series, Job] | None = None
    ) -> None:
        self._guards = guards or {}
        self._jobs = jobs

    def job(self, series: Series) -> Job | None:
        """The job as it was when the night began. None where nothing is held for a night."""
        if self._jobs is None:
            return None
        if series not in self._jobs:
            raise NightlyError(f"{series} was not planned when the night began, and is not run")
        return self._jobs[series]

    def give(self, host: Host, job: Job) -> tuple[Guard | None, Job]:
        """The drive of a job that is about to run, looked at again, and the job with the descriptor in
        place of its name. None where the plan names no target: such a job only reads. Raises Gone."""
        path = job.files[0]
        if host.target is None or path not in self._guards:
            return None, job
        guard = self._guards[path]
        guard.check()
        ran = job.on(path, guard.child_path)
        if any(files != {guard.child_path} for files in ran.sections):
            raise NightlyError(f"a section would use more than {path}, and is not run")
        return guard, ran


@contextmanager
def hold(
    planned: Iterable[Planned], system: System | None = None, devices: Devices | None = None
) -> Iterator[Drives]:
    """Claims what is written to and looks at what is only read; lets go of all of it in the end.
    Raises drive_guard.Refused before anything is written."""
    planned = list(planned)
    with ExitStack() as stack:
        guards = {}
        found = wanted(planned)
        _one_name(found, system or System())
        for path, want in found.items():
            demand = want.target.demand
            if want.writes:
                guard = drive_guard.claim(path, demand, want.target.consent, system, devices, _ask)
            else:
                guard = drive_guard.observe(path, demand, system, devices)
            guards[path] = stack.enter_context(guard)
        yield Drives(guards, {one.series: one.job for one in planned})
