// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a command's SQE is, on kernels that do not simply have it.
 *
 * 6.15 copies each SQE when the command is prepared. Before that, back to 6.11, a
 * command has a pointer into the ring, where user space puts its next entry as
 * soon as the call has returned: a command that a worker issues again, that
 * follows another one in a link or that was drained, finds another's entry there,
 * or none. For a worker io_uring makes a copy and does not say so: it is taken
 * from where it is. Before 6.11 the pointer leads to that copy.
 *
 * Before 6.5 a command can see its SQE only where it is issued first, by the task
 * that submits it; otherwise it has only the cmd bytes of it, in a copy of their
 * own that comes from kmalloc(). The ring itself never does.
 */
#include <linux/mm.h>

#include "sqe.h"

#ifndef DMABUF_RW_SQE_STABLE
#ifdef PROBE_CMD_SQE

/* The first of these on the command's copy is what it is; two pointers at most come before it. */
#define COPY_BEFORE	(2 * sizeof(void *))

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
	const u8 *copy = req->async_data;
	const u8 *sqe = (const u8 *)cmd->sqe;
	size_t before;

	if (likely(issue_flags & IO_URING_F_NONBLOCK))
		return sqe_is_of(cmd->sqe, cmd, req) ? cmd->sqe : NULL;
	if (!copy || !(req->flags & REQ_F_ASYNC_DATA))
		return NULL;
	if (sqe >= copy && sqe <= copy + COPY_BEFORE)
		return cmd->sqe;
	for (before = 0; before <= COPY_BEFORE; before += sizeof(void *)) {
		const struct io_uring_sqe *kept = (const struct io_uring_sqe *)(copy + before);

		if (sqe_is_of(kept, cmd, req))
			return kept;
	}
	return NULL;
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

#endif
#endif
