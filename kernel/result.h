/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a call came to: an errno and the reason behind it.
 */
#ifndef DMABUF_RW_RESULT_H
#define DMABUF_RW_RESULT_H

#include <linux/errno.h>
#include <linux/sched/signal.h>
#include <linux/types.h>

#include "uapi/linux/dmabuf_rw.h"

/* An errno and the reason behind it. */
struct dmabuf_rw_result {
	int error;			/* 0 or negative */
	u32 reason;
};

#define DMABUF_RW_OK ((struct dmabuf_rw_result){ 0, DMABUF_RW_REASON_NONE })

static inline struct dmabuf_rw_result dmabuf_rw_fail(int error, u32 reason)
{
	return (struct dmabuf_rw_result){ error, reason };
}

/**
 * dmabuf_rw_refusal - what an exporter's errno means to our caller
 * @error: negative errno, as the exporter returned it
 * @reason: DMABUF_RW_REASON_* for an errno that says nothing in particular
 *
 * Return: an errno with its reason.
 */
static inline struct dmabuf_rw_result dmabuf_rw_refusal(long error, u32 reason)
{
	switch (error) {
	case -EINTR:
	case -ERESTARTSYS:
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	case -ENOMEM:
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	case -ENODEV:
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
	default:
		return dmabuf_rw_fail(-EOPNOTSUPP, reason);
	}
}

/**
 * dmabuf_rw_restart - the errno of a call that may have been interrupted
 * @error: 0 or negative errno
 *
 * Task work of a ring also interrupts, and must not fail the call: begun again,
 * it does the same. An EINTR of somebody else's, with nothing to wait for, stays
 * one: user space is never shown the kernel's own codes.
 *
 * Context: process, about to return to user space.
 * Return: the errno, or -ERESTARTSYS.
 */
static inline int dmabuf_rw_restart(int error)
{
	return error == -EINTR && signal_pending(current) ? -ERESTARTSYS : error;
}

#endif /* DMABUF_RW_RESULT_H */
