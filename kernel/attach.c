// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attachments: one per (dma-buf, DMA device), shared by all mappings of that
 * pair; and what happens to them when the exporter moves or takes its memory,
 * or when the drive loses its driver.
 *
 * An attachment is live while its PRP lists hold valid addresses. Each command
 * holds its mapping's percpu_ref. To take addresses away, under the dma_resv of
 * the dma-buf: kill the percpu_ref of every member, wait until all are drained,
 * unmap. To bring them back: map, write the lists, revive the refs. An I/O that
 * finds its ref dead asks for that, from a context that may sleep.
 *
 * No deadlock with the exporter's eviction, which holds the dma_resv while it
 * waits for us: an I/O that holds a percpu_ref is with the drive, or is about to
 * give the drive a request that is allocated already. It takes no lock and waits
 * only for the drive, at most as long as the driver's time-out.
 *
 * A driver leaves its device in two steps. Before its remove() runs we only
 * stop I/O: we take no lock that somebody sleeps with, and wait for nothing, as a
 * drive that was pulled out answers nothing until remove() gives up on it. When
 * remove() has ended all I/O, and before another driver gets the device, we give
 * the addresses back.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/hashtable.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "compat.h"
#include "addresses.h"
#include "attach.h"
#include "limits.h"
#include "mapping.h"
#include "nvme_driver.h"
#include "nvme_proof.h"

/* By dma-buf. */
static DEFINE_HASHTABLE(attachments, 8);
static DEFINE_MUTEX(attachments_lock);

/* Devices that are losing their driver; attachments_lock. */
struct departing {
	struct list_head node;
	struct device *dev;
};

static LIST_HEAD(departing_devices);

static struct workqueue_struct *attach_wq;

static void attach_ref_put(struct dmabuf_rw_attach *a)
{
	if (!refcount_dec_and_test(&a->refs))
		return;
	WARN_ON_ONCE(!list_empty(&a->members));
	dma_buf_put(a->dmabuf);
	put_device(a->dev);
	mutex_destroy(&a->setup);
	kfree(a);
}

/**
 * dmabuf_rw_attach_put - let go of an attachment
 * @a: unmapped and detached when nobody uses it any more
 *
 * It stays where device_has_left() finds it until that is done, so that a
 * device does not go to somebody else in between.
 *
 * Context: may sleep; no lock of this module held.
 */
void dmabuf_rw_attach_put(struct dmabuf_rw_attach *a)
{
	mutex_lock(&attachments_lock);
	if (--a->users) {
		mutex_unlock(&attachments_lock);
		return;
	}
	mutex_unlock(&attachments_lock);
	dmabuf_rw_attach_dismantle(a);
	mutex_lock(&attachments_lock);
	hash_del(&a->node);
	mutex_unlock(&attachments_lock);
	attach_ref_put(a);
}

/*
 * Polled requests end only when somebody looks, and the task that issued them
 * may sleep. Looks until the driver has left: its remove() waits for them.
 */
static void attach_reap(struct work_struct *work)
{
	struct dmabuf_rw_attach *a = container_of(work, struct dmabuf_rw_attach, reap);
	struct dmabuf_rw_mapping *m;
	bool again = true;

	while (again) {
		again = false;
		scoped_guard(spinlock, &a->lock) {
			/* By each one's own queue: its namespace may be gone before others. */
			list_for_each_entry(m, &a->members, member) {
				if (completion_done(&m->drained))
					continue;
				dmabuf_rw_target_poll(&m->target, NULL, DMABUF_RW_ALL_QUEUES);
				again = true;
			}
		}
		again = again && !READ_ONCE(a->left);
		if (again)
			usleep_range(500, 2000);
	}
	attach_ref_put(a);
}

static bool device_departs(const struct device *dev)
{
	struct departing *d;

	list_for_each_entry(d, &departing_devices, node)
		if (d->dev == dev)
			return true;
	return false;
}

/*
 * Does the device have the driver that our targets come from? Before it left,
 * it was announced; afterwards it has another one, or none. attachments_lock held.
 */
