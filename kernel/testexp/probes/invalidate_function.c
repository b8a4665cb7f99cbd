// SPDX-License-Identifier: GPL-2.0-only
/* 7.1: importers are told by dma_buf_invalidate_mappings(); before, by another name. */
#include <linux/dma-buf.h>
#ifdef COUNTER_PROBE
const struct dma_buf_attach_ops probe = { .allow_peer2peer = true };
#else
void probe(struct dma_buf *dmabuf);
void probe(struct dma_buf *dmabuf)
{
	dma_buf_invalidate_mappings(dmabuf);
}
#endif
