/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the bytes of a target are on its disk; see extents.c.
 */
#ifndef DMABUF_RW_EXTENTS_H
#define DMABUF_RW_EXTENTS_H

#include <linux/nospec.h>
#include <linux/types.h>

#include "result.h"

struct inode;

/* A run of a file's bytes that are one run on the disk, too; it ends where the next begins. */
struct dmabuf_rw_extent {
	u64 start;	/* in the file, bytes */
	u64 base;	/* added to an offset in the file: the offset on the disk, modulo 2^64 */
};

/* All of a file, without a hole. Never changes. */
struct dmabuf_rw_extents {
	u64 bytes;	/* of the file */
	u64 covered;	/* the same, with the whole of the last block */
	u64 sectors;	/* that the block device has at least: up to its last one there */
	u64 base;	/* of the first extent */
	u32 nr;		/* at least one; the first begins at 0 */
	u8 shift;	/* turns an offset into its stretch */
	struct dmabuf_rw_extent *at;	/* @nr; and the end, as if another began there */
	u32 *first;	/* of each stretch: the extent that it begins in; and the last extent */
};

struct dmabuf_rw_result dmabuf_rw_extents_look(struct inode *inode,
					       struct dmabuf_rw_extents *extents);
void dmabuf_rw_extents_free(struct dmabuf_rw_extents *extents);

/**
 * dmabuf_rw_extents_find - where on the disk an offset of the file is
 * @x: the file's extents
 * @offset: in the file, below @x->covered
 * @run: out: bytes from there on that follow each other on the disk
 *
 * Context: any. Looks among those of one stretch of the file, in which there are one
 * or two if they are alike; at no more than the binary logarithm of @x->nr.
 * Return: what to add to @offset.
 */
static inline u64 dmabuf_rw_extents_find(const struct dmabuf_rw_extents *x, u64 offset, u64 *run)
{
	const u32 *first;
	u32 low, high;

	/* The check whether it is below may have been foretold. */
	offset = array_index_nospec(offset, x->covered);
	first = x->first + (offset >> x->shift);
	low = first[0];
	high = first[1] + 1;
	while (high - low > 1) {
		u32 middle = low + (high - low) / 2;

		if (x->at[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	*run = x->at[low + 1].start - offset;
	return x->at[low].base;
}

#endif /* DMABUF_RW_EXTENTS_H */
