# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML: one test case per requirement, the verdict as a property of each suite. What is
inconclusive is an error, not a skip: a reader that hides skips must not hide that nothing was decided."""

import re

from dmabuf_common.verdict import FAIL, INCONCLUSIVE, PASS, SKIP
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from .model import Requirement, Results

# What XML 1.0 cannot hold, in whatever a command or a kernel said.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESULT = {FAIL: Failure, INCONCLUSIVE: Error, SKIP: Skipped}


def clean(text: str) -> str:
    """Text without the characters that XML does not allow."""
    return _NOT_XML.sub("\ufffd", text)


def _details(requirement: Requirement) -> str:
    lines = [requirement.text]
    if requirement.remedy:
        lines.append(f"Try: {requirement.remedy}")
    lines += [f"{e.name}: {e.value} {e.unit}".rstrip() for e in requirement.evidence]
    return clean("\n".join(lines))


def render(results: Results) -> str:
    """The document as JUnit XML, groups as suites."""
    document = JUnitXml(clean(results.title))
    suites: dict[str, TestSuite] = {}
    for requirement in results.requirements:
        group = requirement.group or results.tool.name
        if group not in suites:
            suites[group] = TestSuite(clean(group))
            suites[group].timestamp = results.started
            suites[group].add_property(
                "verdict", clean(f"{results.verdict.status}: {results.verdict.text}")
            )
        case = TestCase(clean(requirement.id), f"{results.tool.name}.{clean(group)}")
        case.time = requirement.seconds
        details = _details(requirement)
        if requirement.status == PASS:
            case.system_out = details
        else:
            outcome = _RESULT[requirement.status](clean(requirement.text), requirement.status)
            outcome.text = details
            case.result = [outcome]
        suites[group].add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    document.update_statistics()
    text: bytes = document.tostring()
    return text.decode() + "\n"
