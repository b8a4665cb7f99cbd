// SPDX-License-Identifier: GPL-2.0-only
/*
 * Targets: may this file be used in that direction, and which NVMe namespace, by
 * way of which controller, is it?
 */
#include <linux/blk-mq.h>
#include <linux/file.h>
#include <linux/jiffies.h>

#include "compat.h"
#include "limits.h"
#include "nvme_proof.h"
#include "target.h"

/**
 * dmabuf_rw_target_modes - was the file opened for what is asked?
 * @file: the target
 * @directions: DMABUF_RW_DIR_*
 *
 * Return: -EBADF as read(2) and write(2) would, or success.
 */
struct dmabuf_rw_result dmabuf_rw_target_modes(const struct file *file, u32 directions)
{
	if ((directions & DMABUF_RW_DIR_READ) && !(file->f_mode & FMODE_READ))
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_TARGET_MODE);
	if ((directions & DMABUF_RW_DIR_WRITE) && !(file->f_mode & FMODE_WRITE))
		return dmabuf_rw_fail(-EBADF, DMABUF_RW_REASON_TARGET_MODE);
	return DMABUF_RW_OK;
}

/* Longest command: the queue's limit or the caller's better knowledge. */
static u32 target_max_command(const struct request_queue *q, u32 hint)
{
	u64 bytes = hint ?: (u64)queue_max_hw_sectors(q) << SECTOR_SHIFT;
	u32 block = queue_logical_block_size(q);
	u32 whole = max_t(u32, block, DMABUF_RW_GRANULE);

	/* The command counts logical blocks, less one, in 16 bits. */
	bytes = min(bytes, (u64)block << 16);
	/* A block is the least that a command can move: a smaller hint does not count. */
	return max(round_down(min_t(u64, bytes, U32_MAX), whole), whole);
}

/* Of a target whose file is known: the path in use, and the format behind it. */
static struct dmabuf_rw_result target_set_path(struct dmabuf_rw_target *target,
					       const struct device *avoid)
{
	struct dmabuf_rw_nvme_path path;
	struct dmabuf_rw_result result;

	result = dmabuf_rw_nvme_find(target->bdev->bd_disk, avoid, &path);
	if (result.error)
		return result;
	target->disk = path.disk;
	target->dma_dev = path.dma_dev;
	target->controller = path.controller;
	if (path.rank == DMABUF_RW_NVME_LATER && avoid)
		return dmabuf_rw_fail(-EAGAIN, DMABUF_RW_REASON_MULTIPATH);

	result = dmabuf_rw_nvme_look(target->disk, &target->format, !avoid);
	if (result.error)
		return result;
	target->looked = jiffies;
	target->max_command = target_max_command(target->disk->queue, target->hint);
	target->block_size = bdev_logical_block_size(target->bdev);
	return DMABUF_RW_OK;
}

/* The block device that an open file is, or is on; NULL: none. */
static struct block_device *target_device(const struct file *file)
{
	struct inode *inode = file->f_mapping->host;

	return S_ISBLK(inode->i_mode) ? I_BDEV(inode) : inode->i_sb->s_bdev;
}

static void target_put_path(struct dmabuf_rw_target *target)
{
	if (target->disk)
		put_device(disk_to_dev(target->disk));
	put_device(target->dma_dev);
}

/* What must hold of the device itself, on any path. */
static struct dmabuf_rw_result target_check(const struct dmabuf_rw_target *target, u32 directions)
{
	const struct inode *inode = target->file->f_mapping->host;
	/* A watcher may have to bring the bytes of a file first. */
	size_t all = S_ISREG(inode->i_mode) ? i_size_read(inode) : 0;
	loff_t start = 0;
	int ret = 0;

