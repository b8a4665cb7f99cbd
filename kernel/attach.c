// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attachments: one per (dma-buf, DMA device), shared by all mappings of that
 * pair; and what happens to them when the exporter moves or takes its memory,
 * or when the drive loses its driver.
 *
 * An attachment is live while its PRP lists hold valid addresses. Each I/O
 * holds its mapping's percpu_ref. To take addresses away, under the dma_resv of
 * the dma-buf: kill the percpu_ref of every member, wait until all are drained,
 * unmap. To bring them back: map, write the lists, revive the refs. An I/O that
 * finds its ref dead asks for that, from a context that may sleep.
 *
 * No deadlock with the exporter's eviction, which holds the dma_resv while it
 * waits for us: an I/O that holds a percpu_ref is with the drive, or is about
 * to be given to it by somebody who takes no lock and waits for no fence; it
 * ends without the dma_resv and without memory.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/iommu-dma.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "attach.h"
#include "fence.h"
#include "limits.h"
#include "mapping.h"
#include "trace.h"

static LIST_HEAD(dmabuf_rw_cache);
static DEFINE_MUTEX(dmabuf_rw_cache_lock);

/* See the lock order in mapping.h. */
static DECLARE_RWSEM(dmabuf_rw_device_sem);

/* Devices that are losing their driver; dmabuf_rw_device_sem. */
struct departing {
	struct list_head node;
	struct device *dev;
};

static LIST_HEAD(departing_devices);

/*
 * Wait until a mapping whose percpu_ref was killed has no I/O in flight. The
 * time the drive takes is the bound; the driver's time-out is the drive's.
 */
static void mapping_drain(struct dmabuf_rw_mapping *m)
{
	while (!wait_for_completion_timeout(&m->drained, msecs_to_jiffies(10)))
		if (m->attach)
			dmabuf_rw_target_poll(&m->target, NULL, DMABUF_RW_ALL_QUEUES);
}

/* No new I/O, and none in flight, on any member. dma_resv held. */
static void attach_quiesce(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_mapping *m;

	/* Kill all before waiting for any: the grace periods overlap. */
	list_for_each_entry(m, &a->members, member) {
		if (!m->killed) {
			m->killed = true;
			percpu_ref_kill(&m->io);
		}
	}
	list_for_each_entry(m, &a->members, member)
		mapping_drain(m);
}

/**
 * dmabuf_rw_attach_classify - find out where a buffer's memory is
 * @a: sets @a->place; left as it is when it is not mapped, or when this is known
 *	already
 *
 * Context: may sleep; dma_resv held. Neither allocates nor waits.
 */
void dmabuf_rw_attach_classify(struct dmabuf_rw_attach *a)
{
	if (!a->mapped || a->classified)
		return;
	a->place = dmabuf_rw_classify(a->dev, a->sgt);
	a->classified = true;
}

/* Give the addresses back. dma_resv held, members quiet. */
static void attach_unmap(struct dmabuf_rw_attach *a)
{
	if (!a->mapped)
		return;
	dma_buf_unmap_attachment(a->att, a->sgt, a->dir);
	a->sgt = NULL;
	a->mapped = false;
}

static void attach_invalidate(struct dma_buf_attachment *att)
{
	struct dmabuf_rw_attach *a = att->importer_priv;
	ktime_t start;

	dma_resv_assert_held(att->dmabuf->resv);
	if (!a->mapped)
		return;
	start = ktime_get();
	a->invalidations++;
	a->state = DMABUF_RW_STATE_INVALIDATED;
	attach_quiesce(a);
	dmabuf_rw_attach_classify(a);
	attach_unmap(a);
	trace_dmabuf_rw_invalidate(file_inode(att->dmabuf->file)->i_ino, a->nr_members,
				   ktime_to_ns(ktime_sub(ktime_get(), start)));
}

static const struct dma_buf_attach_ops attach_ops = {
	.allow_peer2peer = true,
	DMABUF_RW_INVALIDATE_OP(attach_invalidate),
};

