// SPDX-License-Identifier: GPL-2.0-only
/* 7.0: the end of a request is told the batch that it ends in. */
#include <linux/blk-mq.h>
#ifdef COUNTER_PROBE
rq_end_io_fn *probe;
const enum rq_end_io_ret answer = RQ_END_IO_FREE;
#else
static enum rq_end_io_ret end_io(struct request *rq, blk_status_t status,
				 const struct io_comp_batch *iob)
{
	return RQ_END_IO_FREE;
}
rq_end_io_fn *probe = end_io;
#endif
