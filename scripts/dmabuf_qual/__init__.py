# SPDX-License-Identifier: GPL-2.0-only
"""Qualification of a drive with dma-bufs: preflight, plan, run, report, compare."""

VERSION = "0.1.0"
