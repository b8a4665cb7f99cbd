/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * READ and WRITE up to the point where a datapath takes them; see io.c.
 */
#ifndef DMABUF_RW_IO_H
#define DMABUF_RW_IO_H

#include <linux/types.h>

struct io_uring_cmd;

int dmabuf_rw_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction);

#endif /* DMABUF_RW_IO_H */
