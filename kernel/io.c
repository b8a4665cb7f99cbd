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
#include <linux/io_uring/cmd.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "attach.h"
#include "bvec.h"
#include "fence.h"
#include "io.h"
#include "limits.h"
#include "premapped.h"
#include "session.h"
#include "trace.h"

/* A read of the target overwrites the buffer, a write only looks at it. */
static bool io_overwrites(const struct dmabuf_rw_io_args *args)
{
	return args->direction == DMABUF_RW_DIR_READ;
}

/* Arguments against mapping and target as they are now. */
static struct dmabuf_rw_result io_check(const struct dmabuf_rw_mapping *m,
					const struct dmabuf_rw_io_args *args)
{
	u64 end;

	if (unlikely(!(m->directions & args->direction)))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DIRECTION);
	if (unlikely(!args->length || args->length > DMABUF_RW_MAX_IO))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (unlikely(check_add_overflow(args->buffer_offset, (u64)args->length, &end) || end > m->size))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (likely(m->path == DMABUF_RW_PATH_PREMAPPED))
		return dmabuf_rw_premapped_check(m, args);
	return dmabuf_rw_bvec_check(m, args);
}

/* May the I/O go to the target without waiting for anything first? */
static bool io_ready(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args)
{
	if (m->path == DMABUF_RW_PATH_PREMAPPED && dmabuf_rw_premapped_cached(m, args))
		return false;
	return !dmabuf_rw_fenced(m->dmabuf, io_overwrites(args));
}

/* Hand the I/O to its datapath, with m->io unless this fails. */
static int io_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
		     const struct dmabuf_rw_io_args *args, unsigned int issue_flags)
{
	int ret;

	trace_dmabuf_rw_submit(m->session, m->handle, args->direction, args->file_offset, args->buffer_offset,
			       args->length);
	if (likely(m->path == DMABUF_RW_PATH_PREMAPPED))
		ret = dmabuf_rw_premapped_submit(cmd, m, args, issue_flags);
	else
		ret = dmabuf_rw_bvec_submit(cmd, m, args, issue_flags);
	if (likely(ret == -EIOCBQUEUED))
		return ret;
	if (ret == -EAGAIN)
		this_cpu_inc(m->counts->deferred);
	else
		dmabuf_rw_note_error(m, ret, dmabuf_rw_reason_of(m, ret));
	percpu_ref_put(&m->io);
	return ret;
}

/**
 * dmabuf_rw_io_prepare - wait for all that an I/O may have to wait for
 * @m: the mapping; the caller holds m->refs, not m->io
 * @args: what is to be done
 *
 * Context: may sleep; gives way to a fatal signal, waiting for fences to any.
 * Return: success, with m->io held: the I/O can go to its datapath. Otherwise
 * why not, counted as the mapping's error.
 */
struct dmabuf_rw_result dmabuf_rw_io_prepare(struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args)
{
	unsigned long give_up = jiffies + msecs_to_jiffies(m->fence_ms);
	bool overwrites = io_overwrites(args);
	struct dmabuf_rw_result result;
	int ret;

	for (;;) {
		result = dmabuf_rw_io_revive(m);
		if (result.error)
			break;
		result = dmabuf_rw_wait_fences(m->dmabuf, overwrites, m->fence_ms);
		if (result.error)
			break;
		result = io_check(m, args);
		if (result.error)
			break;
		ret = m->path == DMABUF_RW_PATH_PREMAPPED ? dmabuf_rw_premapped_flush(m, args) : 0;
		if (ret) {
			result = dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret));
			break;
		}
		if (percpu_ref_tryget_live(&m->io)) {
			/* A move in between may have brought a fence. */
			if (!dmabuf_rw_fenced(m->dmabuf, overwrites))
				return DMABUF_RW_OK;
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
	return result;
}

static int io_read_sqe(struct io_uring_cmd *cmd, u32 direction, struct dmabuf_rw_io_args *args,
		       u32 *handle)
{
	const struct dmabuf_rw_uring_io *in = dmabuf_rw_sqe_cmd(cmd, struct dmabuf_rw_uring_io);

	args->buffer_offset = READ_ONCE(cmd->sqe->addr);
	args->length = READ_ONCE(cmd->sqe->len);
	args->file_offset = READ_ONCE(in->file_offset);
	args->direction = direction;
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
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_io_args args;
	bool live, held;
	u32 handle;
	int ret;

	ret = io_read_sqe(cmd, direction, &args, &handle);
	if (unlikely(ret))
		return ret;

	/* A datapath that polls says so. */
	dmabuf_rw_pdu(cmd)->flags = 0;
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
		result = io_check(m, &args);
		if (unlikely(result.error)) {
			dmabuf_rw_note_error(m, result.error, result.reason);
			percpu_ref_put(&m->io);
			return result.error;
		}
		if (likely(io_ready(m, &args)))
			return io_submit(cmd, m, &args, issue_flags);
		refcount_inc(&m->refs);
		percpu_ref_put(&m->io);
	}

	if (issue_flags & IO_URING_F_NONBLOCK) {
		this_cpu_inc(m->counts->deferred);
		ret = -EAGAIN;
	} else {
		ret = dmabuf_rw_io_prepare(m, &args).error;
		if (!ret)
			ret = io_submit(cmd, m, &args, issue_flags);
	}
	dmabuf_rw_mapping_put(m);
	return ret;
}
