// SPDX-License-Identifier: GPL-2.0-only
/* 6.11: a number says how blocks are protected; before, a profile with a name. */
#include <linux/blk-integrity.h>
#include <linux/blkdev.h>
int probe(const struct blk_integrity *bi);
int probe(const struct blk_integrity *bi)
{
#ifdef COUNTER_PROBE
	return bi->flags + bi->interval_exp;
#else
	return bi->csum_type == BLK_INTEGRITY_CSUM_CRC64;
#endif
}
