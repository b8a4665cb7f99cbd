/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The registered datapath; see registered.c.
 */
#ifndef DMABUF_RW_REGISTERED_H
#define DMABUF_RW_REGISTERED_H

#include "mapping.h"

extern const struct dmabuf_rw_path_ops dmabuf_rw_registered_ops;

bool dmabuf_rw_registered_available(void);
int dmabuf_rw_registered_issue(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_unregister_issue(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_registered_init(void);
void dmabuf_rw_registered_exit(void);

#endif /* DMABUF_RW_REGISTERED_H */
