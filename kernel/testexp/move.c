// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking memory away: moves, revocation, and the thread that moves a buffer while
 * others use it.
 */
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>

#include "compat.h"
#include "testexp.h"

#define MOVER_FENCE_MS 100U

/* Tell importers and wait until nobody uses the memory. dma_resv held. */
static int take_away(struct testexp_buffer *buffer, u32 timeout_ms, u64 *invalidate_ns)
{
	ktime_t start = ktime_get();
	long left;

	testexp_invalidate_mappings(buffer->dmabuf);
	*invalidate_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	buffer->invalidate_ns += *invalidate_ns;
	buffer->invalidate_max_ns = max(buffer->invalidate_max_ns, *invalidate_ns);

	left = dma_resv_wait_timeout(&buffer->resv, DMA_RESV_USAGE_BOOKKEEP, true,
				     msecs_to_jiffies(timeout_ms));
	if (left > 0)
		return 0;
	return left ? left : -ETIMEDOUT;
}

/**
 * testexp_exchange - count a CPU access, and mislead devices when their turn comes
 * @buffer: nothing happens without EXCHANGE
 *
 * Context: may sleep; dma_resv held.
 * Return: 0, -ETIMEDOUT, -ERESTARTSYS.
 */
int testexp_exchange(struct testexp_buffer *buffer)
{
	u64 invalidate_ns;

	dma_resv_assert_held(&buffer->resv);
	if (!(buffer->layout.flags & DMABUF_TESTEXP_EXCHANGE))
		return 0;
	if (buffer->cpu_accesses++ < (buffer->exchanged ? TESTEXP_EXCHANGED :
							  buffer->layout.exchange_after))
		return 0;
	buffer->cpu_accesses = 1;
	buffer->exchanged = !buffer->exchanged;
	return take_away(buffer, TESTEXP_FENCE_MS, &invalidate_ns);
}

/*
 * Make user space's mappings of the buffer fault again. dma_resv held, so that no
 * fault comes in between.
 */
static void zap(struct testexp_buffer *buffer)
{
	unmap_mapping_range(buffer->dmabuf->file->f_mapping, 0, 0, 1);
}

/* The buffer's memory is @backing from now on. dma_resv held. */
static void replace(struct testexp_buffer *buffer, struct testexp_backing *backing)
{
	struct testexp_backing *old = buffer->backing;

	zap(buffer);
	testexp_sync_for_cpu(buffer, DMA_NONE);
	testexp_backing_copy(backing, old);
	buffer->backing = backing;
	buffer->lingering += old->mappings;
	testexp_backing_poison(old);
	list_add_tail(&old->node, &buffer->quarantine);
	buffer->nr_quarantine++;
	testexp_quarantine_trim(buffer, buffer->max_quarantine);
}

/* May the memory be replaced, once importers were told? dma_resv held. */
static bool movable(const struct testexp_buffer *buffer)
{
	if (buffer->pins)
		return false;
	if (buffer->vmaps && !(buffer->layout.flags & DMABUF_TESTEXP_LOOSE_VMAP))
		return false;
	return (buffer->layout.flags & DMABUF_TESTEXP_DYNAMIC) || !buffer->backing->mappings;
}

static int move_locked(struct testexp_buffer *buffer, struct testexp_backing **backing,
		       u32 timeout_ms, bool revoke, u64 *invalidate_ns)
{
	bool can_move;
	int ret;

	if (!buffer->dmabuf)
		return -ENXIO;
	can_move = movable(buffer);
	if (revoke) {
		buffer->revoked = true;
		buffer->revokes++;
	} else if (!can_move) {
		return -EBUSY;
	}
	ret = take_away(buffer, timeout_ms, invalidate_ns);
	if (ret)
		return ret;
	if (!can_move) {
		zap(buffer);
		return 0;
	}
	replace(buffer, *backing);
	*backing = NULL;
	return 0;
}

/**
 * testexp_move - MOVE and REVOKE
 * @buffer: the buffer
 * @timeout_ms: longest wait for fences
 * @revoke: let nobody attach or map from now on
 * @invalidate_ns: out: time the importers took
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EBUSY, -ETIMEDOUT, -ENXIO, -ENOMEM, -EINTR or -ERESTARTSYS; see
 * &struct dmabuf_testexp_move.
 */
