// SPDX-License-Identifier: GPL-2.0-only
/* 7.0: a queue has an array of its hardware queues; before, they are in an xarray. */
#include <linux/blk-mq.h>
const void *probe(struct request_queue *q);
const void *probe(struct request_queue *q)
{
#ifdef COUNTER_PROBE
	return q->nr_hw_queues ? q : NULL;
#else
	return queue_hctx(q, 0);
#endif
}
