# SPDX-License-Identifier: GPL-2.0-only
"""Breaks the code in small ways, one at a time, and looks which test notices."""