/*
 * Is dma_need_sync()'s yes about the address, or about the device only? Behind
 * an IOMMU it says yes to every address once the device ever had one that was
 * copied, and wherever the DMA layer is being debugged. There, memory is copied
 * for a device that is not trusted, and CPU accesses matter where caches are
 * not coherent; for all others the answer is no.
 */
static bool device_needs_sync(struct device *dev)
{
	if (!use_dma_iommu(dev) || !dev_is_dma_coherent(dev))
		return true;
	return dev_is_pci(dev) && to_pci_dev(dev)->untrusted;
}

/*
 * Would the DMA layer copy, or does it want to be told about CPU accesses?
 * Then a mapping that is kept would be stale after the first I/O.
 */
static bool attach_bounces(struct dmabuf_rw_attach *a)
{
	struct scatterlist *sg;
	unsigned int i;

	if (!device_needs_sync(a->dev))
		return false;
	for_each_sgtable_dma_sg(a->sgt, sg, i)
		if (dma_need_sync(a->dev, sg_dma_address(sg)))
			return true;
	return false;
}

static struct dmabuf_rw_result attach_check_segments(struct dmabuf_rw_attach *a)
{
	u64 sum = 0, smallest = U64_MAX, largest = 0;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(a->sgt, sg, i) {
		u64 length = sg_dma_len(sg);

		if (!length || ((sg_dma_address(sg) | length) & (DMABUF_RW_GRANULE - 1)))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_ALIGN);
		if (check_add_overflow(sum, length, &sum))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_SUM);
		smallest = min(smallest, length);
		largest = max(largest, length);
	}
	if (sum != a->dmabuf->size)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_SUM);
	if (attach_bounces(a))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_BOUNCE);

	a->segments = a->sgt->nents;
	a->smallest = smallest;
	a->largest = largest;
	return DMABUF_RW_OK;
}

/*
 * Memory that the CPU cannot be given is a device's own; EINVAL from mapping it
 * for a peer is what exporters say when the two cannot reach each other (see
 * dma_buf_phys_vec_to_sgt()), besides dma_map_sgtable()'s -EREMOTEIO.
 */
static bool attach_is_device_memory(const struct dmabuf_rw_attach *a)
{
	return !a->dmabuf->ops->vmap && !a->dmabuf->ops->mmap;
}

/* What an exporter's errno means to our caller. */
static struct dmabuf_rw_result attach_refusal(const struct dmabuf_rw_attach *a, long error,
					      u32 reason)
{
	if (error == -EINVAL && reason == DMABUF_RW_REASON_MAP && attach_is_device_memory(a))
		error = -EREMOTEIO;
	if (error == -EREMOTEIO)
		reason = DMABUF_RW_REASON_NO_P2P_ROUTE;
	return dmabuf_rw_refusal(error, reason);
}

/* Get addresses, write the lists, let I/O through. dma_resv held. */
static struct dmabuf_rw_result attach_map(struct dmabuf_rw_attach *a)
{
	ktime_t start = ktime_get();
	struct dmabuf_rw_result result;
	struct dmabuf_rw_mapping *m;
	struct sg_table *sgt;

	sgt = dma_buf_map_attachment(a->att, a->dir);
	if (IS_ERR(sgt))
		return attach_refusal(a, PTR_ERR(sgt), DMABUF_RW_REASON_MAP);
	a->sgt = sgt;
	a->mapped = true;
	result = attach_check_segments(a);
	if (result.error) {
		attach_unmap(a);
		return result;
	}
	dmabuf_rw_prp_fill(&a->prp, sgt);
	/* Found out when somebody asks, or before the addresses go. */
	a->classified = false;
	a->state = DMABUF_RW_STATE_LIVE;
	list_for_each_entry(m, &a->members, member) {
		if (m->killed && !m->dying) {
			reinit_completion(&m->drained);
			m->killed = false;
			percpu_ref_reinit(&m->io);
		}
	}
	a->map_ns += ktime_to_ns(ktime_sub(ktime_get(), start));
	return DMABUF_RW_OK;
}

