// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operations that fail because FAIL asked for it, and the count of all that fail.
 */
#include <linux/err.h>

#include "testexp.h"

/**
 * testexp_refused - count an operation that failed
 * @buffer: whose
 * @operation: DMABUF_TESTEXP_OP_*
 * @error: why
 *
 * Context: any that may take a spinlock.
 * Return: @error.
 */
int testexp_refused(struct testexp_buffer *buffer, u32 operation, int error)
{
	spin_lock(&buffer->lock);
	buffer->refused[operation]++;
	spin_unlock(&buffer->lock);
	return error;
}

/**
 * testexp_refuse - shall this operation fail, as FAIL asked?
 * @buffer: whose
 * @operation: DMABUF_TESTEXP_OP_*
 *
 * Counts the operation, and it as refused if it is.
 *
 * Context: any that may take a spinlock.
 * Return: 0, or the negative errno to fail with.
 */
int testexp_refuse(struct testexp_buffer *buffer, u32 operation)
{
	struct testexp_refusal *refusal = &buffer->refusals[operation];
	int ret = 0;

	spin_lock(&buffer->lock);
	if (refusal->error && refusal->after) {
		refusal->after--;
	} else if (refusal->error) {
		ret = -(int)refusal->error;
		buffer->refused[operation]++;
		if (refusal->times && !--refusal->times)
			refusal->error = 0;
	}
	spin_unlock(&buffer->lock);
	return ret;
}

/**
 * testexp_buffer_fail - FAIL
 * @buffer: whose operations
 * @fail: which, checked here
 *
 * Context: may sleep.
 * Return: 0 or -EINVAL.
 */
int testexp_buffer_fail(struct testexp_buffer *buffer, const struct dmabuf_testexp_fail *fail)
{
	if (fail->flags || fail->operation >= DMABUF_TESTEXP_NR_OPS || fail->error > MAX_ERRNO)
		return -EINVAL;
	spin_lock(&buffer->lock);
	buffer->refusals[fail->operation] = (struct testexp_refusal){
		.error = fail->error,
		.after = fail->after,
		.times = fail->times,
	};
	spin_unlock(&buffer->lock);
	return 0;
}
