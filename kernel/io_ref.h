/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The percpu_ref of a mapping that each I/O takes and gives back, without calling RCU.
 *
 * Where a kernel can be preempted, rcu_read_lock() and its counterpart are functions,
 * and four calls of them are what one get and one put mostly cost. Code that
 * runs with preemption off is a section of RCU, too, and that is one instruction.
 */
#ifndef DMABUF_RW_IO_REF_H
#define DMABUF_RW_IO_REF_H

#include <linux/percpu-refcount.h>
#include <linux/preempt.h>

/**
 * dmabuf_rw_io_tryget - percpu_ref_tryget_live() where preemption is off
 * @io: of a mapping
 *
 * Context: preemption is off, in the same section in which the mapping was found.
 * Return: whether it is held now.
 */
static __always_inline bool dmabuf_rw_io_tryget(struct percpu_ref *io)
{
	unsigned long __percpu *count;

	if (unlikely(!__ref_is_percpu(io, &count)))
		return percpu_ref_tryget_live(io);
	this_cpu_inc(*count);
	return true;
}

/**
 * dmabuf_rw_io_put_counted - percpu_ref_put(), where nobody waits for the last reference
 * @io: of a mapping, held
 *
 * The wait for the last reference sums up the counts of all CPUs after a grace
 * period of RCU, which this section delays.
 *
 * Context: any.
 * Return: whether it was put; if not, percpu_ref_put() is to do it.
 */
static __always_inline bool dmabuf_rw_io_put_counted(struct percpu_ref *io)
{
	unsigned long __percpu *count;

	preempt_disable();
	if (likely(__ref_is_percpu(io, &count))) {
		this_cpu_dec(*count);
		preempt_enable();
		return true;
	}
	preempt_enable();
	return false;
}

/**
 * dmabuf_rw_io_put - percpu_ref_put()
 * @io: of a mapping, held
 *
 * Context: any.
 */
static __always_inline void dmabuf_rw_io_put(struct percpu_ref *io)
{
	if (unlikely(!dmabuf_rw_io_put_counted(io)))
		percpu_ref_put(io);
}

#endif /* DMABUF_RW_IO_REF_H */
