// SPDX-License-Identifier: GPL-2.0-only
/* 7.3: a module may put pages of its own into a ring's table of buffers. */
#include <linux/bvec.h>
#include CMD_HEADER
int probe(struct io_uring_cmd *cmd, const struct bio_vec *bvecs, void (*release)(void *));
int probe(struct io_uring_cmd *cmd, const struct bio_vec *bvecs, void (*release)(void *))
{
#ifdef COUNTER_PROBE
	return cmd->cmd_op + bvecs->bv_len;
#else
	return io_buffer_register_bvec(cmd, bvecs, 1, release, NULL, 0, 0, 0);
#endif
}
