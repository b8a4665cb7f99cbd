// SPDX-License-Identifier: GPL-2.0-only
/*
 * NVMe namespaces: by which controllers they can be reached, and what they are
 * formatted with.
 */
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/device.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/sched/mm.h>
#include <linux/string.h>

#include "compat.h"
#include "nvme_driver.h"
#include "nvme_ns.h"

/* A page for each CPU, which the driver writes its texts to. */
static char __percpu *format_pages;

/*
 * The attributes that tell of a format, and whose they are. They are nvme-core's, which
 * is held from the first MAP on. Each CPU finds them for itself.
 */
struct format_attrs {
	const struct attribute_group **groups;
	struct device_attribute *nsid;
	struct device_attribute *metadata;	/* NULL: before 6.8 */
};

static DEFINE_PER_CPU(struct format_attrs, format_attrs);

static bool class_is(const struct device *dev, const char *name)
{
	return dev && dev->class && !strcmp(dev->class->name, name);
}

/**
 * dmabuf_rw_nvme_is_head - is this disk the head of several others?
 * @disk: any disk
 *
 * Context: any.
 * Return: whether it is the multipath head of a namespace.
 */
bool dmabuf_rw_nvme_is_head(const struct gendisk *disk)
{
	return class_is(disk_to_dev(disk)->parent, "nvme-subsystem");
}

/* Is the controller working, and can it be expected to? */
static enum dmabuf_rw_nvme_rank controller_rank(struct device *ctrl, char *page)
{
	int length = dmabuf_rw_nvme_attr(ctrl, "state", page);

	if (length < 0)
		return DMABUF_RW_NVME_NONE;
	if (!strcmp(page, "live"))
		return DMABUF_RW_NVME_GOOD;
	if (!strcmp(page, "resetting") || !strcmp(page, "connecting") || !strcmp(page, "new"))
		return DMABUF_RW_NVME_LATER;
	return DMABUF_RW_NVME_NONE;
}

/*
 * A request of the disk's queue keeps its namespace while we look.
 */
static enum dmabuf_rw_nvme_rank path_rank(struct device *ctrl, struct gendisk *disk, char *page)
{
	enum dmabuf_rw_nvme_rank rank = controller_rank(ctrl, page);
	struct request *rq;

	if (rank != DMABUF_RW_NVME_GOOD)
		return rank;
	rq = blk_mq_alloc_request(disk->queue, REQ_OP_DRV_IN, BLK_MQ_REQ_NOWAIT);
	if (PTR_ERR(rq) == -ENODEV)
		return DMABUF_RW_NVME_NONE;
	/* Frozen, or busy: all its requests are in use. */
	if (IS_ERR(rq))
		return percpu_ref_is_dying(&disk->queue->q_usage_counter) ? DMABUF_RW_NVME_LATER :
			rank;
	/* Without ANA there is no such attribute, or it says optimized. */
	if (dmabuf_rw_nvme_attr(disk_to_dev(disk), "ana_state", page) > 0) {
		if (!strcmp(page, "non-optimized"))
			rank = DMABUF_RW_NVME_SLOW;
		else if (!strcmp(page, "change"))
			rank = DMABUF_RW_NVME_LATER;
		else if (strcmp(page, "optimized"))
			rank = DMABUF_RW_NVME_NONE;
	}
	blk_mq_free_request(rq);
	return rank;
}

/* The best path of a multipath head found so far. */
struct path_search {
	int subsystem;
	int namespace;
	const struct device *avoid;	/* taken only if there is no other */
	char *page;
	struct device *function;	/* whose controllers are being looked at */
	bool avoided;			/* @best is @avoid's */
	struct dmabuf_rw_nvme_path *best;
};

static void ns_path_put(struct dmabuf_rw_nvme_path *path)
{
	if (path->disk)
		put_device(disk_to_dev(path->disk));
	put_device(path->dma_dev);
	memset(path, 0, sizeof(*path));
}

