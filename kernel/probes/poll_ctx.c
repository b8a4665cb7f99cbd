// SPDX-License-Identifier: GPL-2.0-only
/* 7.0: a batch tells whose polling it is made by. */
#include <linux/blkdev.h>
#include CMD_HEADER
const void *probe(struct io_comp_batch *iob, struct io_uring_cmd *cmd);
const void *probe(struct io_comp_batch *iob, struct io_uring_cmd *cmd)
{
#ifdef COUNTER_PROBE
	return iob->complete ? cmd : NULL;
#else
	return iob->poll_ctx == io_uring_cmd_ctx_handle(cmd) ? cmd : NULL;
#endif
}
