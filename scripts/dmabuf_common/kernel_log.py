# SPDX-License-Identifier: GPL-2.0-only
"""Decides from a kernel's log and taint whether the kernel complained."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .kmsg import OVERRAN

# What a kernel says when something is wrong with itself. Matched anywhere in a line.
KERNEL = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bWARNING:",
        r"\bBUG:",
        r"\bBUG at\b|kernel BUG\b",
        r"\bOops\b",
        r"general protection fault",
        r"Unable to handle kernel|unable to handle kernel",
        r"\b(KASAN|KMSAN|KCSAN|KFENCE|UBSAN)\b:",
        r"kmemleak: \d+ new suspected",
        r"possible (circular|recursive) locking|inconsistent lock state|lock held when returning",
        r"bad unlock balance|suspicious RCU usage|INFO: possible irq lock inversion",
        r"sleeping function called from invalid context|scheduling while atomic",
        r"blocked for more than \d+ seconds|blocked in I/O wait for more than",
        r"soft lockup|hard LOCKUP|watchdog: .*stuck for",
        r"rcu.*(detected stalls|self-detected stall|detected expedited stalls)",
        r"workqueue lockup|hogged CPU for",
        r"DMA-API:",
        r"DMAR:.*(fault|Fault|DRHD: handling fault)",
        # "Call trace:" is arm64's, as the next two lines are.
        r"\bCall [Tt]race:",
        r"arm-smmu-v3.*(event 0x|GERROR|CMD_SYNC timeout)",
        r"Internal error:|Unhandled fault|\bSError\b|synchronous external abort",
        r"Kernel panic",
        r"refcount_t:|percpu ref .* <= 0",
        r"\bleaked\b|memory leak|Objects remaining",
        r"list_(add|del) corruption|slab-out-of-bounds|use-after-free|double-free|Bad page state",
        r"page allocation failure|Out of memory|oom-kill",
        r"nvme\d*(n\d+)?: .*(timeout|Abort status|reset controller|controller is down)",
        r"\btainting kernel due to\b",
        re.escape(OVERRAN),
    )
)

# What it says when something is wrong with a drive, its bus, or the way to memory. The lab does not
# look for these: its tests take drives away on purpose.
DRIVE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"nvme.*(I/O error|frozen state|Removing after)",
        r"critical medium error|I/O error, dev (nvme|dm)",
        r"AER:(?! enabled with IRQ)|PCIe Bus Error",
        r"IO_PAGE_FAULT|iommu.*\bfault\b",
        r"swiotlb buffer is full",
    )
)

# All that speaks against what was measured or qualified on a machine.
MACHINE = KERNEL + DRIVE

# Lines that match above and are harmless, each with its reason. Keep every pattern as narrow as can be.
ALLOWED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"^Speculative Return Stack Overflow: WARNING: See https?://\S+ for mitigation"),
        "the emulated CPU has no microcode; 6.12 announces its mitigation advice this way at boot",
    ),
    (
        re.compile(
            r"^DMA-API: (preallocated \d+ debug entries|debugging enabled by kernel config"
            r"|dma_debug_entry pool grown to \d+ \(\d+00%\)"
            r"|enable driver filter for driver \[nvme\]|switching off dma-debug driver filter)$"
        ),
        "the debug kernel's DMA-API debugging says that it is there, and whom it watches",
    ),
    (
        re.compile(r"^rcu: (\t|\\x09)RCU callback double-/use-after-free debug is enabled\.$"),
        "the debug kernel's RCU debugging says that it is there",
    ),
    (
        re.compile(r"^kmemleak: Kernel memory leak detector initialized \(mem pool available: \d+\)$"),
        "the debug kernel's leak detector says that it is there",
    ),
    (
        re.compile(r"^nvme nvme\d+: Shutdown timeout set to \d+ seconds$"),
        "a drive that asked for more time to shut down, said when the driver finds it",
    ),
)

# Bits of /proc/sys/kernel/tainted that the lab's own out-of-tree, unsigned module sets.
TAINT_OUT_OF_TREE = 1 << 12
TAINT_UNSIGNED = 1 << 13
ALLOWED_TAINT = TAINT_OUT_OF_TREE | TAINT_UNSIGNED
# Set by any warning.
TAINT_WARN = 1 << 9

# Set by a feature whose use the kernel wants to be known; a message of the kernel says so.
TAINT_AUX = 1 << 16

TAINT_LETTERS = "PFSRMBUDAWCIOELKXTNJ"

_WARNING = re.compile(r"\bWARNING:")
_TAINTING = re.compile(r"\btainting kernel\s*$")
_CALL_TRACE = re.compile(r"\bCall [Tt]race:")
_END_TRACE = re.compile(r"---\[ end trace ")
_PREFIX = re.compile(r"^(?:\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])?\s*)")


@dataclass(frozen=True)
class Finding:
    """A line of the kernel log that fails a run."""

    line: str


def strip_time(line: str) -> str:
    """A console line without the kernel's time stamp."""
    return _PREFIX.sub("", line.rstrip("\r\n"))


