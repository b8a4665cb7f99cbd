/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bvec datapath; see bvec.c.
 */
#ifndef DMABUF_RW_BVEC_H
#define DMABUF_RW_BVEC_H

#include "io_args.h"

struct dmabuf_rw_result dmabuf_rw_bvec_check(const struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_io_args *args);
int dmabuf_rw_bvec_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_io_args *args, unsigned int issue_flags);
long dmabuf_rw_bvec_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_io_args *args);
int dmabuf_rw_bvec_init(void);
void dmabuf_rw_bvec_exit(void);

#endif /* DMABUF_RW_BVEC_H */
