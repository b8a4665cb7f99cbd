# SPDX-License-Identifier: GPL-2.0-only
"""The one exception that ends a command of the lab."""


class LabError(Exception):
    """The lab itself could not do its work; the text is one sentence that names the cause."""


class BrokenOff(LabError):
    """A download ended half-way: the same command can simply be run again."""
