// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for what others do with a dma-buf: the same for I/O by the drive and
 * for copies by the CPU.
 */
#include <linux/dma-resv.h>
#include <linux/jiffies.h>

#include "dmabuf_rw.h"

/**
 * dmabuf_rw_wait_fences - wait for the fences that an access must wait for
 * @dmabuf: the memory
 * @overwrites: as for dmabuf_rw_fenced()
 * @ms: how long, in milliseconds, not 0
 *
 * Context: may sleep, interruptibly.
 * Return: success, -ETIMEDOUT with FENCE_TIMEOUT, -EINTR with INTERRUPTED.
 */
struct dmabuf_rw_result dmabuf_rw_wait_fences(struct dma_buf *dmabuf, bool overwrites, u32 ms)
{
	long left;

	if (!dmabuf_rw_fenced(dmabuf, overwrites))
		return DMABUF_RW_OK;
	left = dma_resv_wait_timeout(dmabuf->resv, dma_resv_usage_rw(overwrites), true,
				     msecs_to_jiffies(ms));
	if (left > 0)
		return DMABUF_RW_OK;
	if (left == 0)
		return dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
	return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
}
