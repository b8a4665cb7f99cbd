// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a mapping, except its making (map.c): its counts, its end.
 */
#include <linux/percpu.h>
#include <linux/cred.h>
#include <linux/slab.h>

#include "compat.h"
#include "attach.h"
#include "gate.h"
#include "mapping.h"
#include "member.h"
#include "pages.h"
#include "trace.h"

/**
 * dmabuf_rw_counts_new - counts for a few mappings
 * @nr: how many, at most DMABUF_RW_COUNTS_BLOCK
 *
 * Return: the block with one reference, or NULL.
 */
struct dmabuf_rw_counts_block *dmabuf_rw_counts_new(u32 nr)
{
	struct dmabuf_rw_counts_block *block = kmalloc_obj(*block, GFP_KERNEL_ACCOUNT);

	if (!block)
		return NULL;
	block->counts = __alloc_percpu_gfp(array_size(nr, sizeof(struct dmabuf_rw_counts)),
					   __alignof__(struct dmabuf_rw_counts),
					   GFP_KERNEL_ACCOUNT);
	if (!block->counts) {
		kfree(block);
		return NULL;
	}
	refcount_set(&block->refs, 1);
	return block;
}

/**
 * dmabuf_rw_counts_put - drop a reference to a block of counts
 * @block: freed with the last one; or NULL
 */
void dmabuf_rw_counts_put(struct dmabuf_rw_counts_block *block)
{
	if (!block || !refcount_dec_and_test(&block->refs))
		return;
	free_percpu(block->counts);
	kfree(block);
}

/* After the last look at it by way of RCU, polling among them. */
static void mapping_free(struct rcu_head *rcu)
{
	struct dmabuf_rw_mapping *m = container_of(rcu, struct dmabuf_rw_mapping, rcu);

	if (m->ops && m->ops->issue)
		percpu_ref_exit(&m->io);
	kfree(m);
}

/**
 * dmabuf_rw_mapping_put - drop a reference to a mapping
 * @m: freed with the last one, the target and the attachment with it
 *
 * Context: may sleep; no lock of this module held.
 */
void dmabuf_rw_mapping_put(struct dmabuf_rw_mapping *m)
{
	if (!refcount_dec_and_test(&m->refs))
		return;
	if (m->attach)
		dmabuf_rw_attach_put(m->attach);
	if (m->pages)
		dmabuf_rw_pages_put(m->pages);
	dmabuf_rw_target_put(&m->target);
	dmabuf_rw_uncharge(m->cred->user, m->charged);
	put_cred(m->cred);
	dmabuf_rw_counts_put(m->counts_block);
	mutex_destroy(&m->path_lock);
	call_rcu(&m->rcu, mapping_free);
}

/* Wait for the I/O of a mapping that was stopped. */
static void mapping_drain(struct dmabuf_rw_mapping *m)
{
	/* A search for another path finds out that it is being unmapped. */
	guard(mutex)(&m->path_lock);
	dmabuf_rw_gate_drain(m);
	if (m->attach)
		dmabuf_rw_attach_leave(m);
}

/**
 * dmabuf_rw_unmap_all - end mappings
 * @doomed: list of mappings that are in no table; empty afterwards
 *
 * Stops all, then waits for all: what waiting costs is paid once.
 *
 * Context: may sleep, as long as I/O in flight takes.
 */
void dmabuf_rw_unmap_all(struct list_head *doomed)
{
	struct dmabuf_rw_mapping *m, *next;

	list_for_each_entry(m, doomed, doomed)
		if (m->ops->issue)
			dmabuf_rw_io_stop(m);
	list_for_each_entry_safe(m, next, doomed, doomed) {
		if (m->ops->issue)
			mapping_drain(m);
		list_del(&m->doomed);
		trace_dmabuf_rw_unmap(m->session, m->handle);
		dmabuf_rw_mapping_put(m);
	}
}
