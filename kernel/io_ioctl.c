// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctl IO: one READ or WRITE that is waited for, for callers without
 * io_uring.
 */
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "io_ioctl.h"
#include "limits.h"
#include "ready.h"
#include "session.h"

static struct dmabuf_rw_result io_do(struct dmabuf_rw_session *session, struct dmabuf_rw_io *io)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	struct dmabuf_rw_io_args args;

	if (io->flags || memchr_inv(io->reserved, 0, sizeof(io->reserved)) ||
	    (io->direction != DMABUF_RW_DIR_READ && io->direction != DMABUF_RW_DIR_WRITE))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_ARGUMENT);
	if (!io->length || io->length > DMABUF_RW_MAX_IO)
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_RANGE);
	args = (struct dmabuf_rw_io_args){
		.buffer_offset = io->buffer_offset,
		.file_offset = io->file_offset,
		.length = io->length,
		.direction = io->direction,
	};

	m = dmabuf_rw_mapping_get(session, io->handle);
	if (!m)
		return dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	if (!m->ops->run) {
		result = dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_HANDLE);
	} else {
		result = dmabuf_rw_io_check(m, &args);
		if (result.error)
			dmabuf_rw_note_error(m, result.error, result.reason);
		else
			result = m->ops->run(m, &args, &io->moved);
	}
	dmabuf_rw_mapping_put(m);
	return result;
}

/**
 * dmabuf_rw_ioctl_io - DMABUF_RW_IOC_IO
 * @session: the session
 * @arg: struct dmabuf_rw_io
 *
 * Context: process; sleeps as long as the I/O takes. A fatal signal ends every
 * wait but that for commands that the drive has.
 * Return: 0; -EINVAL (padding, range, alignment), -EFAULT (in the end: the I/O
 * may have been done), -ENOENT (handle), -EOPNOTSUPP (mapping of another path),
 * or as the uring_cmds.
 */
long dmabuf_rw_ioctl_io(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_io io;

	if (copy_from_user(&io, arg, sizeof(io)))
		return -EFAULT;
	io.moved = 0;
	result = io_do(session, &io);
	io.reason = result.reason;
	if (copy_to_user(arg, &io, sizeof(io)))
		return -EFAULT;
	return dmabuf_rw_restart(result.error);
}
