// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers: made, attached to, refused, counted, released.
 */
#include <linux/fcntl.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "compat.h"
#include "testexp.h"

#define CREATE_FLAGS (DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_NO_CPU | DMABUF_TESTEXP_NO_PAGES | \
		      DMABUF_TESTEXP_NEED_INVALIDATE | DMABUF_TESTEXP_READ_ONLY | \
		      DMABUF_TESTEXP_IO_VIEW | DMABUF_TESTEXP_LOOSE_VMAP | \
		      DMABUF_TESTEXP_CARVEOUT | UNTRUE_FLAGS | DECOY_FLAGS | MISLEAD_FLAGS)
#define LOSE_FLAGS (DMABUF_TESTEXP_LOSE_WRITES | DMABUF_TESTEXP_STALE_READS)
#define DECOY_FLAGS (LOSE_FLAGS | DMABUF_TESTEXP_SHADOW)
#define MISLEAD_FLAGS (DMABUF_TESTEXP_SHIFT_SEGMENTS | DMABUF_TESTEXP_EXCHANGE)
#define MISALIGN_FLAGS (DMABUF_TESTEXP_MISALIGN_START | DMABUF_TESTEXP_MISALIGN_LENGTH)
#define SEG_4G_FLAGS (DMABUF_TESTEXP_SEG_4G | DMABUF_TESTEXP_SEG_4G_ZERO)
#define UNTRUE_FLAGS (MISALIGN_FLAGS | SEG_4G_FLAGS | DMABUF_TESTEXP_SUM_SHORT | \
		      DMABUF_TESTEXP_SUM_LONG)

atomic_t testexp_live_buffers;

/* Is the importer fit for what this buffer is? */
static int attach_fits(const struct testexp_buffer *buffer, const struct dma_buf_attachment *att)
{
	if (READ_ONCE(buffer->revoked))
		return -ENODEV;
	if ((buffer->layout.flags & DMABUF_TESTEXP_NO_PAGES) && !att->peer2peer)
		return -EOPNOTSUPP;
	if ((buffer->layout.flags & DMABUF_TESTEXP_NEED_INVALIDATE) && !testexp_can_be_told(att))
		return -EOPNOTSUPP;
	return 0;
}

static int testexp_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *att)
{
	struct testexp_buffer *buffer = dmabuf->priv;
	int ret;

	ret = testexp_refuse(buffer, DMABUF_TESTEXP_OP_ATTACH);
	if (ret)
		return ret;
	ret = attach_fits(buffer, att);
	if (ret)
		return testexp_refused(buffer, DMABUF_TESTEXP_OP_ATTACH, ret);
	spin_lock(&buffer->lock);
	buffer->attaches++;
	spin_unlock(&buffer->lock);
	return 0;
}

static void testexp_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *att)
{
	struct testexp_buffer *buffer = dmabuf->priv;

	spin_lock(&buffer->lock);
	buffer->detaches++;
	spin_unlock(&buffer->lock);
}

static int testexp_pin(struct dma_buf_attachment *att)
{
	struct testexp_buffer *buffer = att->dmabuf->priv;
	int ret;

	dma_resv_assert_held(&buffer->resv);
	ret = testexp_refuse(buffer, DMABUF_TESTEXP_OP_PIN);
	if (ret)
		return ret;
	if (buffer->revoked)
		return testexp_refused(buffer, DMABUF_TESTEXP_OP_PIN, -ENODEV);
	buffer->pins++;
	return 0;
}

static void testexp_unpin(struct dma_buf_attachment *att)
{
	struct testexp_buffer *buffer = att->dmabuf->priv;

	dma_resv_assert_held(&buffer->resv);
	WARN_ON_ONCE(!buffer->pins);
	buffer->pins--;
}

static void buffer_free(struct kref *refs)
{
	struct testexp_buffer *buffer = container_of(refs, struct testexp_buffer, refs);

	WARN_ON(buffer->mover || !list_empty(&buffer->fences) || !list_empty(&buffer->mappings));
	dma_resv_fini(&buffer->resv);
	mutex_destroy(&buffer->mover_lock);
	kfree(buffer);
}

