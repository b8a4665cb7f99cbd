# SPDX-License-Identifier: GPL-2.0-only
"""KTAP, version 1: one line per requirement. What is inconclusive is `not ok … # ERROR`."""

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP

from .model import Results


def _line(text: str) -> str:
    """Text on one line, without the sign that begins a directive."""
    return " ".join(text.split()).replace("#", "no.")


def render(results: Results) -> str:
    """The document as KTAP."""
    lines = ["KTAP version 1", f"1..{len(results.requirements)}"]
    for number, requirement in enumerate(results.requirements, 1):
        text = _line(requirement.text)
        for evidence in requirement.evidence:
            lines.append(f"# {_line(f'{evidence.name}: {evidence.value} {evidence.unit}')}")
        if requirement.status == FAIL:
            lines.append(f"# {text}")
        result, directive = {
            PASS: ("ok", ""),
            FAIL: ("not ok", ""),
            INCONCLUSIVE: ("not ok", f" # ERROR {text}"),
            SKIP: ("ok", f" # SKIP {text}"),
        }[requirement.status]
        lines.append(f"{result} {number} {_line(requirement.id)}{directive}")
    lines.append(f"# {_line(f'verdict {results.verdict.status}: {results.verdict.text}')}")
    counts = {s: sum(r.status == s for r in results.requirements) for s in (PASS, FAIL, SKIP)}
    errors = sum(r.status == INCONCLUSIVE for r in results.requirements)
    lines.append(
        f"# Totals: pass:{counts[PASS]} fail:{counts[FAIL]} xfail:0 xpass:0 "
        f"skip:{counts[SKIP]} error:{errors}"
    )
    return "\n".join(lines) + "\n"
