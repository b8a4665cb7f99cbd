# SPDX-License-Identifier: GPL-2.0-only
"""What an I/O costs on each datapath: measured in the lab, in instructions and as fio sees it."""
