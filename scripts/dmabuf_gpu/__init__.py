# SPDX-License-Identifier: GPL-2.0-only
"""What a GPU of this machine does with dma-bufs: the driver's calls, and fio's jobs on datapath bounce."""
