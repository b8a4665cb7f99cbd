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
 * waits for us: who holds a percpu_ref is with the drive, or is about to give
 * the drive a request that is allocated already. It takes no lock and waits for
 * nothing but the drive, and for that no longer than the driver's time-out.
 *
 * A driver leaves its device in two steps. Before its remove() runs we only
 * stop: no lock is taken that somebody sleeps with, nothing is waited for, as a
 * drive that was pulled out answers nothing until remove() gives up on it. When
 * remove() has ended all I/O, and before anybody else gets the device, the
 * addresses are given back.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/hashtable.h>
#include <linux/iommu-dma.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "compat.h"
#include "attach.h"
#include "fence.h"
#include "limits.h"
#include "mapping.h"
#include "nvme_driver.h"
#include "nvme_proof.h"
#include "trace.h"

/* Segments that are looked at to find out where memory is: an exporter waits, or none does. */
#define SAMPLE_SEGMENTS	1024U
#define MOST_SEGMENTS	65536U

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

/* Let no new I/O of a member begin. a->lock held. */
static void member_kill(struct dmabuf_rw_mapping *m)
{
	if (m->killed)
		return;
	m->killed = true;
	percpu_ref_kill(&m->io);
}

/* Let the I/O of a member through again. dma_resv and a->lock held. */
static void member_revive(struct dmabuf_rw_mapping *m)
{
	if (!m->killed || m->dying || m->suspended)
		return;
	reinit_completion(&m->drained);
	m->killed = false;
	percpu_ref_reinit(&m->io);
}

/*
 * Wait until a mapping whose percpu_ref was killed has no I/O in flight. The
 * time the drive takes is the bound; the driver's time-out is the drive's.
 */
static void member_drain(struct dmabuf_rw_mapping *m)
{
	while (!wait_for_completion_timeout(&m->drained, msecs_to_jiffies(10)))
		if (m->attach)
			dmabuf_rw_target_poll(&m->target, NULL, DMABUF_RW_ALL_QUEUES);
}

static void attach_kill(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_mapping *m;

	spin_lock(&a->lock);
	list_for_each_entry(m, &a->members, member)
		member_kill(m);
	spin_unlock(&a->lock);
}

/* No new I/O, and none in flight, on any member. dma_resv held. */
static void attach_quiesce(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_mapping *m;

	/* Kill all before waiting for any: the grace periods overlap. */
	attach_kill(a);
	list_for_each_entry(m, &a->members, member)
		member_drain(m);
}

/* Unless it is known already; by @most segments of a mapped buffer. dma_resv held. */
static void attach_look(struct dmabuf_rw_attach *a, unsigned int most)
{
	if (!a->mapped || a->classified)
		return;
	a->place = dmabuf_rw_classify(a->dev, a->sgt, most);
	a->classified = true;
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
	attach_look(a, MOST_SEGMENTS);
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
	attach_look(a, SAMPLE_SEGMENTS);
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

	if (!a->att || READ_ONCE(a->gone))
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
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
	scoped_guard(spinlock, &a->lock) {
		if (a->gone) {
			result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
		} else {
			list_for_each_entry(m, &a->members, member)
				member_revive(m);
		}
	}
	a->map_ns += ktime_to_ns(ktime_sub(ktime_get(), start));
	return result;
}

/* First attach and map. a->setup held. */
static struct dmabuf_rw_result attach_setup(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_result result;
	int ret;

	if (READ_ONCE(a->gone))
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
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
		if (result.error)
			attach_unmap(a);
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

/* Everything that needs the device to have its driver, once. */
static void attach_dismantle(struct dmabuf_rw_attach *a)
{
	struct dma_buf_attachment *att;

	guard(mutex)(&a->setup);
	if (a->att) {
		dma_resv_lock(a->dmabuf->resv, NULL);
		attach_quiesce(a);
		/* INFO tells of a mapping whose drive is gone where its memory was. */
		if (READ_ONCE(a->gone))
			attach_look(a, SAMPLE_SEGMENTS);
		attach_unmap(a);
		if (a->state == DMABUF_RW_STATE_LIVE)
			a->state = DMABUF_RW_STATE_INVALIDATED;
		att = a->att;
		a->att = NULL;
		dma_resv_unlock(a->dmabuf->resv);
		dma_buf_detach(a->dmabuf, att);
		dmabuf_rw_prp_free(&a->prp);
	}
	a->ready = false;
}

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
	attach_dismantle(a);
	mutex_lock(&attachments_lock);
	hash_del(&a->node);
	mutex_unlock(&attachments_lock);
	attach_ref_put(a);
}

/*
 * Polled requests end only when somebody looks, and whoever issued them may
 * sleep. Looks until the driver has left: its remove() waits for them.
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
	if (dev->dma_range_map && !use_dma_iommu(dev))
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
		result = attach_setup(a);
	mutex_unlock(&a->setup);
	if (result.error)
		dmabuf_rw_attach_put(a);
	else
		*out = a;
	return result;
}

/* Become a member of @a, in which I/O is allowed then. dma_resv held. */
static struct dmabuf_rw_result attach_add(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result = DMABUF_RW_OK;

	/* An invalidation may have come in between. */
	if (a->state != DMABUF_RW_STATE_LIVE || !a->mapped)
		result = attach_map(a);
	if (result.error)
		return result;
	spin_lock(&a->lock);
	if (a->gone) {
		result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	} else {
		list_add_tail(&m->member, &a->members);
		a->nr_members++;
		m->attach = a;
	}
	spin_unlock(&a->lock);
	return result;
}

