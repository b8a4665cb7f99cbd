# SPDX-License-Identifier: GPL-2.0-only
"""Judges kmemleak's reports from the debug kernel."""

import re
from collections.abc import Iterable

# Functions by which a report is known to be none of ours, each with the reason why it is harmless.
# The pattern must match in the report's backtrace, a function a line.
ALLOWED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"^sg_alloc_table\+\S+\ndma_buf_phys_vec_to_sgt\+", re.MULTILINE),
        "Linux 7.3's dma_buf_free_sgt() leaks the entries of every table made for vfio-pci: it frees as many"
        " as orig_nents says, which dma_buf_phys_vec_to_sgt() has set to 0",
    ),
)

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
    trace = "\n".join(frames(report))
    return any(pattern.search(trace) for pattern, _ in ALLOWED)


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