static void ns_path_take(struct dmabuf_rw_nvme_path *path, struct gendisk *disk,
			 struct device *function, struct device *ctrl,
			 enum dmabuf_rw_nvme_rank rank)
{
	u32 number;

	ns_path_put(path);
	get_device(disk_to_dev(disk));
	path->disk = disk;
	path->dma_dev = get_device(function);
	path->rank = rank;
	path->controller = DMABUF_RW_NO_CONTROLLER;
	if (sscanf(dev_name(ctrl), "nvme%u", &number) == 1)
		path->controller = number;
}

/* @dev, its controller and their function are kept while this runs. */
static int path_look(struct device *dev, void *data)
{
	struct path_search *search = data;
	int subsystem, ctrl, namespace, end = 0;
	enum dmabuf_rw_nvme_rank rank;
	bool avoided;

	if (!class_is(dev, "block"))
		return 0;
	if (sscanf(dev_name(dev), "nvme%dc%dn%d%n", &subsystem, &ctrl, &namespace, &end) != 3 ||
	    dev_name(dev)[end])
		return 0;
	if (subsystem != search->subsystem || namespace != search->namespace)
		return 0;
	rank = path_rank(dev->parent, dev_to_disk(dev), search->page);
	avoided = search->function == search->avoid;
	if (rank == DMABUF_RW_NVME_NONE ||
	    (search->best->rank && avoided && !search->avoided) ||
	    (search->best->rank >= rank && !(search->avoided && !avoided)))
		return 0;
	ns_path_take(search->best, dev_to_disk(dev), search->function, dev->parent, rank);
	search->avoided = avoided;
	return 0;
}

static int path_look_at_controller(struct device *dev, void *data)
{
	return class_is(dev, "nvme") ? device_for_each_child(dev, data, path_look) : 0;
}

/*
 * The best PCI path of the multipath head @head. The head's own queue takes
 * bios only and has no PCI parent; the paths are hidden disks named
 * nvme<subsystem>c<controller>n<namespace>, children of their controllers.
 */
static struct dmabuf_rw_result find_path(struct gendisk *head, const struct device *avoid,
					 struct dmabuf_rw_nvme_path *path)
{
	struct path_search search = { .avoid = avoid, .best = path };
	struct pci_dev *pdev = NULL;
	struct module *owner;
	int end = 0;

	if (sscanf(head->disk_name, "nvme%dn%d%n", &search.subsystem, &search.namespace,
		   &end) != 2 || head->disk_name[end])
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_MULTIPATH);
	search.page = (char *)__get_free_page(GFP_KERNEL);
	if (!search.page)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	for_each_pci_dev(pdev) {
		if (!dmabuf_rw_nvme_hold(&pdev->dev, &owner))
			continue;
		search.function = &pdev->dev;
		device_for_each_child(&pdev->dev, &search, path_look_at_controller);
		module_put(owner);
	}
	free_page((unsigned long)search.page);
	return path->rank ? DMABUF_RW_OK :
		dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_MULTIPATH);
}

/*
 * A disk that belongs to one controller: its parent is the controller, of class
 * nvme, and that one's parent is the function, if the transport is PCI. An open
 * disk keeps both: the namespace holds its controller.
 */
static struct dmabuf_rw_result find_plain(struct gendisk *disk, struct dmabuf_rw_nvme_path *path)
{
	struct device *ctrl = disk_to_dev(disk)->parent;
	struct device *function;

	if (!class_is(ctrl, "nvme") || !queue_is_mq(disk->queue))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME);
	function = ctrl->parent;
	if (!function || !dev_is_pci(function) || !dmabuf_rw_nvme_drives(function))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME);
	ns_path_take(path, disk, function, ctrl, DMABUF_RW_NVME_GOOD);
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_nvme_find - find the disk whose queue takes the commands
 * @opened: a disk that the caller has open
 * @avoid: a function to take only if there is no other, or NULL
 * @path: out: the best there is, with references; all zero on failure
 *
 * Context: may sleep.
 * Return: success; -EOPNOTSUPP with NOT_NVME or MULTIPATH, or -ENOMEM.
 */
