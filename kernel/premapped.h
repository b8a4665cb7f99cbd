/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The premapped datapath; see premapped.c.
 */
#ifndef DMABUF_RW_PREMAPPED_H
#define DMABUF_RW_PREMAPPED_H

#include "mapping.h"

struct io_comp_batch;

extern const struct dmabuf_rw_path_ops dmabuf_rw_premapped_ops;

int dmabuf_rw_issue_read(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_issue_write(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob);

#endif /* DMABUF_RW_PREMAPPED_H */
