/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bvec datapath; see bvec.c.
 */
#ifndef DMABUF_RW_BVEC_H
#define DMABUF_RW_BVEC_H

#include "mapping.h"

extern const struct dmabuf_rw_path_ops dmabuf_rw_bvec_ops;

int dmabuf_rw_bvec_init(void);
void dmabuf_rw_bvec_exit(void);

#endif /* DMABUF_RW_BVEC_H */
