// SPDX-License-Identifier: GPL-2.0-only
#include <linux/uio.h>
bool probe(const struct iov_iter *iter);
bool probe(const struct iov_iter *iter)
{
	return iov_iter_is_aligned(iter, 3, 511);
}
