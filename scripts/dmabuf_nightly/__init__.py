# SPDX-License-Identifier: GPL-2.0-only
"""Runs fio plans night by night and says, by rules that are tested, what became slower."""
