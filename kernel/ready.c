// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for all that an I/O may have to wait for: memory that was moved,
 * another path to the drive, fences, the target's page cache. It is done without
 * the mapping's percpu_ref, in a context that may sleep.
 */
#include <linux/jiffies.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>

#include "member.h"
#include "failover.h"
#include "ready.h"

/* Bring the addresses back, by way of another controller if need be. */
static struct dmabuf_rw_result ready_revive(struct dmabuf_rw_mapping *m)
{
	struct device *dev = READ_ONCE(m->target.dma_dev);
	struct dmabuf_rw_result result = dmabuf_rw_io_revive(m);

	if (result.reason == DMABUF_RW_REASON_DEVICE_GONE && m->target.head)
		return dmabuf_rw_failover(m, dev);
	/* Another path is being taken, which waits for the I/O by way of the old one. */
	if (!result.error && READ_ONCE(m->suspended)) {
		if (mutex_lock_killable(&m->path_lock))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
		mutex_unlock(&m->path_lock);
	}
	return result;
}

/**
 * dmabuf_rw_io_prepare - wait for all that an I/O may have to wait for
 * @m: the mapping; the caller holds m->refs, not m->io
 * @args: checked by dmabuf_rw_io_check()
 * @clear: what the datapath asks of its target
 *
 * Context: may sleep; gives way to a fatal signal, waiting for fences to any.
 * Return: success, with m->io held: the I/O can go to its datapath. Otherwise
 * why not.
 */
struct dmabuf_rw_result dmabuf_rw_io_prepare(struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args,
					     dmabuf_rw_clear_fn *clear)
{
	u32 ms = dmabuf_rw_wait_ms(m);
	unsigned long give_up = jiffies + msecs_to_jiffies(ms);
	bool overwrites = args->direction == DMABUF_RW_DIR_READ;
	struct dmabuf_rw_result result;

	for (;;) {
		result = ready_revive(m);
		if (result.error == -EAGAIN) {
			/* The controllers that are left come back, or go, in a while. */
			if (time_after(jiffies, give_up))
				return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
			schedule_timeout_killable(msecs_to_jiffies(20) + 1);
			goto again;
		}
		if (!result.error)
			result = dmabuf_rw_wait_fences(m->dmabuf, overwrites, ms);
		if (!result.error)
			result = clear(m, args);
		if (result.error)
			return result;
		if (dmabuf_rw_io_enter(m)) {
			/* A move in between may have brought a fence. */
			if (!dmabuf_rw_fenced(m->dmabuf, overwrites))
				return DMABUF_RW_OK;
			percpu_ref_put(&m->io);
		} else {
			schedule_timeout_killable(1);
		}
		if (time_after(jiffies, give_up))
			return dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
again:
		if (fatal_signal_pending(current))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
		cond_resched();
	}
}
