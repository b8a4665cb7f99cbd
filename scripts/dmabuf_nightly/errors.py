# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses and the one exception that ends a command."""

# What git bisect run takes for "cannot tell, take another commit".
EXIT_BISECT_SKIP = 125


class NightlyError(Exception):
    """The command could not do its work; the text is one sentence that names cause and remedy."""