/**
 * testexp_buffer_put - drop a reference
 * @buffer: freed with the last one
 *
 * Context: may sleep.
 */
void testexp_buffer_put(struct testexp_buffer *buffer)
{
	kref_put(&buffer->refs, buffer_free);
}

/* What a buffer may need at most: its memory, the next, a decoy, and what is kept. */
static u64 memory_limit(const struct testexp_buffer *buffer)
{
	u32 decoys = buffer->layout.flags & DECOY_FLAGS ? 1 : 0;
	/* What is left under a kernel mapping stays until that is gone. */
	u32 left = buffer->layout.flags & DMABUF_TESTEXP_LOOSE_VMAP ? 1 : 0;

	return buffer->layout.bytes * (2 + decoys + left + buffer->max_quarantine);
}

static void testexp_release(struct dma_buf *dmabuf)
{
	struct testexp_buffer *buffer = dmabuf->priv;
	struct testexp_backing *backing;
	u32 signalled;

	dma_resv_lock(&buffer->resv, NULL);
	backing = buffer->backing;
	buffer->backing = NULL;
	buffer->dmabuf = NULL;
	testexp_quarantine_trim(buffer, 0);
	dma_resv_unlock(&buffer->resv);

	testexp_backing_free(backing);
	if (buffer->decoy)
		testexp_backing_free(buffer->decoy);
	testexp_memory_unreserve(memory_limit(buffer));
	testexp_fence_signal(buffer, 0, &signalled);
	atomic_dec(&testexp_live_buffers);
	testexp_buffer_put(buffer);
}

#define COMMON_OPS					\
	.attach = testexp_attach,			\
	.detach = testexp_detach,			\
	.map_dma_buf = testexp_map,			\
	.unmap_dma_buf = testexp_unmap,			\
	.begin_cpu_access = testexp_begin_cpu,		\
	.end_cpu_access = testexp_end_cpu,		\
	.release = testexp_release

#define CPU_OPS						\
	.mmap = testexp_mmap,				\
	.vmap = testexp_vmap,				\
	.vunmap = testexp_vunmap

#define DYNAMIC_OPS					\
	.pin = testexp_pin,				\
	.unpin = testexp_unpin

static const struct dma_buf_ops static_ops = { COMMON_OPS };
static const struct dma_buf_ops static_cpu_ops = { COMMON_OPS, CPU_OPS };
static const struct dma_buf_ops dynamic_ops = { COMMON_OPS, DYNAMIC_OPS };
static const struct dma_buf_ops dynamic_cpu_ops = { COMMON_OPS, CPU_OPS, DYNAMIC_OPS };

/* The framework goes by which functions there are. */
static const struct dma_buf_ops *ops_for(u32 flags)
{
	bool cpu = !(flags & DMABUF_TESTEXP_NO_CPU);

	if (flags & DMABUF_TESTEXP_DYNAMIC)
		return cpu ? &dynamic_cpu_ops : &dynamic_ops;
	return cpu ? &static_cpu_ops : &static_ops;
}

/* Flags that lead devices elsewhere: what they need of the rest. */
static int mislead_check(const struct testexp_layout *layout)
{
	u32 flags = layout->flags;

	/* A decoy stays where it is; lengths that lie would not fit it. */
	if ((flags & DECOY_FLAGS) && (flags & (UNTRUE_FLAGS | DMABUF_TESTEXP_DYNAMIC)))
		return -EINVAL;
	if ((flags & MISLEAD_FLAGS) && (flags & (UNTRUE_FLAGS | DECOY_FLAGS)))
		return -EINVAL;
	/* A second segment, and a page in it that can be taken for another. */
	if ((flags & DMABUF_TESTEXP_SHIFT_SEGMENTS) &&
	    (layout->segment_min < 2 * TESTEXP_GRANULE ||
	     layout->bytes < layout->segment_max + 2 * TESTEXP_GRANULE))
		return -EINVAL;
	/* The number and its flag come together. */
	if (!!(flags & DMABUF_TESTEXP_EXCHANGE) != !!layout->exchange_after)
		return -EINVAL;
	if (!(flags & DMABUF_TESTEXP_EXCHANGE))
		return 0;
	if (!(flags & DMABUF_TESTEXP_DYNAMIC) || layout->bytes < 2 * TESTEXP_GRANULE)
		return -EINVAL;
	return TESTEXP_CAN_MOVE ? 0 : -EOPNOTSUPP;
}

