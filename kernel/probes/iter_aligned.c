// SPDX-License-Identifier: GPL-2.0-only
/* 6.18: there is no iov_iter_is_aligned() any more. */
#include <linux/uio.h>
bool probe(const struct iov_iter *iter);
bool probe(const struct iov_iter *iter)
{
#ifdef COUNTER_PROBE
	return iov_iter_alignment(iter);
#else
	return iov_iter_is_aligned(iter, 3, 511);
#endif
}
