// SPDX-License-Identifier: GPL-2.0-only
/*
 * Targets: may this file be used in that direction, and which NVMe namespace,
 * behind which PCI function, is it?
 */
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/nvme.h>
#include <linux/nvme_ioctl.h>
#include <linux/pci.h>

#include "compat.h"
#include "limits.h"
#include "nvme_request.h"
#include "target.h"

/*
 * nvme_init_request() is reached through symbol_get(), so that this module
 * loads, and its other datapaths work, on a machine without NVMe. It is looked
 * up with the first NVMe target and kept, nvme_core with it, until exit.
 */
static typeof(nvme_init_request) *nvme_init;
static DEFINE_MUTEX(nvme_init_lock);

/* The driver is there, and its requests are what we take them for. */
static bool target_nvme_available(struct request_queue *q)
{
	static bool verified;

	guard(mutex)(&nvme_init_lock);
	if (!nvme_init)
		WRITE_ONCE(nvme_init, symbol_get(nvme_init_request));
	if (nvme_init && !verified)
		verified = dmabuf_rw_nvme_request_verify(q, nvme_init);
	return verified;
}

/**
 * dmabuf_rw_target_init_request - nvme_init_request() for a premapped command
 * @rq: from the namespace's queue
 * @command: what the drive is to do; copied
 *
 * Context: any; a target found by dmabuf_rw_target_nvme() exists.
 */
void dmabuf_rw_target_init_request(struct request *rq, struct nvme_command *command)
{
	READ_ONCE(nvme_init)(rq, command);
}

/**
 * dmabuf_rw_target_exit - let go of nvme_core
 *
 * Context: module exit, no target exists any more.
 */
void dmabuf_rw_target_exit(void)
{
	if (nvme_init)
		symbol_put(nvme_init_request);
}

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

static bool class_is(const struct device *dev, const char *name)
{
	return dev && dev->class && !strcmp(dev->class->name, name);
}

/* Its driver may be leaving it at this very moment. */
static bool driver_is_nvme(const struct device *dev)
{
	return !strcmp(dev_driver_string(dev), "nvme");
}

/*
 * The PCI function of a disk that belongs to one NVMe controller: the disk's
 * parent is the controller, of class nvme, and its parent is the function, if
 * the transport is PCI. No reference is taken.
 */
static struct device *nvme_pci_function(struct gendisk *disk)
{
	struct device *ctrl = disk_to_dev(disk)->parent;
	struct device *dev;

	if (!class_is(ctrl, "nvme"))
		return NULL;
	dev = ctrl->parent;
	if (!dev || !dev_is_pci(dev) || !driver_is_nvme(dev))
		return NULL;
	return dev;
}

/* A path of a multipath head: subsystem and namespace instance must agree. */
struct nvme_path_search {
	int subsystem;
	int namespace;
	struct gendisk *disk;		/* out, with a device reference */
};

static int nvme_path_match(struct device *dev, void *data)
{
	struct nvme_path_search *search = data;
	int subsystem, ctrl, namespace, end = 0;

	if (!class_is(dev, "block"))
		return 0;
	if (sscanf(dev_name(dev), "nvme%dc%dn%d%n", &subsystem, &ctrl, &namespace, &end) != 3 ||
	    dev_name(dev)[end])
		return 0;
	if (subsystem != search->subsystem || namespace != search->namespace)
		return 0;
	get_device(dev);
	search->disk = dev_to_disk(dev);
	return 1;
}

static int nvme_ctrl_children(struct device *dev, void *data)
{
	return class_is(dev, "nvme") ? device_for_each_child(dev, data, nvme_path_match) : 0;
}

/*
 * A PCI path of the multipath head @head, with a device reference, or NULL.
 * The head's own queue takes bios only and has no PCI parent; the paths are
 * hidden disks named nvme<subsystem>c<controller>n<namespace>, children of
 * their controllers.
 */
static struct gendisk *nvme_find_path(struct gendisk *head)
{
	struct nvme_path_search search = {};
	struct pci_dev *pdev = NULL;
	int end = 0;

	if (sscanf(head->disk_name, "nvme%dn%d%n", &search.subsystem, &search.namespace,
		   &end) != 2 || head->disk_name[end])
		return NULL;
	for_each_pci_dev(pdev) {
		if (!driver_is_nvme(&pdev->dev))
			continue;
		if (device_for_each_child(&pdev->dev, &search, nvme_ctrl_children)) {
			pci_dev_put(pdev);
			return search.disk;
		}
	}
	return NULL;
}

