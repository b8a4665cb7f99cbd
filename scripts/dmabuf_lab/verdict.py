# SPDX-License-Identifier: GPL-2.0-only
"""Turns what happened in a guest into an exit status and sentences that name the causes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dmabuf_common import kernel_log
from dmabuf_common.verdict import EXIT_ERROR, EXIT_FAIL

from . import addresses, leaks
from .vm import Outcome

LOG_LINES = 25
# Linux writes a message anew that another CPU cut short on the console, behind this.
WRITTEN_ANEW = "** replaying previous printk message **"
# Of a line of the command's output, which can have any length.
LINE_CHARACTERS = 200
# Longer than a guest that goes on gives no sign of life (it gives one in 5 s), and than this program
# does not run on a busy machine.
STOOD_STILL_S = 30.0


@dataclass
class Verdict:
    """The exit status of `run`, the reasons when the lab made it fail, and lines to show.

    `checks`: the first lines of the command's output that name a check that failed. `notes`: what
    may have made the run fail, and would not have alone.
    """

    status: int
    reasons: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def whole(console: Sequence[str]) -> list[str]:
    """The lines of a console without the parts of messages that follow whole."""
    cut = {number for number, line in enumerate(console, 1) if WRITTEN_ANEW in line}
    return [line for number, line in enumerate(console, 1) if number not in cut and number + 1 not in cut]


def kernel_lines(outcome: Outcome) -> list[str]:
    """The console's lines and the kernel's records, without levels."""
    return whole(outcome.console) + [record.partition(" ")[2] for record in outcome.kmsg]


def qemu_message(text: str) -> str:
    """QEMU's last own error line; its warnings about the emulated CPU say nothing about a failure."""
    lines = [line for line in text.splitlines() if line.strip() and ": warning: " not in line]
    return lines[-1] if lines else ""


def died_booting(outcome: Outcome) -> bool:
    """Whether the guest died or hung as it booted, before any module of ours was loaded.

    QEMU, emulating several CPUs, now and then loses an instruction that the kernel patches while it
    boots (an int3 oops), or all CPUs wait for ever. That says nothing about what was to be tested.
    """
    died = not outcome.ended and not outcome.timed_out and not outcome.ready
    return died and not any("dmabuf_" in line for line in kernel_lines(outcome))


def stood_still(outcome: Outcome) -> list[str]:
    """Says so when the guest, or this machine, did nothing for long, which no time-out allows for."""
    notes = []
    if outcome.late_s >= STOOD_STILL_S:
        notes.append(f"this program itself did not run for {outcome.late_s:.0f} s: suspended, or too busy")
    if outcome.silent_s >= STOOD_STILL_S:
        notes.append(f"the guest gave no sign of life for {outcome.silent_s:.0f} s")
    return notes


def judge(outcome: Outcome, timeout_s: float, expected: Sequence[str] = ()) -> Verdict:
    """The command's own status when nothing else went wrong; 1 when the guest misbehaved.

    A lab that did not come as far as the command is status 2. `expected`: regular expressions of
    kernel messages that the command provokes on purpose, and of addresses that it shows on purpose.
    """
    reasons: list[str] = []
    known = [re.compile(text) for text in expected]
    if outcome.leaks:
        known.append(leaks.SUMMARY)
    lines = kernel_lines(outcome)
    findings = kernel_log.examine(lines, known)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        reasons.append(f"the guest's kernel complained: {findings[0].line}{more}")
    if outcome.timed_out:
        where = "the command did not end" if outcome.ready else "the guest did not start"
        if outcome.status is not None:
            where = "the guest did not power off"
        reasons.append(f"time-out: {where} within {timeout_s:g} s, the guest was killed")
    elif outcome.hung_booting:
        reasons.append("the guest hung while it booted, with our modules loaded, and was killed")
    elif not outcome.ended:
        detail = qemu_message(outcome.qemu_error) or "see the log"
        where = "before the command started" if not outcome.ready else "while the command ran"
        if outcome.status is not None:
            where = "after the command ended"
        reasons.append(f"the guest died {where}: {detail}")
    reasons += outcome.problems
    for where, shown in (
        ("the command's output", outcome.addresses),
        ("our modules' log", addresses.in_log(map(kernel_log.strip_time, kernel_lines(outcome)))),
    ):
        shown = [line for line in shown if not any(pattern.search(line) for pattern in known)]
        if shown:
            more = f" (and {len(shown) - 1} more)" if len(shown) > 1 else ""
            line = shown[0].strip()[:LINE_CHARACTERS]
            reasons.append(f"an address of the kernel is in {where}: {line}{more}")
    leaked = leaks.examine(outcome.leaks)
    reasons += list(dict.fromkeys(leaks.describe(report) for report in leaked))
    tainted = outcome.tainted
    if not findings:
        tainted &= ~kernel_log.expected_taint(lines, known)
    taint = kernel_log.describe_taint(tainted)
    if taint:
        reasons.append(f"the guest's kernel is tainted: {taint}")
    if not reasons:
        assert outcome.status is not None
        if outcome.status == 0:
            return Verdict(0)
        return Verdict(outcome.status, checks=outcome.failed_checks, notes=stood_still(outcome))
    lines = outcome.console
    if findings:
        first = next(
            (i for i, line in enumerate(lines) if kernel_log.strip_time(line) == findings[0].line), None
        )
        if first is None:
            lines = kernel_lines(outcome)
            first = next(i for i, x in enumerate(lines) if kernel_log.strip_time(x) == findings[0].line)
        log = [line for line in lines[max(first - 2, 0) :] if line.strip()][:LOG_LINES]
    elif leaked and not outcome.dump:
        log = "\n".join(leaked).splitlines()[: 2 * LOG_LINES]
    elif outcome.dump:
        blocked = [line for line in outcome.dump if line.strip()][: 2 * LOG_LINES]
        log = kernel_log.last_lines(kernel_lines(outcome), 10) + blocked
    else:
        log = kernel_log.last_lines(lines, LOG_LINES)
    started = outcome.ready and (outcome.status is not None or outcome.timed_out or findings)
    died_running = outcome.ready and not outcome.ended
    failed = started or died_running or findings
    status = EXIT_FAIL if failed else EXIT_ERROR
    return Verdict(status, reasons, log, outcome.failed_checks, stood_still(outcome))
