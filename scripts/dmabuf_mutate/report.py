# SPDX-License-Identifier: GPL-2.0-only
"""The table of results, the survivors, and the exit status."""

from collections.abc import Mapping, Sequence

from dmabuf_common.verdict import EXIT_FAIL

from .model import Mutant
from .results import CAUGHT, ERROR, STALE, SURVIVED, Result

# More than this share of unexplained survivors fails a run.
LIMIT = 0.05


def _rows(mutants: Sequence[Mutant], results: Mapping[str, Result]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("MUTANT", "LEVEL", "RESULT", "BY", "SECONDS")]
    for mutant in mutants:
        result = results.get(mutant.id)
        if result is None:
            rows.append((mutant.id, mutant.level, "not run", "", ""))
            continue
        verdict = result.verdict
        if verdict == SURVIVED and mutant.explained:
            verdict = "explained"
        rows.append((mutant.id, mutant.level, verdict, result.by, f"{result.seconds:.1f}"))
    return rows


def table(mutants: Sequence[Mutant], results: Mapping[str, Result]) -> list[str]:
    """One line for each mutant, under a heading."""
    rows = _rows(mutants, results)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4].rjust(7)]).rstrip()
        for row in rows
    ]


def summary(mutants: Sequence[Mutant], results: Mapping[str, Result]) -> tuple[list[str], int]:
    """Lines about what was not caught, and the exit status."""
    lines: list[str] = []
    tried = [mutant for mutant in mutants if mutant.id in results]
    counts = dict.fromkeys((CAUGHT, SURVIVED, ERROR, STALE), 0)
    unexplained = 0
    for mutant in tried:
        result = results[mutant.id]
        counts[result.verdict] += 1
        files = ", ".join(dict.fromkeys(edit.file for edit in mutant.edits))
        match result.verdict:
            case "survived" if mutant.explained:
                lines.append(f"explained: {mutant.id} ({files}): {mutant.explained}")
            case "survived":
                unexplained += 1
                tests = ", ".join(mutant.tests)
                lines.append(f"SURVIVED: {mutant.id} ({files}): {mutant.breaks} Ran: {tests}.")
            case "caught" if mutant.explained:
                lines.append(f"note: {mutant.id} is explained as one that no test notices: {result.by} does")
            case "error" | "stale":
                lines.append(f"{result.verdict}: {mutant.id} ({files}): {result.detail}")
    judged = counts[CAUGHT] + counts[SURVIVED]
    share = unexplained / judged if judged else 0.0
    lines.append(
        f"{len(tried)} of {len(mutants)} mutants tried: {counts[CAUGHT]} caught, "
        f"{counts[SURVIVED]} survived ({counts[SURVIVED] - unexplained} of them explained), "
        f"{counts[ERROR]} without a result, {counts[STALE]} stale; "
        f"unexplained survivors {100 * share:.1f} % (limit {100 * LIMIT:.0f} %)"
    )
    failed = share > LIMIT or counts[ERROR] or counts[STALE] or not judged
    return lines, EXIT_FAIL if failed else 0