/* Flags about the CPU's views and where the memory is: what they need of the rest. */
static int place_check(u32 flags)
{
	const u32 views = DMABUF_TESTEXP_IO_VIEW | DMABUF_TESTEXP_LOOSE_VMAP |
			  DMABUF_TESTEXP_SHADOW;

	if ((flags & views) && (flags & DMABUF_TESTEXP_NO_CPU))
		return -EINVAL;
	if ((flags & DMABUF_TESTEXP_LOOSE_VMAP) && !(flags & DMABUF_TESTEXP_DYNAMIC))
		return -EINVAL;
	if ((flags & DMABUF_TESTEXP_SHADOW) && (flags & LOSE_FLAGS))
		return -EINVAL;
	if (!(flags & DMABUF_TESTEXP_CARVEOUT))
		return 0;
	if (!(flags & DMABUF_TESTEXP_NO_PAGES) ||
	    (flags & (UNTRUE_FLAGS | DECOY_FLAGS | MISLEAD_FLAGS)))
		return -EINVAL;
	return testexp_carveout_there() ? 0 : -EOPNOTSUPP;
}

static int create_check(const struct dmabuf_testexp_create *create, struct testexp_layout *layout)
{
	u32 flags = create->flags;
	int ret;

	if ((flags & ~CREATE_FLAGS) || create->reserved32 || create->reserved)
		return -EINVAL;
	*layout = (struct testexp_layout){
		.bytes = create->bytes,
		.flags = flags,
		.segment_min = create->segment_min ?: TESTEXP_GRANULE,
		.misalign = create->misalign,
		.exchange_after = create->exchange_after,
	};
	layout->segment_max = create->segment_max ?: layout->segment_min;
	if (!layout->bytes || layout->bytes % TESTEXP_GRANULE)
		return -EINVAL;
	if (layout->segment_min % TESTEXP_GRANULE || layout->segment_max % TESTEXP_GRANULE ||
	    layout->segment_min > layout->segment_max ||
	    layout->segment_max > TESTEXP_MAX_SEGMENT)
		return -EINVAL;
	if (create->quarantine > TESTEXP_MAX_QUARANTINE)
		return -EINVAL;
	layout->step = TESTEXP_GRANULE;
	/* The CPU's views are made of pages, and the segments of whole ones then. */
	if (!(flags & DMABUF_TESTEXP_NO_CPU)) {
		if (!PAGE_ALIGNED(layout->bytes))
			return -EINVAL;
		layout->step = PAGE_SIZE;
		layout->segment_min = PAGE_ALIGN(layout->segment_min);
		layout->segment_max = PAGE_ALIGN(layout->segment_max);
	}
	if (layout->misalign >= TESTEXP_GRANULE)
		return -EINVAL;
	/* The number and a flag that uses it come together. */
	if (!!(flags & MISALIGN_FLAGS) != !!layout->misalign)
		return -EINVAL;
	/* To be unequal there must be two. */
	if ((flags & DMABUF_TESTEXP_MISALIGN_LENGTH) && layout->segment_max >= layout->bytes)
		return -EINVAL;
	if ((flags & UNTRUE_FLAGS) && !(flags & DMABUF_TESTEXP_NO_CPU))
		return -EINVAL;
	ret = place_check(flags);
	if (ret)
		return ret;
	ret = mislead_check(layout);
	if (ret)
		return ret;
	if (hweight32(flags & (DMABUF_TESTEXP_SUM_SHORT | DMABUF_TESTEXP_SUM_LONG)) > 1 ||
	    hweight32(flags & SEG_4G_FLAGS) > 1)
		return -EINVAL;
	if (layout->bytes > testexp_max_bytes)
		return -ENOMEM;
	return 0;
}