# A report of KCSAN is between two of these.
_RULE = re.compile(r"^={20,}$")
_RACE = re.compile(r"\bBUG: KCSAN: ")
_OURS = re.compile(r"\bdmabuf_(rw|testexp)\b|\[dmabuf_(rw|testexp)\]")
# Longer than any report is, so that one whose end is missing hides nothing of what follows.
_REPORT_LINES = 80


def races_of_others(lines: Sequence[str]) -> set[str]:
    """The titles of KCSAN's reports in which no module of ours has a part.

    Linux has data races of its own, which a kernel with KCSAN tells of. `lines` have no time stamps.
    A title that ours and others' reports share is not among them.
    """
    others: set[str] = set()
    ours: set[str] = set()
    for start, title in enumerate(lines):
        if not _RACE.search(title):
            continue
        report = list(lines[start : start + _REPORT_LINES])
        rule = next((i for i, line in enumerate(report) if _RULE.match(line)), len(report))
        own = any(_OURS.search(line) for line in report[:rule])
        (ours if own else others).add(title)
    return others - ours


def examine(
    lines: Iterable[str],
    expected: Iterable[re.Pattern[str]] = (),
    rules: Sequence[re.Pattern[str]] = KERNEL,
) -> list[Finding]:
    """The lines by which the kernel complained, in order, each text once.

    `expected`: what a test provokes on purpose, and which is therefore no complaint; with a warning
    goes the trace up to its end.
    """
    texts = [strip_time(line) for line in lines]
    others = races_of_others(texts)
    harmless = [pattern for pattern, _ in ALLOWED] + list(expected)
    found: dict[str, None] = {}
    excused = False
    for text in texts:
        if _END_TRACE.search(text):
            excused = False
        if text in others or not any(pattern.search(text) for pattern in rules):
            continue
        if any(pattern.search(text) for pattern in harmless):
            excused = excused or _WARNING.search(text) is not None
        elif not (excused and _CALL_TRACE.search(text)):
            found[text] = None
    return [Finding(text) for text in found]


def complaints(lines: Iterable[str]) -> list[str]:
    """The lines that speak against what was measured or qualified meanwhile, each text once."""
    return [finding.line for finding in examine(lines, rules=MACHINE)]


def expected_taint(lines: Iterable[str], expected: Iterable[re.Pattern[str]]) -> int:
    """The taint flags that come with messages of the kernel that a test provokes on purpose."""
    taint = 0
    for line in lines:
        if any(pattern.search(line) for pattern in expected):
            taint |= TAINT_WARN if _WARNING.search(line) else 0
            taint |= TAINT_AUX if _TAINTING.search(line) else 0
    return taint


def describe_taint(value: int) -> str | None:
    """Names the taint flags that must not be there ("W (bit 9)"), or None when all is well."""
    bad = value & ~ALLOWED_TAINT
    if not bad:
        return None
    names = [
        f"{TAINT_LETTERS[bit] if bit < len(TAINT_LETTERS) else '?'} (bit {bit})"
        for bit in range(bad.bit_length())
        if bad >> bit & 1
    ]
    return ", ".join(names)


def last_lines(lines: Iterable[str], count: int) -> list[str]:
    """The last `count` lines that are not empty."""
    return [line.rstrip() for line in lines if line.strip()][-count:]
