# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses and the one exception that ends a command."""

# What git bisect run takes for "cannot tell, take another commit".
EXIT_BISECT_SKIP = 125
# git bisect run ends the whole bisection for 128 and more.
EXIT_BISECT_ABORT = 255


class NightlyError(Exception):
    """The command could not do its work; the text is one sentence that names cause and remedy."""
