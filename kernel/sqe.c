// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a command's SQE is, on kernels that do not simply have it.
 *
 * 6.15 copies each SQE when the command is prepared. Before that, back to 6.11, a
 * command has a pointer into the ring, where user space puts its next entry as
 * soon as the call has returned: a command that a worker issues again, that
 * follows another one in a link or that was drained, finds another's entry there,
 * or none. There is space for a copy, but io_uring does not say whether it has
 * made one: for a worker we do, see dmabuf_rw_sqe_keep(). Before 6.11 it makes the
 * copy and the space together, and the pointer leads there.
 *
 * Before 6.5 a command can see its SQE only where it is issued first, by the task
 * that submits it; otherwise it has only the cmd bytes of it, in a copy of their
 * own that comes from kmalloc(). The ring itself never does.
 */
#include <linux/mm.h>
#include <linux/string.h>

#include "sqe.h"

#ifndef DMABUF_RW_SQE_STABLE
#ifdef PROBE_CMD_SQE

/* What comes before it in the command's copy: nothing up to 6.14, three pointers or two after. */
#define COPY_BEFORE	(4 * sizeof(void *))

/* Is the command's SQE the copy? Space for one is there before it is made. */
static bool sqe_is_copy(const struct io_uring_cmd *cmd, const struct io_kiocb *req)
{
	const u8 *copy = req->async_data;
	const u8 *sqe = (const u8 *)cmd->sqe;

	return (req->flags & REQ_F_ASYNC_DATA) && sqe >= copy && sqe <= copy + COPY_BEFORE;
}

/* Is it the entry of this command, as far as io_uring remembers? */
static bool sqe_is_of(const struct io_uring_sqe *sqe, const struct io_uring_cmd *cmd,
		      const struct io_kiocb *req)
{
	return READ_ONCE(sqe->opcode) == IORING_OP_URING_CMD &&
		READ_ONCE(sqe->cmd_op) == cmd->cmd_op &&
		READ_ONCE(sqe->user_data) == req->cqe.user_data;
}

/**
 * dmabuf_rw_sqe_checked - dmabuf_rw_sqe() on kernels that may hand us another's
 * @cmd: the command, in its issue
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: as dmabuf_rw_sqe().
 */
const struct io_uring_sqe *dmabuf_rw_sqe_checked(struct io_uring_cmd *cmd,
						 unsigned int issue_flags)
{
	const struct io_kiocb *req = cmd_to_io_kiocb(cmd);

	if (likely(issue_flags & IO_URING_F_NONBLOCK))
		return sqe_is_of(cmd->sqe, cmd, req) ? cmd->sqe : NULL;
	/*
	 * Elsewhere there is nothing to find: space that nobody copied to has what
	 * an earlier command left there, who may look the same.
	 */
	return sqe_is_copy(cmd, req) ? cmd->sqe : NULL;
}

/**
 * dmabuf_rw_sqe_keep - have the SQE of a command for a worker of io_uring
 * @cmd: the command, in an issue that returns -EAGAIN
 *
 * 6.11 to 6.14 copy it then, but leave the command with the pointer into the ring.
 *
 * Context: io_uring's issue context, IO_URING_F_NONBLOCK.
 */
void dmabuf_rw_sqe_keep(struct io_uring_cmd *cmd)
{
	const struct io_kiocb *req = cmd_to_io_kiocb(cmd);

	/* Without space io_uring makes some, and has the command point there. */
	if (!(req->flags & REQ_F_ASYNC_DATA) || sqe_is_copy(cmd, req))
		return;
	memcpy(req->async_data, cmd->sqe, sizeof(*cmd->sqe));
	cmd->sqe = req->async_data;
}

#else

/**
 * dmabuf_rw_sqe_checked - dmabuf_rw_sqe() on kernels that may not have it
 * @cmd: the command, in its issue
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: as dmabuf_rw_sqe().
 */
const struct io_uring_sqe *dmabuf_rw_sqe_checked(struct io_uring_cmd *cmd,
						 unsigned int issue_flags)
{
	if (!is_vmalloc_addr(cmd->cmd) && PageSlab(virt_to_head_page(cmd->cmd)))
		return NULL;
	return container_of(cmd->cmd, struct io_uring_sqe, cmd[0]);
}

/**
 * dmabuf_rw_sqe_keep - nothing to keep: no worker of io_uring issues it again
 * @cmd: the command
 *
 * Context: any.
 */
void dmabuf_rw_sqe_keep(struct io_uring_cmd *cmd)
{
}

#endif
#endif
