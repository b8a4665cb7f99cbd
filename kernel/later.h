/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Commands that io_uring cannot issue again; see later.c.
 */
#ifndef DMABUF_RW_LATER_H
#define DMABUF_RW_LATER_H

#include "io_args.h"

int dmabuf_rw_later(struct io_uring_cmd *cmd, u32 handle, const struct dmabuf_rw_io_args *args);

#endif /* DMABUF_RW_LATER_H */
