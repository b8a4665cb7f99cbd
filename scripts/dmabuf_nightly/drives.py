# SPDX-License-Identifier: GPL-2.0-only
"""The drives of a night: a job that writes does so to the drive that the plan names, and to no other.

What a job says is read here only to tell what must be held. That nothing else is written, fio itself
sees to: it runs with --readonly unless the drive is held.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dmabuf_common import drive_guard
from dmabuf_common.drive_devices import Devices
from dmabuf_common.drive_guard import Guard
from dmabuf_common.sysfs import System

from .errors import NightlyError
from .jobfile import Job
from .plan import Case, Host, Target

# Options by which a job gets at files that filename= does not name.
ELSEWHERE = ("directory", "opendir", "filename_format", "read_iolog", "replay_redirect")

Planned = tuple[Case, Host, Job]


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


def wanted(planned: Iterable[Planned]) -> dict[str, Want]:
    """The drives that must be held or known, by path. NightlyError for what must not run."""
    found: dict[str, Want] = {}
    of_host: dict[str, str] = {}
    for case, host, job in planned:
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


class Drives:
    """The drives that are held, or known."""

    def __init__(self, guards: dict[str, Guard] | None = None) -> None:
        self._guards = guards or {}

    def of(self, host: Host, job: Job) -> Guard | None:
        """The drive of a job that is about to run, looked at again. None where the plan names no
        target: such a job only reads. Raises Gone."""
        if host.target is None:
            return None
        guard = next((self._guards[path] for path in job.files if path in self._guards), None)
        if guard:
            guard.check()
        return guard


@contextmanager
def hold(
    planned: Iterable[Planned], system: System | None = None, devices: Devices | None = None
) -> Iterator[Drives]:
    """Claims what is written to and looks at what is only read; lets go of all of it in the end.
    Raises drive_guard.Refused before anything is written."""
    with ExitStack() as stack:
        guards = {}
        for path, want in wanted(planned).items():
            demand = want.target.demand
            if want.writes:
                guard = drive_guard.claim(path, demand, want.target.consent, system, devices)
            else:
                guard = drive_guard.observe(path, demand, system, devices)
            guards[path] = stack.enter_context(guard)
        yield Drives(guards)
