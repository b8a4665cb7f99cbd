// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lock of a dma-buf's reservation object, and waiting for what others do with
 * the buffer: the same for I/O by the drive and for copies by the CPU.
 */
#include <linux/dma-resv.h>
#include <linux/jiffies.h>
#include <linux/percpu.h>
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

/* A buffer, and when this CPU found on it fences that have not all signalled. */
struct fences_stay {
	const struct dma_resv *resv;
	unsigned long tick;
};

static DEFINE_PER_CPU(struct fences_stay, fences_stay);

/* Has no fence, and is never locked. */
static struct dma_resv no_fences;

/*
 * Take the fences off if all have signalled, those that no I/O waits for included:
 * they say nothing any more, and whoever adds one takes them off as well. Who has
 * reserved room for fences holds the lock until they are added. While others hold
 * it, or some fence is left, nothing is done, and not tried again in this tick.
 */
static void fences_take_off(struct dma_resv *resv)
{
	struct fences_stay stay = { resv, jiffies };
	bool off = false;

	if (this_cpu_read(fences_stay.resv) == resv &&
	    this_cpu_read(fences_stay.tick) == stay.tick)
		return;
	if (dma_resv_trylock(resv)) {
		off = dma_resv_test_signaled(resv, DMA_RESV_USAGE_BOOKKEEP) &&
		      !dma_resv_copy_fences(resv, &no_fences);
		dma_resv_unlock(resv);
	}
	if (!off) {
		guard(preempt)();
		*this_cpu_ptr(&fences_stay) = stay;
	}
}

/**
 * dmabuf_rw_fences_pending - the part of dmabuf_rw_fenced() for a buffer with fences
 * @resv: its reservation object
 * @overwrites: as for dmabuf_rw_fenced()
 *
 * A GPU's driver leaves fences that have signalled on its buffers, and the list is
 * changed in place, so that each look has to be at all of them. Once all have
 * signalled they are taken off, and the next look is at a pointer.
 *
 * Context: process.
 * Return: whether one has to be waited for.
 */
bool dmabuf_rw_fences_pending(struct dma_resv *resv, bool overwrites)
{
	if (!dma_resv_test_signaled(resv, dma_resv_usage_rw(overwrites)))
		return true;
	fences_take_off(resv);
	return false;
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
