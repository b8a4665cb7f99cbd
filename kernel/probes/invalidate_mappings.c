// SPDX-License-Identifier: GPL-2.0-only
/* 7.1: importers are told by invalidate_mappings(); before, by move_notify(). */
#include <linux/dma-buf.h>
#ifdef COUNTER_PROBE
const struct dma_buf_attach_ops probe = { .allow_peer2peer = true };
#else
const struct dma_buf_attach_ops probe = { .invalidate_mappings = NULL };
#endif
