/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A dma-buf's reservation object: its lock, and waiting for its fences.
 */
#ifndef DMABUF_RW_FENCE_H
#define DMABUF_RW_FENCE_H

#include <linux/dma-buf.h>
#include <linux/dma-resv.h>

#include "result.h"

int dmabuf_rw_resv_lock(struct dma_buf *dmabuf);
struct dmabuf_rw_result dmabuf_rw_wait_fences(struct dma_buf *dmabuf, bool overwrites, u32 ms);

/**
 * dmabuf_rw_fenced - must an access wait for a fence of the dma-buf?
 * @dmabuf: the memory
 * @overwrites: the access changes it, and waits for everybody; one that only
 *	looks waits for those who write
 *
 * Reading the pointer is enough when the buffer never had a fence, the usual
 * case for storage. A GPU's driver leaves fences that have signalled on its
 * buffers, and the list is changed in place, so that each look has to be at all
 * of them. They are not ours to take off: dma_resv's unlocked walk, in which
 * others wait, does not end where a list has become none.
 *
 * Context: any.
 * Return: whether it must.
 */
static inline bool dmabuf_rw_fenced(const struct dma_buf *dmabuf, bool overwrites)
{
	struct dma_resv *resv = dmabuf->resv;

	if (likely(!rcu_access_pointer(resv->fences)))
		return false;
	return !dma_resv_test_signaled(resv, dma_resv_usage_rw(overwrites));
}

#endif /* DMABUF_RW_FENCE_H */
