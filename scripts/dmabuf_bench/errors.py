# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses and the one exception that ends a command."""

EXIT_MISSED = 1
EXIT_ERROR = 2


class BenchError(Exception):
    """Nothing could be measured; the text is one sentence that names the cause."""