/* First attach and map. a->setup held, dmabuf_rw_device_sem for reading. */
static struct dmabuf_rw_result attach_setup(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_result result;
	int ret;

	ret = dmabuf_rw_prp_alloc(&a->prp, a->dev, a->dmabuf->size);
	if (ret)
		return dmabuf_rw_fail(ret, DMABUF_RW_REASON_NO_MEMORY);
	a->att = dma_buf_dynamic_attach(a->dmabuf, a->dev, &attach_ops, a);
	if (IS_ERR(a->att)) {
		result = attach_refusal(a, PTR_ERR(a->att), DMABUF_RW_REASON_ATTACH);
		a->att = NULL;
		dmabuf_rw_prp_free(&a->prp);
		return result;
	}

	ret = dmabuf_rw_resv_lock(a->dmabuf);
	if (ret) {
		result = dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	} else {
		result = attach_map(a);
		dma_resv_unlock(a->dmabuf->resv);
	}
	if (result.error) {
		dma_buf_detach(a->dmabuf, a->att);
		a->att = NULL;
		dmabuf_rw_prp_free(&a->prp);
		return result;
	}
	a->ready = true;
	return DMABUF_RW_OK;
}

/* Everything that needs the device to have its driver. Device sem held. */
static void attach_dismantle(struct dmabuf_rw_attach *a, u32 state)
{
	mutex_lock(&a->setup);
	if (a->att) {
		dma_resv_lock(a->dmabuf->resv, NULL);
		a->state = state;
		attach_quiesce(a);
		if (state == DMABUF_RW_STATE_DEVICE_GONE)
			dmabuf_rw_attach_classify(a);
		attach_unmap(a);
		dma_resv_unlock(a->dmabuf->resv);
		dma_buf_detach(a->dmabuf, a->att);
		a->att = NULL;
		dmabuf_rw_prp_free(&a->prp);
	}
	a->state = state;
	a->ready = false;
	mutex_unlock(&a->setup);
}

static void attach_free(struct dmabuf_rw_attach *a)
{
	attach_dismantle(a, DMABUF_RW_STATE_REVOKED);
	WARN_ON_ONCE(!list_empty(&a->members));
	dma_buf_put(a->dmabuf);
	put_device(a->dev);
	mutex_destroy(&a->setup);
	kfree(a);
}

/* Drop a reference; true if it was the last, and @a is out of the cache. */
static bool attach_drop(struct dmabuf_rw_attach *a)
{
	if (!refcount_dec_and_mutex_lock(&a->refs, &dmabuf_rw_cache_lock))
		return false;
	list_del(&a->node);
	mutex_unlock(&dmabuf_rw_cache_lock);
	return true;
}

/**
 * dmabuf_rw_attach_put - drop a reference to an attachment
 * @a: the attachment; unmapped and detached with the last reference
 *
 * Context: may sleep; no lock of this module held.
 */
void dmabuf_rw_attach_put(struct dmabuf_rw_attach *a)
{
	down_read(&dmabuf_rw_device_sem);
	if (attach_drop(a))
		attach_free(a);
	up_read(&dmabuf_rw_device_sem);
}

/* The attachment of this pair, with a reference, perhaps not yet set up. */
static struct dmabuf_rw_attach *attach_find(struct dma_buf *dmabuf, struct device *dev)
{
	struct dmabuf_rw_attach *a;

	guard(mutex)(&dmabuf_rw_cache_lock);
	list_for_each_entry(a, &dmabuf_rw_cache, node)
		if (a->dmabuf == dmabuf && a->dev == dev &&
		    a->state != DMABUF_RW_STATE_DEVICE_GONE && refcount_inc_not_zero(&a->refs))
			return a;