struct dmabuf_rw_result dmabuf_rw_nvme_find(struct gendisk *opened, const struct device *avoid,
					    struct dmabuf_rw_nvme_path *path)
{
	memset(path, 0, sizeof(*path));
	if (dmabuf_rw_nvme_is_head(opened))
		return find_path(opened, avoid, path);
	return find_plain(opened, path);
}

/*
 * What @metadata bytes with each block mean for commands without any. The drive
 * can make and strip protection information itself (PRACT) if there is nothing
 * else in the metadata; for anything else they would need a buffer.
 */
static struct dmabuf_rw_result format_metadata(struct gendisk *disk, u32 metadata,
					       struct dmabuf_rw_nvme_format *format)
{
	const struct dmabuf_rw_result refused = { -EOPNOTSUPP, DMABUF_RW_REASON_METADATA };
	const struct blk_integrity *bi = blk_get_integrity(disk);
	bool ref_tag;
	u32 tuple;

	if (!metadata)
		return DMABUF_RW_OK;
	format->control = NVME_RW_PRINFO_PRACT | NVME_RW_PRINFO_PRCHK_GUARD;
	if (!bi) {
		/*
		 * Metadata between the blocks has no profile. The driver gives such a
		 * namespace a capacity only if the metadata is protection information
		 * alone: it sets PRACT itself then.
		 */
		if (!get_capacity(disk))
			return refused;
		tuple = metadata == 16 ? 16 : 8;
	} else {
		enum dmabuf_rw_pi pi = dmabuf_rw_pi(bi, &ref_tag);

		if (pi == DMABUF_RW_PI_NONE)
			return refused;
		tuple = pi == DMABUF_RW_PI_CRC64 ? 16 : 8;
		if (ref_tag)
			format->control |= NVME_RW_PRINFO_PRCHK_REF;
	}
	format->guard64 = tuple == 16;
	return metadata == tuple ? DMABUF_RW_OK : refused;
}

/*
 * The same by a driver that does not show how much metadata there is (before
 * 6.8): it makes a read of its own, which has PRACT if the metadata is nothing
 * but protection information. It complains if there is other metadata, and
 * leaves the namespace without a capacity or with a profile that protects
 * nothing then.
 */
static struct dmabuf_rw_result format_by_command(struct request *rq, struct gendisk *disk,
						 struct dmabuf_rw_nvme_format *format)
{
	const u16 known = NVME_RW_PRINFO_PRACT | NVME_RW_PRINFO_PRCHK_GUARD |
			  NVME_RW_PRINFO_PRCHK_REF;
	const struct blk_integrity *bi = blk_get_integrity(disk);
	struct nvme_command made;
	bool ref_tag;

	if (!get_capacity(disk) || (bi && dmabuf_rw_pi(bi, &ref_tag) == DMABUF_RW_PI_NONE))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_METADATA);
	/* A block whose number shows in the upper part of a reference tag of 48 bits. */
	if (!dmabuf_rw_nvme_own_read(rq, BIT_ULL(32), &made) ||
	    le32_to_cpu(made.rw.nsid) != format->nsid)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	format->control = le16_to_cpu(made.rw.control) & known;
	format->guard64 = made.rw.cdw3 == cpu_to_le32(1);
	return DMABUF_RW_OK;
}

/* Preemption is off. */
static const struct format_attrs *format_attrs_of(const struct device *dev)
{
	struct format_attrs *attrs = this_cpu_ptr(&format_attrs);

	if (unlikely(attrs->groups != dev->groups))
		*attrs = (struct format_attrs){
			.groups = dev->groups,
			.nsid = dmabuf_rw_nvme_attr_find(dev, "nsid"),
			.metadata = dmabuf_rw_nvme_attr_find(dev, "metadata_bytes"),
		};
	return attrs;
}

