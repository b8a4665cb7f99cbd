/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Several ranges in one command; see ranges.c.
 */
#ifndef DMABUF_RW_RANGES_H
#define DMABUF_RW_RANGES_H

#include <linux/types.h>

struct io_uring_cmd;

int dmabuf_rw_ranges_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction);

#endif /* DMABUF_RW_RANGES_H */
