// SPDX-License-Identifier: GPL-2.0-only
/*
 * The extents of a file: where its bytes are on the disk, asked of the file
 * system once, block by block, by what FIBMAP goes by. It answers 0 for whatever
 * has no place of its own: a hole, an extent that was allocated and not written,
 * one that may be shared with another file.
 */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "extents.h"
#include "limits.h"

/* One more run; the array doubles when it is full. */
static struct dmabuf_rw_result extents_add(struct dmabuf_rw_extents *x, u32 *room, u64 start,
					   u64 base)
{
	struct dmabuf_rw_extent *more;
	u32 want;

	if (x->nr == *room) {
		want = *room ? *room * 2 : 16;
		if (want > DMABUF_RW_MAX_EXTENTS)
			return dmabuf_rw_fail(-EMFILE, DMABUF_RW_REASON_LIMIT);
		more = kvmalloc_array(want, sizeof(*more), GFP_KERNEL_ACCOUNT);
		if (!more)
			return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		if (x->nr)
			memcpy(more, x->at, array_size(x->nr, sizeof(*more)));
		kvfree(x->at);
		x->at = more;
		*room = want;
	}
	x->at[x->nr++] = (struct dmabuf_rw_extent){ .start = start, .base = base };
	return DMABUF_RW_OK;
}

static struct dmabuf_rw_result extents_walk(struct inode *inode, struct dmabuf_rw_extents *x)
{
	struct block_device *bdev = inode->i_sb->s_bdev;
	u64 first = (u64)bdev->bd_start_sect << SECTOR_SHIFT, end = bdev_nr_bytes(bdev);
	u64 block, nr = x->covered >> inode->i_blkbits;
	struct dmabuf_rw_result result;
	sector_t place;
	u64 base;
	u32 room = 0;

	for (block = 0; block < nr; block++) {
		place = block;
		if (bmap(inode, &place))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_FILE_KIND);
		if (!place)
			return dmabuf_rw_fail(-ENXIO, DMABUF_RW_REASON_FILE_HOLE);
		if (place >= end >> inode->i_blkbits)
			return dmabuf_rw_fail(-EIO, DMABUF_RW_REASON_FILE_KIND);
		x->top = max(x->top, ((u64)place + 1) << inode->i_blkbits);
		base = first + ((u64)place << inode->i_blkbits) - (block << inode->i_blkbits);
		if (!x->nr || base != x->at[x->nr - 1].base) {
			result = extents_add(x, &room, block << inode->i_blkbits, base);
			if (result.error)
				return result;
		}
		if (block % 1024)
			continue;
		if (fatal_signal_pending(current))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
		cond_resched();
	}
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_extents_look - ask the file system where a file is
 * @inode: a regular file; nothing changes its blocks until the extents are freed
 * @extents: out; empty on failure
 *
 * Context: may sleep; the inode's lock not held. Gives way to a fatal signal.
 * Return: success; -ENXIO with FILE_HOLE; -EOPNOTSUPP or -EIO with FILE_KIND;
 * -EMFILE with LIMIT; -ENOMEM; -EINTR.
 */
struct dmabuf_rw_result dmabuf_rw_extents_look(struct inode *inode,
					       struct dmabuf_rw_extents *extents)
{
	struct dmabuf_rw_result result;

	*extents = (struct dmabuf_rw_extents){ .bytes = i_size_read(inode) };
	if (!extents->bytes)
		return dmabuf_rw_fail(-ENXIO, DMABUF_RW_REASON_FILE_HOLE);
	extents->covered = round_up(extents->bytes, (u64)i_blocksize(inode));
	result = extents_walk(inode, extents);
	if (result.error)
		dmabuf_rw_extents_free(extents);
	return result;
}

/**
 * dmabuf_rw_extents_free - undo dmabuf_rw_extents_look()
 * @extents: found, or empty
 */
void dmabuf_rw_extents_free(struct dmabuf_rw_extents *extents)
{
	kvfree(extents->at);
	*extents = (struct dmabuf_rw_extents){};
}
