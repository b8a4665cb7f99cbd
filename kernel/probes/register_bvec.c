// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bvec.h>
#include <linux/io_uring/cmd.h>
int probe(struct io_uring_cmd *cmd, const struct bio_vec *bvecs, void (*release)(void *));
int probe(struct io_uring_cmd *cmd, const struct bio_vec *bvecs, void (*release)(void *))
{
	return io_buffer_register_bvec(cmd, bvecs, 1, release, NULL, 0, 0, 0);
}
