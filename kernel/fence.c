// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lock of a dma-buf's reservation object, and waiting for what others do with
 * the buffer: the same for I/O by the drive and for copies by the CPU.
 */
#include <linux/dma-resv.h>
#include <linux/jiffies.h>
#include <linux/sched/signal.h>

#include "fence.h"

/**
 * dmabuf_rw_resv_lock - take a dma-buf's reservation lock
 * @dmabuf: whose
 *
 * Gives way to a signal, and to a cancellation in an io_uring worker. Not to
 * task work: that also wakes interruptible sleepers, in a task that has a ring,
 * and must not make a call fail. Such a call waits on without being woken;
 * every holder of the lock holds it for a bounded time.
 *
 * Context: process; see the lock order in mapping.h.
 * Return: 0 or -EINTR.
 */
int dmabuf_rw_resv_lock(struct dma_buf *dmabuf)
{
	int ret = dma_resv_lock_interruptible(dmabuf->resv, NULL);

	if (ret != -EINTR || task_sigpending(current) || (current->flags & PF_IO_WORKER))
		return ret;
	return dma_resv_lock(dmabuf->resv, NULL);
}

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