int testexp_move(struct testexp_buffer *buffer, u32 timeout_ms, bool revoke,
		 u64 *invalidate_ns)
{
	struct testexp_backing *backing;
	u64 generation;
	int ret;

	*invalidate_ns = 0;
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		return ret;
	generation = ++buffer->generation;
	dma_resv_unlock(&buffer->resv);

	/* Allocated before the lock is taken: reclaim may have to wait for us. */
	backing = testexp_backing_alloc(&buffer->layout, buffer->seed + generation);
	if (IS_ERR(backing))
		return PTR_ERR(backing);
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (!ret) {
		ret = move_locked(buffer, &backing, timeout_ms, revoke, invalidate_ns);
		if (!revoke && ret)
			buffer->moves_failed++;
		else if (!revoke)
			buffer->moves++;
		dma_resv_unlock(&buffer->resv);
	}
	if (backing)
		testexp_backing_free(backing);
	return ret;
}

/**
 * testexp_unrevoke - let attaches and maps succeed again
 * @buffer: the buffer
 *
 * Context: may sleep; no lock held.
 * Return: 0, or -EINTR.
 */
int testexp_unrevoke(struct testexp_buffer *buffer)
{
	int ret = dma_resv_lock_interruptible(&buffer->resv, NULL);

	if (ret)
		return ret;
	buffer->revoked = false;
	dma_resv_unlock(&buffer->resv);
	return 0;
}

/* Sleeps until the next move is due; forever when there is none. */
static void mover_pause(struct testexp_buffer *buffer)
{
	ktime_t pause = ns_to_ktime(buffer->mover_interval_us * (u64)NSEC_PER_USEC);

	set_current_state(TASK_INTERRUPTIBLE);
	if (kthread_should_stop())
		__set_current_state(TASK_RUNNING);
	else if (!READ_ONCE(buffer->mover_left))
		schedule();
	else
		schedule_hrtimeout_range(&pause, buffer->mover_interval_us * 100ULL,
					 HRTIMER_MODE_REL);
}

/* Is it worth a move now? */
static bool mover_due(struct testexp_buffer *buffer)
{
	bool due = true;

	if (buffer->mover_flags & DMABUF_TESTEXP_MOVER_MAPPED) {
		dma_resv_lock(&buffer->resv, NULL);
		due = !buffer->backing || buffer->backing->mappings;
		dma_resv_unlock(&buffer->resv);
	}
	return due;
}

static int mover_thread(void *data)
{
	struct testexp_buffer *buffer = data;

	while (!kthread_should_stop()) {
		u64 invalidate_ns;
		int ret;

		mover_pause(buffer);
		if (kthread_should_stop() || !buffer->mover_left || !mover_due(buffer))
			continue;
		/* A short wait for fences, so that stopping never takes long. */
		ret = testexp_move(buffer, MOVER_FENCE_MS, false, &invalidate_ns);
		if (ret == -ENXIO)
			WRITE_ONCE(buffer->mover_left, 0);
		else if (!ret && buffer->mover_left != U64_MAX)
			WRITE_ONCE(buffer->mover_left, buffer->mover_left - 1);
		cond_resched();
	}
	return 0;
}

/**
 * testexp_mover_start - move the buffer again and again
 * @buffer: the session's; the session stops the mover before it lets go
 * @start: how often, checked by the caller
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EBUSY while a mover has moves to make, -ENXIO when the session has
 * let go of the buffer, or what kthread_run() says.
 */
int testexp_mover_start(struct testexp_buffer *buffer, const struct dmabuf_testexp_mover *start)
{
	struct task_struct *mover;
	int ret = 0;

	mutex_lock(&buffer->mover_lock);
	if (buffer->ended) {
		ret = -ENXIO;
		goto unlock;
	}
	if (buffer->mover && READ_ONCE(buffer->mover_left)) {
		ret = -EBUSY;
		goto unlock;
	}
	if (buffer->mover)
		kthread_stop(buffer->mover);
	buffer->mover = NULL;
	buffer->mover_interval_us = start->interval_us;
	buffer->mover_flags = start->flags;
	WRITE_ONCE(buffer->mover_left, start->count ?: U64_MAX);
	mover = kthread_run(mover_thread, buffer, "testexp_mover");
	if (IS_ERR(mover)) {
		WRITE_ONCE(buffer->mover_left, 0);
		ret = PTR_ERR(mover);
		goto unlock;
	}
	buffer->mover = mover;
unlock:
	mutex_unlock(&buffer->mover_lock);
	return ret;
}

/**
 * testexp_mover_stop - stop the mover if there is one
 * @buffer: the buffer
 *
 * Context: may sleep, as long as one move takes; no lock held.
 */
void testexp_mover_stop(struct testexp_buffer *buffer)
{
	mutex_lock(&buffer->mover_lock);
	if (buffer->mover)
		kthread_stop(buffer->mover);
	buffer->mover = NULL;
	WRITE_ONCE(buffer->mover_left, 0);
	mutex_unlock(&buffer->mover_lock);
}
