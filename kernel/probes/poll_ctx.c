// SPDX-License-Identifier: GPL-2.0-only
#include <linux/blkdev.h>
#include <linux/io_uring/cmd.h>
bool probe(struct io_comp_batch *iob, struct io_uring_cmd *cmd);
bool probe(struct io_comp_batch *iob, struct io_uring_cmd *cmd)
{
	return iob->poll_ctx == io_uring_cmd_ctx_handle(cmd);
}
