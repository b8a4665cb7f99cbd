# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses and the one exception that ends a command of the lab."""

EXIT_FAILED = 1
EXIT_LAB_ERROR = 2


class LabError(Exception):
    """The lab itself could not do its work; the text is one sentence that names the cause."""


