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
	/* Called with three arguments the oldest 6.1 compiles, too: without flags. */
	void (*function)(struct io_uring_cmd *cmd, s32 result, unsigned int issue_flags) = io_uring_cmd_done;

	function(cmd, 0, 0);
#endif
}