/*
 * The format of a namespace; preemption is off, and @page is for the texts that the
 * driver shows. The caller holds @rq of @disk's queue, so that the namespace stays,
 * and is not formatted by this controller.
 */
static struct dmabuf_rw_result format_read(struct request *rq, struct gendisk *disk,
					   struct dmabuf_rw_nvme_format *format, char *page)
{
	struct device *dev = disk_to_dev(disk);
	const struct format_attrs *attrs = format_attrs_of(dev);
	u32 metadata;
	int ret;

	memset(format, 0, sizeof(*format));
	ret = dmabuf_rw_nvme_attr_u32(dev, attrs->nsid, page, &format->nsid);
	if (!ret && format->nsid) {
		ret = dmabuf_rw_nvme_attr_u32(dev, attrs->metadata, page, &metadata);
		if (ret == -ENOENT)
			return format_by_command(rq, disk, format);
	}
	if (ret || !format->nsid)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	return format_metadata(disk, metadata, format);
}

/**
 * dmabuf_rw_nvme_format - what a namespace is formatted with
 * @rq: of @disk's queue; not sent, no command in it yet
 * @disk: of one controller
 * @format: out
 *
 * For who asks once a tick: the page that it needs is kept.
 *
 * Context: does not sleep. The caller holds a request of @disk's queue, so that the
 * namespace stays, and is not formatted by this controller.
 * Return: success; -EOPNOTSUPP with METADATA, or with KERNEL if the driver does
 * not tell.
 */
struct dmabuf_rw_result dmabuf_rw_nvme_format(struct request *rq, struct gendisk *disk,
					      struct dmabuf_rw_nvme_format *format)
{
	struct dmabuf_rw_result result;

	/* Nobody else comes to use this CPU's page. */
	preempt_disable();
	result = format_read(rq, disk, format, this_cpu_ptr(format_pages));
	preempt_enable();
	return result;
}

/**
 * dmabuf_rw_nvme_look - make sure of the driver, and of the namespace's format
 * @disk: of one controller
 * @format: out
 * @wait: for a request of its queue
 *
 * Context: may sleep.
 * Return: as dmabuf_rw_nvme_format(); -EOPNOTSUPP with KERNEL if the driver is
 * not one we know; -ENODEV with DEVICE_GONE; -EAGAIN without @wait.
 */
struct dmabuf_rw_result dmabuf_rw_nvme_look(struct gendisk *disk,
					    struct dmabuf_rw_nvme_format *format, bool wait)
{
	struct dmabuf_rw_result result;
	struct request *rq;
	unsigned int noio;

	rq = blk_mq_alloc_request(disk->queue, REQ_OP_DRV_IN, wait ? 0 : BLK_MQ_REQ_NOWAIT);
	if (IS_ERR(rq))
		return PTR_ERR(rq) == -EAGAIN ?
			dmabuf_rw_fail(-EAGAIN, DMABUF_RW_REASON_MULTIPATH) :
			dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	/* A task that freezes the queue waits for us: no memory by way of the drive itself. */
	noio = memalloc_noio_save();
	if (dmabuf_rw_nvme_available(rq))
		result = dmabuf_rw_nvme_format(rq, disk, format);
	else
		result = dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	memalloc_noio_restore(noio);
	blk_mq_free_request(rq);
	return result;
}

/**
 * dmabuf_rw_nvme_ns_init - have the pages that dmabuf_rw_nvme_format() uses
 *
 * Context: module init.
 * Return: 0 or -ENOMEM.
 */
int dmabuf_rw_nvme_ns_init(void)
{
	format_pages = __alloc_percpu(PAGE_SIZE, PAGE_SIZE);
	return format_pages ? 0 : -ENOMEM;
}

/**
 * dmabuf_rw_nvme_ns_exit - undo dmabuf_rw_nvme_ns_init()
 *
 * Context: module exit, no target exists any more.
 */
void dmabuf_rw_nvme_ns_exit(void)
{
	free_percpu(format_pages);
}
