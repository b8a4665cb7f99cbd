# SPDX-License-Identifier: GPL-2.0-only
"""What several of our programs share: the machine, its kernel's log, statistics, words, files."""
