/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The premapped datapath; see premapped.c.
 */
#ifndef DMABUF_RW_PREMAPPED_H
#define DMABUF_RW_PREMAPPED_H

#include "io_args.h"

struct io_comp_batch;

struct dmabuf_rw_result dmabuf_rw_premapped_check(const struct dmabuf_rw_mapping *m,
						  const struct dmabuf_rw_io_args *args);
bool dmabuf_rw_premapped_cached(const struct dmabuf_rw_mapping *m,
				const struct dmabuf_rw_io_args *args);
int dmabuf_rw_premapped_flush(const struct dmabuf_rw_mapping *m,
			      const struct dmabuf_rw_io_args *args);
int dmabuf_rw_premapped_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args, unsigned int issue_flags);
int dmabuf_rw_premapped_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args,
			     bool *sent);
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob);

#endif /* DMABUF_RW_PREMAPPED_H */