	a = kzalloc_obj(*a, GFP_KERNEL_ACCOUNT);
	if (!a)
		return NULL;
	refcount_set(&a->refs, 1);
	get_dma_buf(dmabuf);
	a->dmabuf = dmabuf;
	a->dev = get_device(dev);
	mutex_init(&a->setup);
	INIT_LIST_HEAD(&a->members);
	/* A dma-buf that cannot be written stays so for the drive, too. */
	a->dir = (dmabuf->file->f_mode & FMODE_WRITE) ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
	a->state = DMABUF_RW_STATE_INVALIDATED;
	list_add(&a->node, &dmabuf_rw_cache);
	return a;
}

static bool device_departs(struct device *dev)
{
	struct departing *d;

	list_for_each_entry(d, &departing_devices, node)
		if (d->dev == dev)
			return true;
	return false;
}

/* Become a member; maps again if an invalidation came in between. */
static struct dmabuf_rw_result attach_add_member(struct dmabuf_rw_attach *a,
						 struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;

	if (dmabuf_rw_resv_lock(a->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	if (a->state != DMABUF_RW_STATE_LIVE)
		result = attach_map(a);
	if (!result.error) {
		list_add_tail(&m->member, &a->members);
		a->nr_members++;
	}
	dma_resv_unlock(a->dmabuf->resv);
	return result;
}

/**
 * dmabuf_rw_attach_join - attach a mapping's dma-buf to its target's device
 * @m: target found, @m->io alive; sets @m->attach
 * @dmabuf: the memory
 *
 * Uses the attachment that is there, or makes one.
 *
 * Context: may sleep; session lock not held; dmabuf_rw_device_sem not held.
 * Return: success, or an errno with the exporter's, the segments' or the
 * device's reason.
 */
struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_mapping *m,
					      struct dma_buf *dmabuf)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;
	struct dmabuf_rw_attach *a;

	if (dmabuf->size & (DMABUF_RW_GRANULE - 1))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_ALIGN);
	if (!dmabuf->size || dmabuf->size > DMABUF_RW_MAX_PREMAPPED)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);

	down_read(&dmabuf_rw_device_sem);
	if (device_departs(m->target.dma_dev)) {
		up_read(&dmabuf_rw_device_sem);
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	}
	a = attach_find(dmabuf, m->target.dma_dev);
	if (!a) {
		up_read(&dmabuf_rw_device_sem);
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	}

	mutex_lock(&a->setup);
	if (!a->ready)
		result = attach_setup(a);
	mutex_unlock(&a->setup);
	if (!result.error)
		result = attach_add_member(a, m);

	if (!result.error)
		m->attach = a;
	else if (attach_drop(a))
		attach_free(a);
	up_read(&dmabuf_rw_device_sem);
	return result;
}

/**
 * dmabuf_rw_io_stop - let no new I/O of a mapping begin
 * @m: takes READ and WRITE; already out of its session's table
 *
 * Does not wait, so that many can be stopped before one is waited for.
 *
 * Context: may sleep.
 */
