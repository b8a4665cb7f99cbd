// SPDX-License-Identifier: GPL-2.0-only
/* 6.2: an exporter's vmap is called with the dma_resv held. */
#include <linux/dma-buf.h>
int probe(struct dma_buf *dmabuf, struct iosys_map *map);
int probe(struct dma_buf *dmabuf, struct iosys_map *map)
{
#ifdef COUNTER_PROBE
	return dma_buf_vmap(dmabuf, map);
#else
	return dma_buf_vmap_unlocked(dmabuf, map);
#endif
}
