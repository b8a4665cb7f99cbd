# SPDX-License-Identifier: GPL-2.0-only
"""The exception that ends a command. So does drive_guard.Refused."""


class QualError(Exception):
    """The qualification could not do its work: one sentence with cause and remedy."""
