// SPDX-License-Identifier: GPL-2.0-only
/* 6.19: task work of a command is given a token of its request. */
#include CMD_HEADER
#ifdef COUNTER_PROBE
const void *probe(void);
const void *probe(void)
{
	return io_uring_cmd_complete_in_task;
}
#else
struct io_uring_cmd *probe(struct io_tw_req tw_req, io_tw_token_t tw);
struct io_uring_cmd *probe(struct io_tw_req tw_req, io_tw_token_t tw)
{
	return io_uring_cmd_from_tw(tw_req);
}
#endif
