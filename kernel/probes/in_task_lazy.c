// SPDX-License-Identifier: GPL-2.0-only
/* 6.4: task work may be left until the task waits. */
#include CMD_HEADER
const void *probe(void);
const void *probe(void)
{
#ifdef COUNTER_PROBE
	return io_uring_cmd_complete_in_task;
#else
	return io_uring_cmd_do_in_task_lazy;
#endif
}
