# SPDX-License-Identifier: GPL-2.0-only
"""Judges kmemleak's reports from the debug kernel."""

import re
from collections.abc import Iterable

# Functions by which a report is known to be none of ours, each with the reason why it is harmless.
# The pattern must match a line of the report's backtrace.
ALLOWED: tuple[tuple[re.Pattern[str], str], ...] = ()

# What the kernel's log says of reports; they are judged one by one, so it says nothing more.
SUMMARY = re.compile(r"^kmemleak: \d+ new suspected memory leaks \(see \S+\)$")

_FRAME = re.compile(r"^    (\S.*)$", re.MULTILINE)
_OBJECT = re.compile(r"^unreferenced object(?:\s\S+)? \S+ \(size (\d+)\):")
_COMMAND = re.compile(r'^  comm "(.*)", pid (\d+)', re.MULTILINE)
_ALLOCATORS = re.compile(r"^(__)?(k[mzv]*alloc|kmem_cache|slab_|kvmalloc|vmalloc|kmemleak|__kvm)|alloc\w*noprof")


def frames(report: str) -> list[str]:
    """The functions in a report's backtrace, the innermost first."""
    _, _, trace = report.partition("  backtrace")
    return _FRAME.findall(trace)


def harmless(report: str) -> bool:
    """Whether a report is one of ALLOWED."""
    return any(pattern.search(frame) for pattern, _ in ALLOWED for frame in frames(report))


def describe(report: str) -> str:
    """One line: how much was leaked, by whom, and where it was allocated."""
    size, command = _OBJECT.search(report), _COMMAND.search(report)
    where = [frame for frame in frames(report) if not _ALLOCATORS.search(frame)]
    return (
        f"kmemleak: {size[1] if size else '?'} bytes leaked by {command[1] if command else '?'}, "
        f"allocated in {' < '.join(where[:3]) or 'an unknown place'}"
    )


def examine(reports: Iterable[str]) -> list[str]:
    """The reports that fail a run."""
    return [report for report in reports if not harmless(report)]
