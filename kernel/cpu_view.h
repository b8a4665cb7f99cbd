/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The CPU's view of a dma-buf; see cpu_view.c.
 */
#ifndef DMABUF_RW_CPU_VIEW_H
#define DMABUF_RW_CPU_VIEW_H

#include <linux/dma-buf.h>

#include "result.h"

struct dmabuf_rw_view;
struct iov_iter;

struct dmabuf_rw_result dmabuf_rw_view_get(struct dma_buf *dmabuf, struct dmabuf_rw_view **out);
void dmabuf_rw_view_put(struct dmabuf_rw_view *view);
struct dma_buf *dmabuf_rw_view_dmabuf(const struct dmabuf_rw_view *view);
bool dmabuf_rw_view_is_io(const struct dmabuf_rw_view *view);
ssize_t dmabuf_rw_view_move(struct dmabuf_rw_view *view, u64 position, struct iov_iter *iter,
			    bool write);
struct page *dmabuf_rw_view_page(void *address);
enum dma_data_direction dmabuf_rw_cpu_direction(bool fills);
bool dmabuf_rw_view_repeats(struct page *previous, struct page *page);

#endif /* DMABUF_RW_CPU_VIEW_H */