	if (!(target->file->f_flags & O_DIRECT))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_DIRECT);
	if (bdev_is_zoned(target->bdev))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_ZONED);
	if ((directions & DMABUF_RW_DIR_WRITE) && bdev_read_only(target->bdev))
		return dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_READ_ONLY);
	/*
	 * Security modules and watchers of the file are asked once, here: the
	 * I/O that follows is commands without pages, of which they know nothing.
	 */
	if (directions & DMABUF_RW_DIR_READ)
		ret = rw_verify_area(READ, target->file, &start, all);
	if (!ret && (directions & DMABUF_RW_DIR_WRITE))
		ret = rw_verify_area(WRITE, target->file, &start, all);
	return ret ? dmabuf_rw_fail(ret, DMABUF_RW_REASON_TARGET_MODE) : DMABUF_RW_OK;
}

/**
 * dmabuf_rw_target_nvme - find the namespace behind an open file
 * @target: out; all zero on failure
 * @file: what user space opened; a reference is taken
 * @directions: DMABUF_RW_DIR_*, already checked with dmabuf_rw_target_modes()
 * @hint: bytes one command may move, 0: what the block layer says
 * @hold: @file is a regular file, and is to be held still
 *
 * The PCI function may lose its driver while this runs; dmabuf_rw_attach_get()
 * finds that out.
 *
 * Context: may sleep.
 * Return: success, or -EOPNOTSUPP, -EPERM, -ENODEV, -ENOMEM, or what a security
 * module, dmabuf_rw_file_use_get() or, the first time, the drive said, with the
 * reason.
 */
struct dmabuf_rw_result dmabuf_rw_target_nvme(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions,
					      u32 hint, bool hold)
{
	struct inode *inode = file->f_mapping->host;
	struct dmabuf_rw_result result;
	struct gendisk *opened;

	memset(target, 0, sizeof(*target));
	if (hold && !S_ISREG(inode->i_mode))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_FILE);
	if (!hold && !S_ISBLK(inode->i_mode))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK);
	if (!target_device(file))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_FILE_SYSTEM);

	target->file = get_file(file);
	target->bdev = target_device(file);
	target->hint = hint;
	opened = target->bdev->bd_disk;
	if (dmabuf_rw_nvme_is_head(opened))
		target->head = opened->queue;
	result = target_set_path(target, NULL);
	if (!result.error)
		result = target_check(target, directions);
	if (!result.error)
		result = dmabuf_rw_nvme_prove(target->disk, target->head, target->dma_dev,
					      &target->format);
	if (!result.error && hold)
		result = dmabuf_rw_file_use_get(file, directions, &target->use);
	if (result.error)
		dmabuf_rw_target_put(target);
	return result;
}

/**
 * dmabuf_rw_target_on_head - is the open file, or what it is on, a multipath head?
 * @file: any
 *
 * Context: any.
 * Return: whether it is.
 */
bool dmabuf_rw_target_on_head(const struct file *file)
{
	const struct block_device *bdev = target_device(file);

	return bdev && dmabuf_rw_nvme_is_head(bdev->bd_disk);
}

/**
 * dmabuf_rw_target_repath - the same namespace by way of another controller
 * @target: out; all zero on failure
 * @from: a target on a multipath head
 * @avoid: the PCI function that does not serve any more
 *
 * Context: may sleep.
 * Return: success; -EAGAIN if the only controllers left are resetting; else as
 * dmabuf_rw_target_nvme().
 */
struct dmabuf_rw_result dmabuf_rw_target_repath(struct dmabuf_rw_target *target,
						const struct dmabuf_rw_target *from,
						const struct device *avoid)
{
	struct dmabuf_rw_result result;

	memset(target, 0, sizeof(*target));
	target->file = get_file(from->file);
	target->bdev = from->bdev;
	target->head = from->head;
	target->use = from->use;
	if (target->use)
		refcount_inc(&target->use->refs);
	target->hint = from->hint;
	result = target_set_path(target, avoid);
	if (result.error)
		dmabuf_rw_target_put(target);
	return result;
}

