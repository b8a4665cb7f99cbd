# SPDX-License-Identifier: GPL-2.0-only
"""The one exception that ends a command."""


class BenchError(Exception):
    """Nothing could be measured; the text is one sentence that names the cause."""
