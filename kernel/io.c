// SPDX-License-Identifier: GPL-2.0-only
/*
 * READ and WRITE commands up to the point where a datapath takes them.
 *
 * An I/O holds its mapping's percpu_ref while it is under way. Whatever may have
 * to wait (for a mapping to come back, for the page cache, for a fence) is done
 * before, without that reference, in a context that may sleep: a nonblocking
 * issue that finds it must wait returns -EAGAIN, and io_uring calls again from
 * a worker. User space does not see that -EAGAIN.
 */
#include <linux/dma-resv.h>
#include <linux/io_uring/cmd.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "io.h"
#include "trace.h"

/*
 * Fences the I/O must wait for: a read overwrites the buffer, so everybody's; a
 * write only looks at it, so the writers'. Reading the pointer is enough when
 * the buffer never had a fence, the usual case for storage.
 */
static bool io_fenced(const struct dmabuf_rw_mapping *m, u32 direction)
{
	struct dma_resv *resv = m->dmabuf->resv;

	if (likely(!rcu_access_pointer(resv->fences)))
		return false;
	return !dma_resv_test_signaled(resv, dma_resv_usage_rw(direction == DMABUF_RW_DIR_READ));
}

static struct dmabuf_rw_result io_wait_fences(const struct dmabuf_rw_mapping *m, u32 direction)
{
	long left;

	if (!io_fenced(m, direction))
		return DMABUF_RW_OK;
	left = dma_resv_wait_timeout(m->dmabuf->resv,
				     dma_resv_usage_rw(direction == DMABUF_RW_DIR_READ),
				     true, msecs_to_jiffies(m->fence_ms));
	if (left > 0)
		return DMABUF_RW_OK;
	if (left == 0)
		return dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
	return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
}

/* Arguments against mapping and target as they are now. */
static int io_check(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask)
{
	u64 end;

	if (unlikely(!(m->directions & ask->direction)))
		return -EACCES;
	if (unlikely(!ask->length || ask->length > DMABUF_RW_MAX_IO))
		return -EINVAL;
	if (unlikely(check_add_overflow(ask->offset, (u64)ask->length, &end) || end > m->size))
		return -EINVAL;
	if (likely(m->path == DMABUF_RW_PATH_PREMAPPED))
		return dmabuf_rw_premapped_check(m, ask);
	return dmabuf_rw_bvec_check(m, ask);
}

/* May the I/O go to the target without waiting for anything first? */
static bool io_ready(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask)
{
	if (m->path == DMABUF_RW_PATH_PREMAPPED && dmabuf_rw_premapped_cached(m, ask))
		return false;
	return !io_fenced(m, ask->direction);
}

/* Hand the I/O to its datapath, with m->io unless this fails. */
static int io_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		     const struct dmabuf_rw_ask *ask, unsigned int issue_flags)
{
	int ret;

	trace_dmabuf_rw_submit(m->session, m->handle, ask->direction, ask->position, ask->offset,
			       ask->length);
	if (likely(m->path == DMABUF_RW_PATH_PREMAPPED))
		ret = dmabuf_rw_premapped_submit(cmd, m, ask, issue_flags);
	else
		ret = dmabuf_rw_bvec_submit(cmd, m, ask, issue_flags);
	if (likely(ret == -EIOCBQUEUED))
		return ret;
	if (ret == -EAGAIN)
		this_cpu_inc(m->counts->deferred);
	else
		dmabuf_rw_note_error(m, ret, dmabuf_rw_reason_of(ret));
	percpu_ref_put(&m->io);
	return ret;
}

/*
 * The way through everything that may have to be waited for. The caller holds
 * m->refs, not m->io. On success the I/O is on its way.
 */