/* The disk whose queue takes the commands, with a device reference. */
static struct dmabuf_rw_result target_find_disk(struct dmabuf_rw_target *target,
						struct gendisk *opened)
{
	struct device *parent = disk_to_dev(opened)->parent;
	struct device *dev;

	if (class_is(parent, "nvme-subsystem")) {
		target->disk = nvme_find_path(opened);
		if (!target->disk)
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_MULTIPATH);
	} else {
		get_device(disk_to_dev(opened));
		target->disk = opened;
	}
	dev = nvme_pci_function(target->disk);
	if (!dev)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME);
	target->dma_dev = get_device(dev);
	return DMABUF_RW_OK;
}

static struct dmabuf_rw_result target_check_format(struct dmabuf_rw_target *target,
						   struct gendisk *opened)
{
	int nsid;

	if (bdev_is_zoned(target->bdev))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_ZONED);
	if (blk_get_integrity(target->disk))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_METADATA);
	if (!target_nvme_available(target->disk->queue))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);

	/* Never from the user: the namespace is the one that was opened. */
	nsid = opened->fops->ioctl(opened->part0, 0, NVME_IOCTL_ID, 0);
	if (nsid == -EWOULDBLOCK)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_MULTIPATH);
	if (nsid <= 0)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME);
	target->nsid = nsid;
	return DMABUF_RW_OK;
}

/* Longest command: the queue's limit or the caller's better knowledge. */
static u32 target_max_command(const struct request_queue *q, u32 hint)
{
	u64 bytes = hint ?: (u64)queue_max_hw_sectors(q) << SECTOR_SHIFT;

	/* The command counts logical blocks, less one, in 16 bits. */
	bytes = min(bytes, (u64)queue_logical_block_size(q) << 16);
	return round_down(min_t(u64, bytes, U32_MAX),
			  max_t(u32, queue_logical_block_size(q), DMABUF_RW_GRANULE));
}

/**
 * dmabuf_rw_target_nvme - find the namespace behind an open file
 * @target: out; all zero on failure
 * @file: what user space opened; a reference is taken
 * @directions: DMABUF_RW_DIR_*, already checked with dmabuf_rw_target_modes()
 * @hint: bytes one command may move, 0: what the block layer says
 *
 * The PCI function may lose its driver meanwhile; dmabuf_rw_attach_join() finds
 * that out.
 *
 * Context: may sleep.
 * Return: success, or -EOPNOTSUPP or -EPERM with the reason.
 */
struct dmabuf_rw_result dmabuf_rw_target_nvme(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions,
					      u32 hint)
{
	struct inode *inode = file->f_mapping->host;
	struct dmabuf_rw_result result;
	struct gendisk *opened;

	memset(target, 0, sizeof(*target));
	if (!S_ISBLK(inode->i_mode))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK);

	target->file = get_file(file);
	target->bdev = I_BDEV(inode);
	opened = target->bdev->bd_disk;
	result = target_find_disk(target, opened);
	if (result.error)
		goto fail;

	result = dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_DIRECT);
	if (!(file->f_flags & O_DIRECT))
		goto fail;
	result = dmabuf_rw_fail(-EPERM, DMABUF_RW_REASON_READ_ONLY);
	if ((directions & DMABUF_RW_DIR_WRITE) && bdev_read_only(target->bdev))
		goto fail;
	result = target_check_format(target, opened);
	if (result.error)
		goto fail;

	target->max_command = target_max_command(target->disk->queue, hint);
	target->block_size = bdev_logical_block_size(target->bdev);
	return DMABUF_RW_OK;

fail:
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
	if (target->disk)
		put_device(disk_to_dev(target->disk));
	put_device(target->dma_dev);
	if (target->file)
		fput(target->file);
	memset(target, 0, sizeof(*target));
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

	if (!q->mq_ops->poll)
		return 0;
	/* Keeps the hardware queues; also while the queue is being frozen. */
	if (!percpu_ref_tryget(&q->q_usage_counter))
		return 0;
	queue_for_each_hw_ctx(q, hctx, i) {
		if (hctx->type == HCTX_TYPE_POLL &&
		    (queue == DMABUF_RW_ALL_QUEUES || hctx->queue_num == queue))
			found += q->mq_ops->poll(hctx, iob);
	}
	percpu_ref_put(&q->q_usage_counter);
	return found;
}