/* Stop being a member. dma_resv held, no I/O in flight. */
static void attach_remove(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	guard(spinlock)(&a->lock);
	list_del(&m->member);
	a->nr_members--;
}

/**
 * dmabuf_rw_attach_join - become one of an attachment's mappings
 * @a: from dmabuf_rw_attach_get(); stays the caller's on failure
 * @m: target found, @m->io alive; sets @m->attach
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_attach *a,
					      struct dmabuf_rw_mapping *m)
{
	struct dmabuf_rw_result result;

	if (dmabuf_rw_resv_lock(a->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	result = attach_add(a, m);
	dma_resv_unlock(a->dmabuf->resv);
	return result;
}

/* End a suspension. dma_resv held, no I/O in flight. */
static void attach_resume(struct dmabuf_rw_attach *a, struct dmabuf_rw_mapping *m)
{
	spin_lock(&a->lock);
	m->suspended = false;
	if (!a->gone && a->state == DMABUF_RW_STATE_LIVE && a->mapped)
		member_revive(m);
	spin_unlock(&a->lock);
}

/**
 * dmabuf_rw_attach_change - go on with another attachment of the same dma-buf
 * @m: suspended and drained; who changes it keeps others from that
 * @to: from dmabuf_rw_attach_get(); on success @m's
 * @target: the path that @to belongs to; on success @m has its references
 *
 * What @m had before is let go of.
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason, and nothing has changed.
 */
struct dmabuf_rw_result dmabuf_rw_attach_change(struct dmabuf_rw_mapping *m,
						struct dmabuf_rw_attach *to,
						const struct dmabuf_rw_target *target)
{
	struct dmabuf_rw_attach *from = m->attach;
	struct dmabuf_rw_target old = m->target;
	struct dmabuf_rw_result result;

	if (dmabuf_rw_resv_lock(m->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	attach_remove(from, m);
	m->target = *target;
	result = attach_add(to, m);
	if (result.error) {
		m->target = old;
		scoped_guard(spinlock, &from->lock) {
			list_add_tail(&m->member, &from->members);
			from->nr_members++;
		}
	} else {
		m->path_changes++;
		attach_resume(to, m);
	}
	dma_resv_unlock(m->dmabuf->resv);
	if (!result.error) {
		dmabuf_rw_target_put(&old);
		dmabuf_rw_attach_put(from);
	}
	return result;
}

/**
 * dmabuf_rw_io_stop - let no new I/O of a mapping begin, for good
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
	scoped_guard(spinlock, &m->attach->lock) {
		m->dying = true;
		member_kill(m);
	}
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_suspend - let no new I/O of a mapping begin for now
 * @m: premapped
 *
 * Mapping the memory again does not revive it; dmabuf_rw_attach_change() does.
 *
 * Context: may sleep.
 * Return: false if the mapping is being unmapped.
 */
bool dmabuf_rw_io_suspend(struct dmabuf_rw_mapping *m)
{
	bool alive;

	dma_resv_lock(m->dmabuf->resv, NULL);
	scoped_guard(spinlock, &m->attach->lock) {
		alive = !m->dying;
		m->suspended = true;
		member_kill(m);
	}
	dma_resv_unlock(m->dmabuf->resv);
	return alive;
}

/**
 * dmabuf_rw_io_resume - undo dmabuf_rw_io_suspend()
 * @m: suspended and drained
 *
 * Context: may sleep.
 */
void dmabuf_rw_io_resume(struct dmabuf_rw_mapping *m)
{
	dma_resv_lock(m->dmabuf->resv, NULL);
	attach_resume(m->attach, m);
	dma_resv_unlock(m->dmabuf->resv);
}

/**
 * dmabuf_rw_io_drain - wait for a mapping's I/O
 * @m: stopped or suspended
 *
 * Context: may sleep, as long as the drive takes.
 */
void dmabuf_rw_io_drain(struct dmabuf_rw_mapping *m)
{
	member_drain(m);
}

/**
 * dmabuf_rw_attach_leave - take a mapping out of its attachment
 * @m: premapped, stopped and drained; its use of the attachment goes with itself
 *
 * Context: may sleep.
 */
void dmabuf_rw_attach_leave(struct dmabuf_rw_mapping *m)
{
	dma_resv_lock(m->dmabuf->resv, NULL);
	attach_remove(m->attach, m);
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
	struct dmabuf_rw_result result = DMABUF_RW_OK;
	struct dmabuf_rw_attach *a;

	/* Without an attachment nothing but UNMAP ends a mapping. */
	if (!m->attach)
		return percpu_ref_is_dying(&m->io) ?
			dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE) : result;
	if (dmabuf_rw_resv_lock(m->dmabuf))
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	a = m->attach;
	if (m->dying) {
		result = dmabuf_rw_fail(-ENOENT, DMABUF_RW_REASON_HANDLE);
	} else if (READ_ONCE(a->gone)) {
		result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_DEVICE_GONE);
	} else if (a->state != DMABUF_RW_STATE_LIVE) {
		result = attach_map(a);
		if (result.error && result.error != -EINTR && result.error != -ENOMEM &&
		    result.reason != DMABUF_RW_REASON_DEVICE_GONE) {
			a->state = DMABUF_RW_STATE_REVOKED;
			result = dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
		}
	}
	dma_resv_unlock(m->dmabuf->resv);
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
		attach_kill(a);
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
		attach_dismantle(a);
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

DMABUF_RW_IMPORT_NS(DMA_BUF);
