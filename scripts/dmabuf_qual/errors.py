# SPDX-License-Identifier: GPL-2.0-only
"""The exceptions that end a command."""


class QualError(Exception):
    """The qualification could not do its work: one sentence with cause and remedy."""


class Refused(QualError):
    """A destructive run was refused; the text says why and what to do."""
