// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fences that signal after a while, or when told. Every one is signalled when
 * the session or the buffer ends, so nobody waits for ever because of us.
 *
 * A fence may outlive its buffer, in a sync file for example, and needs our
 * code to be freed: each holds a reference to the module.
 */
#include <linux/dma-fence.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/timer.h>

#include "compat.h"
#include "testexp.h"

struct testexp_fence {
	struct dma_fence base;
	spinlock_t lock;		/* dma_fence's */
	struct timer_list timer;	/* uses the list's reference */
	struct list_head node;		/* testexp_buffer.fences; holds a reference */
	u32 id;
	u32 usage;			/* DMABUF_TESTEXP_USAGE_* */
	bool followed;			/* another is added just before it signals */
};

static const char *fence_name(struct dma_fence *fence)
{
	return "dmabuf_testexp";
}

static void fence_free(struct rcu_head *rcu)
{
	struct dma_fence *fence = container_of(rcu, struct dma_fence, rcu);

	kfree(container_of(fence, struct testexp_fence, base));
	/* The module's exit waits for the end of this function: rcu_barrier(). */
	module_put(THIS_MODULE);
}

static void fence_release(struct dma_fence *fence)
{
	call_rcu(&fence->rcu, fence_free);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
	.release = fence_release,
};

static void fence_due(struct timer_list *timer)
{
	struct testexp_fence *fence = container_of(timer, struct testexp_fence, timer);

	dma_fence_signal(&fence->base);
}

/* Signal, if it has not, and drop the list's reference. Off the list. */
static void fence_end(struct testexp_fence *fence)
{
	timer_shutdown_sync(&fence->timer);
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
}

/* Take fences off the list that @id names, or with 0 all, or the signalled ones. */
static u32 fences_collect(struct testexp_buffer *buffer, u32 id, bool signalled,
			  struct list_head *out)
{
	struct testexp_fence *fence, *next;
	u32 pending = 0;

	spin_lock(&buffer->lock);
	list_for_each_entry_safe(fence, next, &buffer->fences, node) {
		bool done = test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->base.flags);

		if (signalled ? !done : id && fence->id != id)
			continue;
		pending += !done;
		list_move(&fence->node, out);
	}
	spin_unlock(&buffer->lock);
	return pending;
}

static void fences_end(struct list_head *fences)
{
	struct testexp_fence *fence, *next;

	list_for_each_entry_safe(fence, next, fences, node) {
		list_del(&fence->node);
		fence_end(fence);
	}
}

/* The framework's name for a usage of ours. */
static enum dma_resv_usage usage_of(u32 usage)
{
	switch (usage) {
	case DMABUF_TESTEXP_USAGE_KERNEL:
		return DMA_RESV_USAGE_KERNEL;
	case DMABUF_TESTEXP_USAGE_WRITE:
		return DMA_RESV_USAGE_WRITE;
	case DMABUF_TESTEXP_USAGE_READ:
		return DMA_RESV_USAGE_READ;
	default:
		return DMA_RESV_USAGE_BOOKKEEP;
	}
}

/* A fence that nobody knows yet. Returns NULL when there is no memory. */
static struct testexp_fence *fence_new(u32 usage, u32 error)
{
	struct testexp_fence *fence = kzalloc_obj(*fence, GFP_KERNEL_ACCOUNT);

	if (!fence)
		return NULL;
	__module_get(THIS_MODULE);
	spin_lock_init(&fence->lock);
	INIT_LIST_HEAD(&fence->node);
	fence->usage = usage;
	timer_setup(&fence->timer, fence_due, 0);
	dma_fence_init(&fence->base, &fence_ops, &fence->lock, dma_fence_context_alloc(1), 1);
	if (error)
		dma_fence_set_error(&fence->base, -(int)error);
	return fence;
}

/* The list gets a reference of its own. dma_resv held. */
static int fence_publish(struct testexp_buffer *buffer, struct testexp_fence *fence)
{
	int ret;

	if (!buffer->dmabuf || buffer->ended)
		ret = -ENXIO;
	else
		ret = dma_resv_reserve_fences(&buffer->resv, 1);
	if (!ret) {
		dma_resv_add_fence(&buffer->resv, &fence->base, usage_of(fence->usage));
		/* Under the dma_resv, so that release finds it. */
		spin_lock(&buffer->lock);
		fence->id = ++buffer->last_fence ?: ++buffer->last_fence;
		list_add_tail(&fence->node, &buffer->fences);
		dma_fence_get(&fence->base);
		spin_unlock(&buffer->lock);
	}
	return ret;
}

/**
 * testexp_fence_add - FENCE_ADD
 * @buffer: gets the fence
 * @add: what kind, checked here; its number is stored there
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EINVAL, -ENOMEM, -EINTR, -ENXIO when the dma-buf is gone.
 */
