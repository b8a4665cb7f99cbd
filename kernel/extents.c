// SPDX-License-Identifier: GPL-2.0-only
/*
 * The extents of a file: where its bytes are on the disk, asked of the file
 * system once, by the function behind FIBMAP. It answers 0 for a block that has no
 * place of its own: a hole, an extent that was allocated and not written, one that
 * may be shared with another file.
 *
 * FIBMAP asks about one block. Many blocks are one run if the first and the last
 * of them have places as far apart as they themselves are, and if the file system
 * counts one extent from the one to the other: the one that both are in. FIEMAP
 * counts them. Its list of extents would go to user memory, where anybody may
 * change it before this file reads it.
 */
#include <linux/blkdev.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "extents.h"
#include "limits.h"

/*
 * The longest run that is asked for at once, in blocks: an extent of ext4 is no longer.
 * A signal waits while the file system counts the extents of so many.
 */
#define RUN_MOST	32768

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
		/* And one for the end. */
		more = kvmalloc_array(want + 1, sizeof(*more), GFP_KERNEL_ACCOUNT);
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

/* Where the block is on the file system's device, in blocks; 0: it has no place of its own. */
static struct dmabuf_rw_result extents_place(struct inode *inode, u64 block, u64 *place)
{
	sector_t asked = block;

	if (bmap(inode, &asked))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_FILE_KIND);
	*place = asked;
	return DMABUF_RW_OK;
}

/* Are these @nr blocks, the first of which is at @place, one run on the disk? */
static bool extents_are_run(struct inode *inode, u64 block, u64 nr, u64 place)
{
	struct fiemap_extent_info count = {};	/* no room: it counts */
	u64 last;

	if (nr == 1)
		return true;
	if (extents_place(inode, block + nr - 1, &last).error || last != place + nr - 1)
		return false;
	return inode->i_op->fiemap &&
		!inode->i_op->fiemap(inode, &count, block << inode->i_blkbits,
				     nr << inode->i_blkbits) &&
		count.fi_extents_mapped == 1;
}

static struct dmabuf_rw_result extents_walk(struct inode *inode, struct dmabuf_rw_extents *x)
{
	struct block_device *bdev = inode->i_sb->s_bdev;
	u64 first = (u64)bdev->bd_start_sect << SECTOR_SHIFT;
	u64 blocks = bdev_nr_bytes(bdev) >> inode->i_blkbits;
	u64 block, run = RUN_MOST / 2, nr = x->covered >> inode->i_blkbits;
	struct dmabuf_rw_result result;
	u64 place, base;
	u32 room = 0;

	for (block = 0; block < nr; block += run) {
		result = extents_place(inode, block, &place);
		if (result.error)
			return result;
		if (!place)
			return dmabuf_rw_fail(-ENXIO, DMABUF_RW_REASON_FILE_HOLE);
		/* Twice as many as before, or the half until it is a run. */
		run = min3(run * 2, (u64)RUN_MOST, nr - block);
		while (!extents_are_run(inode, block, run, place))
			run /= 2;
		if (place >= blocks || run > blocks - place)
			return dmabuf_rw_fail(-EIO, DMABUF_RW_REASON_FILE_KIND);
		x->sectors = max(x->sectors, (place + run) << (inode->i_blkbits - SECTOR_SHIFT));
		base = first + (place << inode->i_blkbits) - (block << inode->i_blkbits);
		if (!x->nr || base != x->at[x->nr - 1].base) {
			result = extents_add(x, &room, block << inode->i_blkbits, base);
			if (result.error)
				return result;
		}
		if (fatal_signal_pending(current))
			return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
		cond_resched();
	}
	return DMABUF_RW_OK;
}

/*
 * The file in stretches of the same length, at most two for each extent: an I/O finds its
 * extent by the stretch.
 */
static struct dmabuf_rw_result extents_index(struct dmabuf_rw_extents *x)
{
	u64 stretch, nr, last = x->covered - 1;
	u32 extent = 0;

	x->base = x->at[0].base;
	x->at[x->nr].start = x->covered;
	while (last >> x->shift >= 2 * (u64)x->nr)
		x->shift++;
	nr = (last >> x->shift) + 1;
	x->first = kvmalloc_array(nr + 1, sizeof(*x->first), GFP_KERNEL_ACCOUNT);
	if (!x->first)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	for (stretch = 0; stretch < nr; stretch++) {
		while (x->at[extent + 1].start <= stretch << x->shift)
			extent++;
		x->first[stretch] = extent;
	}
	x->first[nr] = x->nr - 1;
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
	if (!result.error)
		result = extents_index(extents);
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
	kvfree(extents->first);
	*extents = (struct dmabuf_rw_extents){};
}
