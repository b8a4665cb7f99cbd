/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Premapped I/Os of more than one command; see premapped_long.c.
 */
#ifndef DMABUF_RW_PREMAPPED_LONG_H
#define DMABUF_RW_PREMAPPED_LONG_H

#include "io_args.h"
#include "result.h"

struct dmabuf_rw_mapping;
struct io_uring_cmd;
struct request;

int dmabuf_rw_long_issue(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			 const struct dmabuf_rw_io_args *args);
bool dmabuf_rw_long_again(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_io_args *args, struct request *rq, int error);
int dmabuf_rw_long_send(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			const struct dmabuf_rw_io_args *args, unsigned int issue_flags);
struct dmabuf_rw_result dmabuf_rw_long_run(struct dmabuf_rw_mapping *m,
					   const struct dmabuf_rw_io_args *args, u64 *moved);

#endif /* DMABUF_RW_PREMAPPED_LONG_H */