void dmabuf_rw_io_stop(struct dmabuf_rw_mapping *m)
{
	if (!m->attach) {
		percpu_ref_kill(&m->io);
		return;
	}
	dma_resv_lock(m->dmabuf->resv, NULL);
	m->dying = true;
	if (!m->killed) {
		m->killed = true;
		percpu_ref_kill(&m->io);
	}
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_drain - wait for a mapping's I/O, and leave the attachment
 * @m: stopped with dmabuf_rw_io_stop()
 *
 * The reference to the attachment goes with the mapping itself.
 *
 * Context: may sleep, as long as the drive takes.
 */
void dmabuf_rw_io_drain(struct dmabuf_rw_mapping *m)
{
	mapping_drain(m);
	if (!m->attach)
		return;
	dma_resv_lock(m->dmabuf->resv, NULL);
	list_del(&m->member);
	m->attach->nr_members--;
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_revive - make sure a mapping's addresses are valid again
 * @m: its percpu_ref was found dead
 *
 * Context: may sleep; the caller holds m->refs and not m->io.
 * Return: success (another invalidation may already be on its way), -ENOENT if
 * the mapping is being unmapped, -ENODEV with REVOKED or DEVICE_GONE, -EINTR,
 * -ENOMEM.
 */
struct dmabuf_rw_result dmabuf_rw_io_revive(struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_attach *a = m->attach;
	struct dmabuf_rw_result result = DMABUF_RW_OK;

	/* Without an attachment nothing but UNMAP ends a mapping. */
	if (!a)
		return percpu_ref_is_dying(&m->io) ?
			dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE) : result;
	down_read(&dmabuf_rw_device_sem);
	if (dmabuf_rw_resv_lock(m->dmabuf)) {
		up_read(&dmabuf_rw_device_sem);
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	}
	if (m->dying) {
		result = dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	} else if (a->state == DMABUF_RW_STATE_DEVICE_GONE) {
		result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	} else if (a->state != DMABUF_RW_STATE_LIVE) {
		result = attach_map(a);
		if (result.error && result.error != -EINTR && result.error != -ENOMEM) {
			a->state = DMABUF_RW_STATE_REVOKED;
			result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
		}
	}
	dma_resv_unlock(m->dmabuf->resv);
	up_read(&dmabuf_rw_device_sem);
	return result;
}

/* The next attachment of @dev that still is one, with a reference. */
static struct dmabuf_rw_attach *attach_next_of(struct device *dev)
{
	struct dmabuf_rw_attach *a;

	guard(mutex)(&dmabuf_rw_cache_lock);
	list_for_each_entry(a, &dmabuf_rw_cache, node)
		if (a->dev == dev && READ_ONCE(a->state) != DMABUF_RW_STATE_DEVICE_GONE &&
		    refcount_inc_not_zero(&a->refs))
			return a;
	return NULL;
}

static void device_leaves(struct device *dev)
{
	struct dmabuf_rw_attach *a;
	struct departing *d;

	down_write(&dmabuf_rw_device_sem);
	d = kmalloc_obj(*d, GFP_KERNEL | __GFP_NOFAIL);
	d->dev = dev;
	list_add(&d->node, &departing_devices);
	while ((a = attach_next_of(dev))) {
		attach_dismantle(a, DMABUF_RW_STATE_DEVICE_GONE);
		if (attach_drop(a))
			attach_free(a);
	}
	up_write(&dmabuf_rw_device_sem);
}

static void device_has_left(struct device *dev)
{
	struct departing *d, *next;

	down_write(&dmabuf_rw_device_sem);
	list_for_each_entry_safe(d, next, &departing_devices, node) {
		if (d->dev == dev) {
			list_del(&d->node);
			kfree(d);
		}
	}
	up_write(&dmabuf_rw_device_sem);
}

/*
 * A driver leaves its PCI device: unbind, hot-unplug, module unload. Told
 * before the driver's remove() runs, so the drive can still end what is in
 * flight, and the addresses are taken back while it can.
 */
static int pci_event(struct notifier_block *nb, unsigned long event, void *data)
{
	switch (event) {
	case BUS_NOTIFY_UNBIND_DRIVER:
		device_leaves(data);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
	case BUS_NOTIFY_BIND_DRIVER:
	case BUS_NOTIFY_REMOVED_DEVICE:
		device_has_left(data);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block pci_notifier = { .notifier_call = pci_event };

/**
 * dmabuf_rw_attach_init - begin to watch the PCI bus
 *
 * Return: 0 or a negative errno.
 */
int dmabuf_rw_attach_init(void)
{
	return bus_register_notifier(&pci_bus_type, &pci_notifier);
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
	list_for_each_entry_safe(d, next, &departing_devices, node)
		kfree(d);
	WARN_ON(!list_empty(&dmabuf_rw_cache));
}

DMABUF_RW_IMPORT_NS(DMA_BUF);