int testexp_fence_add(struct testexp_buffer *buffer, struct dmabuf_testexp_fence *add)
{
	bool never = add->flags & DMABUF_TESTEXP_FENCE_NEVER;
	bool followed = add->flags & DMABUF_TESTEXP_FENCE_FOLLOWED;
	struct testexp_fence *fence;
	LIST_HEAD(signalled);
	int ret;

	if (add->flags & ~(DMABUF_TESTEXP_FENCE_NEVER | DMABUF_TESTEXP_FENCE_FOLLOWED))
		return -EINVAL;
	if (add->usage > DMABUF_TESTEXP_USAGE_BOOKKEEP || add->error > MAX_ERRNO ||
	    add->delay_ms > TESTEXP_MAX_DELAY_MS || (never && add->delay_ms) ||
	    (followed && !never))
		return -EINVAL;
	fences_collect(buffer, 0, true, &signalled);
	fences_end(&signalled);

	fence = fence_new(add->usage, add->error);
	if (!fence)
		return -ENOMEM;
	fence->followed = followed;
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (!ret) {
		ret = fence_publish(buffer, fence);
		dma_resv_unlock(&buffer->resv);
	}
	if (ret) {
		fence_end(fence);
		return ret;
	}
	add->fence = fence->id;
	/* If it was told to signal by now, this does nothing: the timer is shut down. */
	if (!never)
		mod_timer(&fence->timer, jiffies + msecs_to_jiffies(add->delay_ms));
	dma_fence_put(&fence->base);
	return 0;
}

/*
 * Adds what follows each fence that has a follower: before that one signals, so that
 * a task that waited for it and looks again finds the other.
 */
static void fences_follow(struct testexp_buffer *buffer, struct list_head *fences)
{
	struct testexp_fence *fence, *follower;
	int ret;

	list_for_each_entry(fence, fences, node) {
		if (!fence->followed)
			continue;
		follower = fence_new(fence->usage, 0);
		if (!follower)
			continue;
		dma_resv_lock(&buffer->resv, NULL);
		ret = fence_publish(buffer, follower);
		dma_resv_unlock(&buffer->resv);
		if (ret)
			fence_end(follower);
		else
			dma_fence_put(&follower->base);
	}
}

/**
 * testexp_fence_signal - signal one fence, or all
 * @buffer: has them
 * @id: which, 0 for all
 * @signalled: out: how many that had not signalled
 *
 * Context: may sleep; no spinlock held.
 * Return: 0, or -ENOENT if @id names none that has not signalled.
 */
int testexp_fence_signal(struct testexp_buffer *buffer, u32 id, u32 *signalled)
{
	LIST_HEAD(fences);

	*signalled = fences_collect(buffer, id, false, &fences);
	fences_follow(buffer, &fences);
	fences_end(&fences);
	return id && !*signalled ? -ENOENT : 0;
}

/* Fences of one call. dma_resv held; the caller drops one reference of each. */
static int fences_publish(struct testexp_buffer *buffer, struct list_head *fences, u32 count)
{
	struct testexp_fence *fence;
	int ret;

	if (!buffer->dmabuf || buffer->ended)
		return -ENXIO;
	ret = dma_resv_reserve_fences(&buffer->resv, count);
	if (ret)
		return ret;
	/* One that had signalled would make way for the next: they signal when all are there. */
	list_for_each_entry(fence, fences, node)
		dma_resv_add_fence(&buffer->resv, &fence->base, usage_of(fence->usage));
	list_for_each_entry(fence, fences, node)
		dma_fence_signal(&fence->base);
	return 0;
}

/**
 * testexp_fences_signalled - FENCES_SIGNALLED
 * @buffer: gets the fences
 * @add: how many, checked here
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EINVAL, -ENOMEM, -EINTR, -ENXIO when the dma-buf is gone.
 */
int testexp_fences_signalled(struct testexp_buffer *buffer,
			     const struct dmabuf_testexp_fences *add)
{
	struct testexp_fence *fence;
	LIST_HEAD(fences);
	int ret = 0;
	u32 i;

	if (add->flags || add->usage > DMABUF_TESTEXP_USAGE_BOOKKEEP || !add->count ||
	    add->count > TESTEXP_MAX_FENCES)
		return -EINVAL;
	for (i = 0; i < add->count && !ret; i++) {
		fence = fence_new(add->usage, 0);
		if (fence)
			list_add_tail(&fence->node, &fences);
		else
			ret = -ENOMEM;
		cond_resched();
	}
	if (!ret)
		ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (!ret) {
		ret = fences_publish(buffer, &fences, add->count);
		dma_resv_unlock(&buffer->resv);
	}
	fences_end(&fences);
	return ret;
}

/**
 * testexp_fence_pending - count fences that have not signalled
 * @buffer: has them
 *
 * Context: any that may take a spinlock.
 * Return: how many.
 */
u32 testexp_fence_pending(struct testexp_buffer *buffer)
{
	struct testexp_fence *fence;
	u32 pending = 0;

	spin_lock(&buffer->lock);
	list_for_each_entry(fence, &buffer->fences, node)
		pending += !test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->base.flags);
	spin_unlock(&buffer->lock);
	return pending;
}
