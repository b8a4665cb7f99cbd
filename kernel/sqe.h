/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The entry of the submission queue that a command was asked for with; see sqe.c.
 */
#ifndef DMABUF_RW_SQE_H
#define DMABUF_RW_SQE_H

#include "compat.h"

const struct io_uring_sqe *dmabuf_rw_sqe_checked(struct io_uring_cmd *cmd,
						 unsigned int issue_flags);
#ifdef DMABUF_RW_SQE_STABLE
static inline void dmabuf_rw_sqe_keep(struct io_uring_cmd *cmd)
{
}
#else
void dmabuf_rw_sqe_keep(struct io_uring_cmd *cmd);
#endif

/**
 * dmabuf_rw_sqe - the SQE of a command
 * @cmd: the command, in its issue
 * @issue_flags: io_uring's
 *
 * Context: io_uring's issue context.
 * Return: the SQE, which user space may be able to write to; NULL where the
 * kernel has not kept it.
 */
static inline const struct io_uring_sqe *dmabuf_rw_sqe(struct io_uring_cmd *cmd,
						       unsigned int issue_flags)
{
#ifdef DMABUF_RW_SQE_STABLE
	return cmd->sqe;
#else
	return dmabuf_rw_sqe_checked(cmd, issue_flags);
#endif
}

#endif /* DMABUF_RW_SQE_H */