static int io_issue_sleeping(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			     const struct dmabuf_rw_ask *ask, unsigned int issue_flags)
{
	unsigned long give_up = jiffies + msecs_to_jiffies(m->fence_ms);
	struct dmabuf_rw_result result;
	int ret;

	for (;;) {
		result = dmabuf_rw_io_revive(m);
		if (result.error)
			break;
		result = io_wait_fences(m, ask->direction);
		if (result.error)
			break;
		ret = io_check(m, ask);
		if (!ret && m->path == DMABUF_RW_PATH_PREMAPPED)
			ret = dmabuf_rw_premapped_flush(m, ask);
		if (ret) {
			result = dmabuf_rw_fail(ret, dmabuf_rw_reason_of(ret));
			break;
		}
		if (percpu_ref_tryget_live(&m->io)) {
			/* A move in between may have brought a fence. */
			if (!io_fenced(m, ask->direction))
				return io_submit(cmd, m, ask, issue_flags);
			percpu_ref_put(&m->io);
		}
		if (fatal_signal_pending(current)) {
			result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
			break;
		}
		if (time_after(jiffies, give_up)) {
			result = dmabuf_rw_fail(-ETIMEDOUT, DMABUF_RW_REASON_FENCE_TIMEOUT);
			break;
		}
		cond_resched();
	}
	dmabuf_rw_note_error(m, result.error, result.reason);
	return result.error;
}

static int io_read_sqe(struct io_uring_cmd *cmd, u32 direction, struct dmabuf_rw_ask *ask,
		       u32 *handle)
{
	const struct dmabuf_rw_uring_io *in = dmabuf_rw_sqe_cmd(cmd, struct dmabuf_rw_uring_io);

	ask->offset = READ_ONCE(cmd->sqe->addr);
	ask->length = READ_ONCE(cmd->sqe->len);
	ask->position = READ_ONCE(in->file_offset);
	ask->direction = direction;
	*handle = READ_ONCE(in->handle);
	return READ_ONCE(in->flags) ? -EINVAL : 0;
}

/**
 * dmabuf_rw_issue - DMABUF_RW_URING_READ and _WRITE
 * @cmd: the command
 * @issue_flags: io_uring's
 * @direction: DMABUF_RW_DIR_READ or DMABUF_RW_DIR_WRITE
 *
 * Context: io_uring's issue context; sleeps only without IO_URING_F_NONBLOCK.
 * Return: -EIOCBQUEUED: on its way; -EAGAIN, with IO_URING_F_NONBLOCK only: call
 * again where sleeping is allowed; otherwise why nothing was sent: -EINVAL
 * (range, alignment), -ENOENT (handle), -EOPNOTSUPP (mapping of another path),
 * -EACCES (direction not mapped), -EPERM (target read-only), -ENODEV (revoked,
 * drive gone), -ETIMEDOUT (fence), -EINTR, -ENOMEM.
 */
int dmabuf_rw_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction)
{
	const struct dmabuf_rw_session *session = cmd->file->private_data;
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_ask ask;
	bool live, held;
	u32 handle;
	int ret;

	ret = io_read_sqe(cmd, direction, &ask, &handle);
	if (unlikely(ret))
		return ret;

	rcu_read_lock();
	m = dmabuf_rw_find_rcu(session, handle);
	if (unlikely(!m || m->path == DMABUF_RW_PATH_REGISTERED)) {
		rcu_read_unlock();
		return m ? -EOPNOTSUPP : -ENOENT;
	}
	live = percpu_ref_tryget_live(&m->io);
	held = !live && refcount_inc_not_zero(&m->refs);
	rcu_read_unlock();
	if (unlikely(!live && !held))
		return -ENOENT;

	if (likely(live)) {
		ret = io_check(m, &ask);
		if (unlikely(ret)) {
			dmabuf_rw_note_error(m, ret, dmabuf_rw_reason_of(ret));
			percpu_ref_put(&m->io);
			return ret;
		}
		if (likely(io_ready(m, &ask)))
			return io_submit(cmd, m, &ask, issue_flags);
		refcount_inc(&m->refs);
		percpu_ref_put(&m->io);
	}

	if (issue_flags & IO_URING_F_NONBLOCK) {
		this_cpu_inc(m->counts->deferred);
		ret = -EAGAIN;
	} else {
		ret = io_issue_sleeping(cmd, m, &ask, issue_flags);
	}
	dmabuf_rw_mapping_put(m);
	return ret;
}