static struct dma_buf *buffer_export(struct testexp_buffer *buffer)
{
	u32 flags = buffer->layout.flags;
	DEFINE_DMA_BUF_EXPORT_INFO(info);

	info.ops = ops_for(flags);
	info.size = buffer->layout.bytes;
	if (flags & SEG_4G_FLAGS)
		info.size += SZ_4G;
	info.flags = flags & DMABUF_TESTEXP_READ_ONLY ? O_RDONLY : O_RDWR;
	info.resv = &buffer->resv;
	info.priv = buffer;
	return dma_buf_export(&info);
}

/**
 * testexp_buffer_create - make a buffer and its dma-buf
 * @create: what kind, checked here
 *
 * Context: may sleep.
 * Return: the buffer, with one reference for the caller and one that belongs to
 * @buffer->dmabuf, whose only reference is the caller's as well; or an ERR_PTR:
 * -EINVAL, -ENOMEM, -EOPNOTSUPP.
 */
struct testexp_buffer *testexp_buffer_create(const struct dmabuf_testexp_create *create)
{
	struct testexp_buffer *buffer;
	struct dma_buf *dmabuf;
	int ret;

	buffer = kzalloc_obj(*buffer, GFP_KERNEL_ACCOUNT);
	if (!buffer)
		return ERR_PTR(-ENOMEM);
	ret = create_check(create, &buffer->layout);
	if (ret)
		goto free;
	buffer->max_quarantine = create->quarantine;
	buffer->seed = create->seed;
	kref_init(&buffer->refs);
	dma_resv_init(&buffer->resv);
	spin_lock_init(&buffer->lock);
	mutex_init(&buffer->mover_lock);
	INIT_LIST_HEAD(&buffer->quarantine);
	INIT_LIST_HEAD(&buffer->mappings);
	INIT_LIST_HEAD(&buffer->fences);

	ret = testexp_memory_reserve(memory_limit(buffer));
	if (ret)
		goto fini;
	buffer->backing = testexp_backing_alloc(&buffer->layout, buffer->seed);
	if (IS_ERR(buffer->backing)) {
		ret = PTR_ERR(buffer->backing);
		goto unreserve;
	}
	if (buffer->layout.flags & DECOY_FLAGS) {
		buffer->decoy = testexp_backing_alloc(&buffer->layout, buffer->seed);
		if (IS_ERR(buffer->decoy)) {
			ret = PTR_ERR(buffer->decoy);
			goto free_backing;
		}
	}
	dmabuf = buffer_export(buffer);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto free_decoy;
	}
	kref_get(&buffer->refs);
	buffer->dmabuf = dmabuf;
	atomic_inc(&testexp_live_buffers);
	return buffer;

free_decoy:
	if (buffer->decoy)
		testexp_backing_free(buffer->decoy);
free_backing:
	testexp_backing_free(buffer->backing);
unreserve:
	testexp_memory_unreserve(memory_limit(buffer));
fini:
	dma_resv_fini(&buffer->resv);
	mutex_destroy(&buffer->mover_lock);
free:
	kfree(buffer);
	return ERR_PTR(ret);
}

/**
 * testexp_buffer_end_session - end everything a session started
 * @buffer: the session has no id for it any more
 *
 * The session's reference is dropped. A dma-buf that is still in use stays, as
 * an ordinary one.
 *
 * Context: may sleep; no lock held.
 */
void testexp_buffer_end_session(struct testexp_buffer *buffer)
{
	u32 signalled;

	/* An ioctl of another thread may still hold @buffer. */
	mutex_lock(&buffer->mover_lock);
	dma_resv_lock(&buffer->resv, NULL);
	buffer->ended = true;
	dma_resv_unlock(&buffer->resv);
	mutex_unlock(&buffer->mover_lock);

	testexp_mover_stop(buffer);
	spin_lock(&buffer->lock);
	memset(buffer->refusals, 0, sizeof(buffer->refusals));
	spin_unlock(&buffer->lock);
	testexp_fence_signal(buffer, 0, &signalled);
	testexp_let_go(buffer);
	testexp_buffer_put(buffer);
}

TESTEXP_IMPORT_NS(DMA_BUF);
