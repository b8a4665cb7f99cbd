// SPDX-License-Identifier: GPL-2.0-only
/*
 * The addresses of an attachment: getting them from the exporter, making sure of
 * them, writing them into PRP lists, and giving them back. attach.c has the
 * rules that all of it keeps to.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/ktime.h>
#include <linux/pci.h>

#include "compat.h"
#include "addresses.h"
#include "attach.h"
#include "fence.h"
#include "gate.h"
#include "limits.h"
#include "mapping.h"
#include "trace.h"

/* Segments that are looked at to find out where memory is: an exporter waits, or none does. */
#define SAMPLE_SEGMENTS	1024U
#define MOST_SEGMENTS	65536U

/**
 * dmabuf_rw_attach_close - let no new I/O of any member begin
 * @a: does not wait for what is in flight
 *
 * Context: any that may take @a->lock.
 */
void dmabuf_rw_attach_close(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_mapping *m;

	spin_lock(&a->lock);
	list_for_each_entry(m, &a->members, member)
		dmabuf_rw_gate_close(m);
	spin_unlock(&a->lock);
}

/* No new I/O, and none in flight, on any member. dma_resv held. */
static void attach_quiesce(struct dmabuf_rw_attach *a)
{
	struct dmabuf_rw_mapping *m;

	/* Kill all before waiting for any: the grace periods overlap. */
	dmabuf_rw_attach_close(a);
	list_for_each_entry(m, &a->members, member)
		dmabuf_rw_gate_drain(m);
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
	if (!dmabuf_rw_dma_iommu(dev) || !dev_is_dma_coherent(dev))
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

/**
 * dmabuf_rw_attach_map - get addresses, write the lists, let I/O through
 * @a: not mapped
 *
 * Context: may sleep; dma_resv held.
 * Return: success, or an errno with the exporter's or the segments' reason;
 * -ENODEV with DEVICE_GONE, and the addresses may be there all the same.
 */
struct dmabuf_rw_result dmabuf_rw_attach_map(struct dmabuf_rw_attach *a)
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
				dmabuf_rw_gate_open(m);
		}
	}
	a->map_ns += ktime_to_ns(ktime_sub(ktime_get(), start));
	return result;
}

/**
 * dmabuf_rw_attach_setup - attach to the dma-buf and map it, for the first time
 * @a: in the table; nothing is left of it on failure
 *
 * Context: may sleep; @a->setup held.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_attach_setup(struct dmabuf_rw_attach *a)
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
		result = dmabuf_rw_attach_map(a);
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

/**
 * dmabuf_rw_attach_dismantle - undo what needs the device to have its driver
 * @a: done once, however often it is called; takes @a->setup
 *
 * Context: may sleep, as long as I/O in flight takes.
 */
void dmabuf_rw_attach_dismantle(struct dmabuf_rw_attach *a)
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

DMABUF_RW_IMPORT_NS(DMA_BUF);
