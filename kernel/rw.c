// SPDX-License-Identifier: GPL-2.0-only
/*
 * RW: one READ or WRITE that is waited for, for callers without io_uring. The
 * way to the datapath is that of the uring_cmds; only the end differs.
 */
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "io.h"
#include "trace.h"

/* The I/O itself. The caller holds m->refs, and m->io, which is let go of. */
static struct dmabuf_rw_result rw_run(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask,
				      u64 *moved)
{
	struct dmabuf_rw_result result;
	bool sent = true;
	long ret;

	trace_dmabuf_rw_submit(m->session, m->handle, ask->direction, ask->position, ask->offset,
			       ask->length);
	if (m->path == DMABUF_RW_PATH_PREMAPPED)
		ret = dmabuf_rw_premapped_wait(m, ask, &sent) ?: (long)ask->length;
	else
		ret = dmabuf_rw_bvec_wait(m, ask);
	if (ret >= 0) {
		*moved = ret;
		return DMABUF_RW_OK;
	}
	result = dmabuf_rw_fail(ret, dmabuf_rw_reason_of(m, ret));
	if (!sent) {
		dmabuf_rw_note_error(m, result.error, result.reason);
		percpu_ref_put(&m->io);
	}
	return result;
}

static struct dmabuf_rw_result rw_do(struct dmabuf_rw_session *session, struct dmabuf_rw_rw *rw)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_ask ask;

	if (rw->flags || memchr_inv(rw->reserved, 0, sizeof(rw->reserved)) ||
	    (rw->direction != DMABUF_RW_DIR_READ && rw->direction != DMABUF_RW_DIR_WRITE))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_ARGUMENT);
	if (!rw->length || rw->length > DMABUF_RW_MAX_IO)
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	ask = (struct dmabuf_rw_ask){
		.offset = rw->buffer_offset,
		.position = rw->file_offset,
		.length = rw->length,
		.direction = rw->direction,
	};

	m = dmabuf_rw_mapping_get(session, rw->handle);
	if (!m)
		return dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	if (m->path == DMABUF_RW_PATH_REGISTERED)
		result = dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_HANDLE);
	else
		result = dmabuf_rw_io_prepare(m, &ask);
	if (!result.error)
		result = rw_run(m, &ask, &rw->moved);
	dmabuf_rw_mapping_put(m);
	return result;
}

/**
 * dmabuf_rw_ioctl_rw - DMABUF_RW_IOC_RW
 * @session: the session
 * @arg: struct dmabuf_rw_rw
 *
 * Context: process; sleeps as long as the I/O takes. A fatal signal ends every
 * wait but that for commands that the drive has.
 * Return: 0; -EINVAL (padding, range, alignment), -EFAULT (in the end: the I/O
 * may have been done), -ENOENT (handle), -EOPNOTSUPP (mapping of another path),
 * or as the uring_cmds.
 */
long dmabuf_rw_ioctl_rw(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_rw rw;

	if (copy_from_user(&rw, arg, sizeof(rw)))
		return -EFAULT;
	rw.moved = 0;
	result = rw_do(session, &rw);
	rw.reason = result.reason;
	if (copy_to_user(arg, &rw, sizeof(rw)))
		return -EFAULT;
	/*
	 * Task work of a ring also interrupts, and must not fail the call: begun
	 * again, it does the same I/O.
	 */
	return result.error == -EINTR ? -ERESTARTSYS : result.error;
}
