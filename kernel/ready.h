/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an I/O may have to wait for before its datapath takes it; see ready.c.
 */
#ifndef DMABUF_RW_READY_H
#define DMABUF_RW_READY_H

#include <linux/overflow.h>
#include <linux/sched.h>

#include "fence.h"
#include "io_args.h"
#include "limits.h"

/* What a datapath wants of its target before an I/O: may sleep, m->refs held. */
typedef struct dmabuf_rw_result dmabuf_rw_clear_fn(struct dmabuf_rw_mapping *m,
						   const struct dmabuf_rw_io_args *args);

struct dmabuf_rw_result dmabuf_rw_io_prepare(struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args,
					     dmabuf_rw_clear_fn *clear);

/**
 * dmabuf_rw_io_check - an I/O against its mapping
 * @m: the mapping
 * @args: from user space
 *
 * Context: any.
 * Return: success; -EACCES with DIRECTION; -EINVAL with RANGE.
 */
static inline struct dmabuf_rw_result dmabuf_rw_io_check(const struct dmabuf_rw_mapping *m,
							 const struct dmabuf_rw_io_args *args)
{
	u64 end;

	if (unlikely(!(m->directions & args->direction)))
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DIRECTION);
	if (unlikely(!args->length || args->length > DMABUF_RW_MAX_IO))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	if (unlikely(check_add_overflow(args->buffer_offset, (u64)args->length, &end) ||
		     end > m->size))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_io_enter - begin to use a mapping's path and addresses
 * @m: the mapping; the caller keeps it
 *
 * Context: any.
 * Return: whether it may: then @m->io is held.
 */
static inline bool dmabuf_rw_io_enter(struct dmabuf_rw_mapping *m)
{
	if (!percpu_ref_tryget_live(&m->io))
		return false;
	/* What was written before it was revived is seen. */
	smp_rmb();
	return true;
}

/**
 * dmabuf_rw_wait_ms - how long to wait before an I/O is sent
 * @m: the mapping
 *
 * A kernel thread cannot be killed, so it waits no longer than by default.
 *
 * Context: any.
 * Return: milliseconds.
 */
static inline u32 dmabuf_rw_wait_ms(const struct dmabuf_rw_mapping *m)
{
	return current->flags & PF_KTHREAD ? min(m->wait_ms, DMABUF_RW_WAIT_MS) : m->wait_ms;
}

/**
 * dmabuf_rw_io_fenced - must an I/O wait for a fence of its buffer?
 * @m: the mapping
 * @args: checked
 *
 * A read of the target overwrites the buffer, a write only looks at it.
 *
 * Context: any.
 * Return: whether it must.
 */
static inline bool dmabuf_rw_io_fenced(const struct dmabuf_rw_mapping *m,
				       const struct dmabuf_rw_io_args *args)
{
	return dmabuf_rw_fenced(m->dmabuf, args->direction == DMABUF_RW_DIR_READ);
}

/**
 * dmabuf_rw_io_defer - give an I/O back to io_uring, which calls from a worker
 * @m: the mapping; @m->io is let go of
 *
 * Context: any.
 * Return: -EAGAIN, which user space does not see.
 */
static inline int dmabuf_rw_io_defer(struct dmabuf_rw_mapping *m)
{
	this_cpu_inc(m->counts->deferred);
	percpu_ref_put(&m->io);
	return -EAGAIN;
}

/**
 * dmabuf_rw_io_refuse - end an I/O that was not sent
 * @m: the mapping; @m->io is let go of
 * @result: why
 *
 * Context: any.
 * Return: the errno.
 */
static inline int dmabuf_rw_io_refuse(struct dmabuf_rw_mapping *m, struct dmabuf_rw_result result)
{
	dmabuf_rw_note_error(m, result.error, result.reason);
	percpu_ref_put(&m->io);
	return result.error;
}

#endif /* DMABUF_RW_READY_H */
