// SPDX-License-Identifier: GPL-2.0-only
/* 6.8: the commands of io_uring have a header of their own. */
#ifdef COUNTER_PROBE
#include CMD_HEADER
#else
#include <linux/io_uring/cmd.h>
#endif
size_t probe(void);
size_t probe(void)
{
	return sizeof(struct io_uring_cmd);
}