/**
 * dmabuf_rw_target_reformatted - has the logical block another size by now?
 * @target: the target
 *
 * Context: any.
 * Return: whether it has; false for a target of the bvec path.
 */
bool dmabuf_rw_target_reformatted(const struct dmabuf_rw_target *target)
{
	return target->block_size && bdev_logical_block_size(target->bdev) != target->block_size;
}

/**
 * dmabuf_rw_target_file - a target for the bvec path
 * @target: out; all zero on failure
 * @file: what user space opened; a reference is taken
 * @directions: DMABUF_RW_DIR_*, already checked with dmabuf_rw_target_modes()
 *
 * Context: process.
 * Return: success, or -EOPNOTSUPP with NOT_FILE.
 */
struct dmabuf_rw_result dmabuf_rw_target_file(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions)
{
	struct inode *inode = file_inode(file);

	memset(target, 0, sizeof(*target));
	if (!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_FILE);
	if (((directions & DMABUF_RW_DIR_READ) && !file->f_op->read_iter) ||
	    ((directions & DMABUF_RW_DIR_WRITE) && !file->f_op->write_iter))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_FILE);
	if (S_ISBLK(inode->i_mode) || dmabuf_rw_file_is_direct(file))
		target->direct_aops = file->f_mapping->a_ops;
	if (S_ISREG(inode->i_mode) && target->direct_aops)
		target->holes = dmabuf_rw_file_has_holes(file);
	target->file = get_file(file);
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_target_copy - the same target once more
 * @to: out, with references of its own
 * @from: found by dmabuf_rw_target_nvme()
 */
void dmabuf_rw_target_copy(struct dmabuf_rw_target *to, const struct dmabuf_rw_target *from)
{
	*to = *from;
	get_file(to->file);
	if (to->use)
		refcount_inc(&to->use->refs);
	get_device(disk_to_dev(to->disk));
	get_device(to->dma_dev);
}

/**
 * dmabuf_rw_target_put - undo dmabuf_rw_target_nvme()
 * @target: found, or all zero
 *
 * Context: process; may sleep.
 */
void dmabuf_rw_target_put(struct dmabuf_rw_target *target)
{
	target_put_path(target);
	dmabuf_rw_file_use_put(target->use);
	if (target->file)
		fput(target->file);
	memset(target, 0, sizeof(*target));
}

static int target_poll_hctx(struct request_queue *q, struct blk_mq_hw_ctx *hctx,
			    struct io_comp_batch *iob)
{
	return q->mq_ops->poll && hctx->type == HCTX_TYPE_POLL ? q->mq_ops->poll(hctx, iob) : 0;
}

/**
 * dmabuf_rw_target_poll - reap what has ended on the drive's polled queues
 * @target: the target
 * @iob: gathers what has ended, or NULL
 * @queue: number of the one hardware queue to look at, or
 *	DMABUF_RW_ALL_QUEUES
 *
 * Polled requests end only when somebody looks. Their ring may not, least of
 * all when its task is the one that waits for them.
 *
 * Context: process; the caller keeps the target.
 * Return: how many requests ended.
 */
int dmabuf_rw_target_poll(const struct dmabuf_rw_target *target, struct io_comp_batch *iob,
			  u32 queue)
{
	struct request_queue *q = target->disk->queue;
	struct blk_mq_hw_ctx *hctx;
	unsigned long i;
	int found = 0;

	/* Keeps the driver and the hardware queues; also while the queue is being frozen. */
	if (!percpu_ref_tryget(&q->q_usage_counter))
		return 0;
	if (queue == DMABUF_RW_ALL_QUEUES) {
		queue_for_each_hw_ctx(q, hctx, i)
			found += target_poll_hctx(q, hctx, iob);
	} else {
		hctx = dmabuf_rw_hctx(q, queue);
		if (hctx)
			found = target_poll_hctx(q, hctx, iob);
	}
	percpu_ref_put(&q->q_usage_counter);
	return found;
}
