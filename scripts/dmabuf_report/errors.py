# SPDX-License-Identifier: GPL-2.0-only
"""The one exception of the report package."""


class ReportError(Exception):
    """A document is not what it must be; the text is one sentence that names cause and remedy."""
