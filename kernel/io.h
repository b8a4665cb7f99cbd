/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * READ and WRITE commands up to the point where a datapath takes them. What every
 * I/O runs through is inline here; dmabuf_rw_issue_read() and dmabuf_rw_issue_write(),
 * made of it, are in premapped.c, with the datapath that nearly every I/O takes.
 *
 * No code there takes the address of the I/O's arguments, so that they stay in
 * registers: a function that wants them in memory gets a copy.
 *
 * An I/O may have to wait for a mapping to come back, for the page cache or for a
 * fence. It waits in a context that may sleep: a nonblocking issue that finds it
 * must wait returns -EAGAIN, and io_uring calls again from a worker. User space
 * does not see that -EAGAIN.
 */
#ifndef DMABUF_RW_IO_H
#define DMABUF_RW_IO_H

#include "compat.h"
#include "io_ref.h"
#include "ready.h"
#include "session.h"
#include "sqe.h"

/* What the SQE asks for. */
static inline int io_read_sqe(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction,
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

/* An I/O by another datapath than the usual one, or that has to wait. */
static noinline int io_otherwise(struct io_uring_cmd *cmd, unsigned int issue_flags,
				 const struct dmabuf_rw_io_args args, u32 handle)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	bool held = false, alive;
	int ret;

	/* A section of RCU, too. */
	preempt_disable();
	m = dmabuf_rw_find_rcu(cmd->file->private_data, handle);
	if (!m || !m->ops->issue) {
		preempt_enable();
		return m ? -EOPNOTSUPP : -ENOENT;
	}
	if (issue_flags & IO_URING_F_NONBLOCK)
		held = dmabuf_rw_io_tryget(&m->io);
	/* As dmabuf_rw_io_enter(), without its own section of RCU. */
	smp_rmb();
	/* Stopped for now, or for ever? */
	alive = held || refcount_inc_not_zero(&m->refs);
	preempt_enable();
	if (!alive)
		return -ENOENT;

	result = dmabuf_rw_io_check(m, &args);
	if (held) {
		if (result.error)
			return dmabuf_rw_io_refuse(m, result);
		return m->ops->issue(cmd, m, &args, issue_flags);
	}
	if (result.error) {
		dmabuf_rw_note_error(m, result.error, result.reason);
		ret = result.error;
	} else if (!(issue_flags & IO_URING_F_NONBLOCK)) {
		ret = m->ops->send(cmd, m, &args, issue_flags);
	} else {
		this_cpu_inc(m->counts->deferred);
		ret = -EAGAIN;
	}
	dmabuf_rw_mapping_put(m);
	return ret;
}

/* An I/O that goes past the buffer, or in a direction that is not mapped. */
static noinline int io_refused(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args args)
{
	return dmabuf_rw_io_refuse(m, dmabuf_rw_io_check(m, &args));
}

/* @ops of a mapping nearly always, and their issue(), which becomes a part of this. */
static __always_inline int io_issue(struct io_uring_cmd *cmd, unsigned int issue_flags,
				    const struct dmabuf_rw_io_args *args, u32 handle,
				    const struct dmabuf_rw_path_ops *ops,
				    dmabuf_rw_issue_fn *usual)
{
	const struct dmabuf_rw_session *session = cmd->file->private_data;
	struct dmabuf_rw_mapping *m;

	/* A datapath that polls says so. */
	dmabuf_rw_pdu(cmd)->flags = 0;

	/* A section of RCU, too. */
	preempt_disable();
	m = dmabuf_rw_find_rcu(session, handle);
	if (unlikely(!m || m->ops != ops || !(issue_flags & IO_URING_F_NONBLOCK) ||
		     !dmabuf_rw_io_tryget(&m->io))) {
		preempt_enable();
		return io_otherwise(cmd, issue_flags, *args, handle);
	}
	/* As dmabuf_rw_io_enter(), without its own section of RCU. */
	smp_rmb();
	preempt_enable();

	if (unlikely(dmabuf_rw_io_check(m, args).error))
		return io_refused(m, *args);
	return usual(cmd, m, args, issue_flags);
}

#endif /* DMABUF_RW_IO_H */
