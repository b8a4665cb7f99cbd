// SPDX-License-Identifier: GPL-2.0-only
/* 6.18: a command ends with one result; before, with two. */
#include CMD_HEADER
void probe(struct io_uring_cmd *cmd);
void probe(struct io_uring_cmd *cmd)
{
#ifdef COUNTER_PROBE
	const void *function = io_uring_cmd_done;

	(void)function;
#else
	io_uring_cmd_done(cmd, 0, 0);
#endif
}