static bool device_is_drive(const struct device *dev)
{
	return !device_departs(dev) && dmabuf_rw_nvme_drives(dev);
}

static struct dmabuf_rw_attach *attach_alloc(struct dma_buf *dmabuf, struct device *dev)
{
	struct dmabuf_rw_attach *a = kzalloc_obj(*a, GFP_KERNEL_ACCOUNT);

	if (!a)
		return NULL;
	refcount_set(&a->refs, 1);
	a->users = 1;
	get_dma_buf(dmabuf);
	a->dmabuf = dmabuf;
	a->dev = get_device(dev);
	mutex_init(&a->setup);
	spin_lock_init(&a->lock);
	INIT_WORK(&a->reap, attach_reap);
	INIT_LIST_HEAD(&a->members);
	/* A dma-buf that cannot be written stays so for the drive, too. */
	a->dir = (dmabuf->file->f_mode & FMODE_WRITE) ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
	a->state = DMABUF_RW_STATE_INVALIDATED;
	return a;
}

static struct dmabuf_rw_attach *attach_lookup(struct dma_buf *dmabuf, struct device *dev)
{
	struct dmabuf_rw_attach *a;

	hash_for_each_possible(attachments, a, node, (unsigned long)dmabuf) {
		if (a->dmabuf == dmabuf && a->dev == dev && a->users && !a->gone) {
			a->users++;
			return a;
		}
	}
	return NULL;
}

/*
 * The attachment of this pair, used once more, perhaps not yet set up. @fresh
 * becomes it if there is none. Returns NULL if there is none and no @fresh.
 */
static struct dmabuf_rw_attach *attach_use(struct dma_buf *dmabuf, struct device *dev,
					   struct dmabuf_rw_attach *fresh)
{
	struct dmabuf_rw_attach *a;

	guard(mutex)(&attachments_lock);
	if (!device_is_drive(dev))
		return ERR_PTR(-ENODEV);
	a = attach_lookup(dmabuf, dev);
	if (!a && fresh) {
		hash_add(attachments, &fresh->node, (unsigned long)dmabuf);
		a = fresh;
	}
	return a;
}

static struct dmabuf_rw_result attach_find(struct dma_buf *dmabuf, struct device *dev,
					   struct dmabuf_rw_attach **out)
{
	struct dmabuf_rw_attach *a = attach_use(dmabuf, dev, NULL), *fresh = NULL;

	if (!a) {
		/* Not under the lock: getting memory may mean evicting somebody's buffer. */
		fresh = attach_alloc(dmabuf, dev);
		if (!fresh)
			return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		a = attach_use(dmabuf, dev, fresh);
	}
	if (fresh && a != fresh)
		attach_ref_put(fresh);
	if (IS_ERR(a))
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	*out = a;
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_attach_get - attach a dma-buf to a target's device
 * @dmabuf: the memory
 * @dev: the PCI function
 * @out: out: the attachment, for dmabuf_rw_attach_put()
 *
 * Takes the attachment that is there, or makes one.
 *
 * Context: may sleep; session lock not held.
 * Return: success, or an errno with the exporter's, the segments' or the
 * device's reason.
 */
struct dmabuf_rw_result dmabuf_rw_attach_get(struct dma_buf *dmabuf, struct device *dev,
					     struct dmabuf_rw_attach **out)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_attach *a;

	/*
	 * Addresses are given back when the driver has left. By then the kernel
	 * has thrown away how bus addresses are translated, where they are.
	 */
	if (dev->dma_range_map && !dmabuf_rw_dma_iommu(dev))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_KERNEL);
	if (dmabuf->size & (DMABUF_RW_GRANULE - 1))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_ALIGN);
	if (!dmabuf->size || dmabuf->size > DMABUF_RW_MAX_PREMAPPED)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);

	result = attach_find(dmabuf, dev, &a);
	if (result.error)
		return result;
	mutex_lock(&a->setup);
	if (!a->ready)
		result = dmabuf_rw_attach_setup(a);
	mutex_unlock(&a->setup);
	if (result.error)
		dmabuf_rw_attach_put(a);
	else
		*out = a;
	return result;
}

