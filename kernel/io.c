// SPDX-License-Identifier: GPL-2.0-only
/*
 * READ and WRITE commands up to the point where a datapath takes them.
 *
 * What an I/O has to wait for (for a mapping to come back, for the page cache,
 * for a fence) is waited for in a context that may sleep: a nonblocking issue
 * that finds it must wait returns -EAGAIN, and io_uring calls again from a
 * worker. User space does not see that -EAGAIN.
 */

#include "compat.h"
#include "io.h"
#include "later.h"
#include "ready.h"
#include "session.h"
#include "sqe.h"

static int io_read_sqe(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction,
		       struct dmabuf_rw_io_args *args, u32 *handle)
{
	const struct io_uring_sqe *sqe = dmabuf_rw_sqe(cmd, issue_flags);
	const struct dmabuf_rw_uring_io *in;

	if (!sqe)
		return -EOPNOTSUPP;
	in = (const struct dmabuf_rw_uring_io *)sqe->cmd;
	args->buffer_offset = READ_ONCE(sqe->addr);
	args->length = READ_ONCE(sqe->len);
	args->file_offset = READ_ONCE(in->file_offset);
	args->direction = direction;
	*handle = READ_ONCE(in->handle);
	return READ_ONCE(in->flags) ? -EINVAL : 0;
}

static __always_inline int io_issue(struct io_uring_cmd *cmd, unsigned int issue_flags,
				    const struct dmabuf_rw_io_args *args, u32 handle)
{
	const struct dmabuf_rw_session *session = cmd->file->private_data;
	bool wait = !(issue_flags & IO_URING_F_NONBLOCK);
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	bool held = false, alive;
	int ret;

	/* A datapath that polls says so. */
	dmabuf_rw_pdu(cmd)->flags = 0;

	rcu_read_lock();
	m = dmabuf_rw_find_rcu(session, handle);
	if (unlikely(!m || !m->ops->issue)) {
		rcu_read_unlock();
		return m ? -EOPNOTSUPP : -ENOENT;
	}
	if (likely(!wait))
		held = percpu_ref_tryget_live_rcu(&m->io);
	/* As dmabuf_rw_io_enter(), without its own section of RCU. */
	smp_rmb();
	/* Stopped for now, or for good? */
	alive = held || refcount_inc_not_zero(&m->refs);
	rcu_read_unlock();
	if (unlikely(!alive))
		return -ENOENT;

	result = dmabuf_rw_io_check(m, args);
	if (likely(held)) {
		if (unlikely(result.error))
			return dmabuf_rw_io_refuse(m, result);
		return m->ops->issue(cmd, m, args, issue_flags);
	}

	if (result.error) {
		dmabuf_rw_note_error(m, result.error, result.reason);
		ret = result.error;
	} else if (wait) {
		ret = m->ops->send(cmd, m, args, issue_flags);
	} else {
		this_cpu_inc(m->counts->deferred);
		ret = -EAGAIN;
	}
	dmabuf_rw_mapping_put(m);
	return ret;
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
 * (range, alignment), -ENOENT (handle), -EOPNOTSUPP (mapping of another path; not
 * issued by the task that submits, on a kernel without DMABUF_RW_FEAT_ASYNC),
 * -EACCES (direction not mapped), -EPERM (target read-only), -ETXTBSY (target in
 * use as swap), -EMEDIUMTYPE (formatted with other metadata since it was mapped),
 * -ENODEV (revoked, drive gone), -ETIMEDOUT (fence), -EINTR, -ENOMEM.
 */
int dmabuf_rw_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction)
{
	struct dmabuf_rw_io_args args;
	u32 handle;
	int ret;

	ret = io_read_sqe(cmd, issue_flags, direction, &args, &handle);
	if (unlikely(ret))
		return ret;
	ret = io_issue(cmd, issue_flags, &args, handle);
	if (likely(ret != -EAGAIN))
		return ret;
	if (!DMABUF_RW_SQE_KEPT)
		return dmabuf_rw_later(cmd, handle, &args);
	dmabuf_rw_sqe_keep(cmd);
	return -EAGAIN;
}
