// SPDX-License-Identifier: GPL-2.0-only
/* 6.5: a command has its whole SQE; before, the cmd bytes of it. */
#include CMD_HEADER
const void *probe(struct io_uring_cmd *cmd);
const void *probe(struct io_uring_cmd *cmd)
{
#ifdef COUNTER_PROBE
	return cmd->file;
#else
	return cmd->sqe->cmd;
#endif
}