/*
 * Before the driver's remove(). The device's lock is held, and a drive that was
 * pulled out waits for it: stop, and wait for nothing.
 */
static void device_leaves(struct device *dev)
{
	struct dmabuf_rw_attach *a;
	struct departing *d;
	int bucket;

	/* No other driver's device is ever attached to. */
	if (!dmabuf_rw_nvme_drives(dev))
		return;
	d = kmalloc_obj(*d, GFP_KERNEL | __GFP_NOFAIL);
	d->dev = dev;
	guard(mutex)(&attachments_lock);
	list_add(&d->node, &departing_devices);
	hash_for_each(attachments, bucket, a, node) {
		if (a->dev != dev)
			continue;
		scoped_guard(spinlock, &a->lock)
			a->gone = true;
		dmabuf_rw_attach_close(a);
		refcount_inc(&a->refs);
		if (!queue_work(attach_wq, &a->reap))
			refcount_dec(&a->refs);
		cond_resched();
	}
}

/* An attachment of a device that has lost its driver, once each, with a reference. */
static struct dmabuf_rw_attach *attach_next_left(struct device *dev)
{
	struct dmabuf_rw_attach *a;
	int bucket;

	guard(mutex)(&attachments_lock);
	hash_for_each(attachments, bucket, a, node) {
		if (a->dev == dev && a->gone && !a->left) {
			WRITE_ONCE(a->left, true);
			refcount_inc(&a->refs);
			return a;
		}
	}
	return NULL;
}

/*
 * After the driver's remove(), which has ended all I/O, and before the device
 * can go to anybody else: nothing is left to wait for but an exporter that is at
 * work on the buffer.
 */
static void device_has_left(struct device *dev)
{
	struct dmabuf_rw_attach *a;
	struct departing *d, *next;

	while ((a = attach_next_left(dev))) {
		dmabuf_rw_attach_dismantle(a);
		attach_ref_put(a);
	}
	guard(mutex)(&attachments_lock);
	list_for_each_entry_safe(d, next, &departing_devices, node) {
		if (d->dev == dev) {
			dmabuf_rw_nvme_forget();
			list_del(&d->node);
			kfree(d);
		}
	}
}

/* A driver leaves its PCI device: unbind, hot-unplug, module unload. */
static int pci_event(struct notifier_block *nb, unsigned long event, void *data)
{
	switch (event) {
	case BUS_NOTIFY_UNBIND_DRIVER:
		device_leaves(data);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
	case BUS_NOTIFY_REMOVED_DEVICE:
		device_has_left(data);
		break;
	}
	return NOTIFY_DONE;
}

/* Before those who look whether a driver has given all its addresses back. */
static struct notifier_block pci_notifier = { .notifier_call = pci_event, .priority = 1 };

/**
 * dmabuf_rw_attach_init - begin to watch the PCI bus
 *
 * Return: 0 or a negative errno.
 */
int dmabuf_rw_attach_init(void)
{
	int ret;

	attach_wq = alloc_workqueue("dmabuf_rw_reap", WQ_UNBOUND, 0);
	if (!attach_wq)
		return -ENOMEM;
	ret = bus_register_notifier(&pci_bus_type, &pci_notifier);
	if (ret)
		destroy_workqueue(attach_wq);
	return ret;
}

/**
 * dmabuf_rw_attach_exit - undo dmabuf_rw_attach_init()
 *
 * Context: module exit, no session exists.
 */
void dmabuf_rw_attach_exit(void)
{
	struct departing *d, *next;

	bus_unregister_notifier(&pci_bus_type, &pci_notifier);
	destroy_workqueue(attach_wq);
	list_for_each_entry_safe(d, next, &departing_devices, node)
		kfree(d);
	WARN_ON(!hash_empty(attachments));
}
