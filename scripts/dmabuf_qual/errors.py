# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses and the exceptions that end a command."""

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_ERROR = 2
EXIT_SKIP = 77
EXIT_INTERRUPTED = 130


class QualError(Exception):
    """The qualification could not do its work: one sentence with cause and remedy."""


class Refused(QualError):
    """A destructive run was refused; the text says why and what to do."""


class Interrupted(Exception):
    """The user stopped the run; what is finished is kept."""
