/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A mapping: one dma-buf made ready for one target.
 *
 * Lock order of the module, outermost first:
 *
 *   dmabuf_rw_session.lock	handle table of one session
 *   dmabuf_rw_device_sem	read: attaching, mapping, mapping again, detaching;
 *				write: a PCI device is losing its driver
 *   dmabuf_rw_attach.setup	first attach and map of one attachment
 *   dmabuf_rw_view.setup		first vmap of one dma-buf's CPU view
 *   dma_resv of the dma-buf	state, table and member list of an attachment
 *
 * Leaves: dmabuf_rw_cache_lock (list of attachments), the locks of the list of
 * views and of the users of rw fds, and dmabuf_rw_view.busy, under which memory
 * is copied with page faults off. dmabuf_rw_sessions_lock is outermost: who reads
 * debugfs holds it and looks at all sessions. io_uring calls us with the ring's
 * lock held, which is further out than all but that. The dma-buf framework calls
 * our invalidate callback with the dma_resv held, so nothing that holds it may
 * take a lock further up, and nothing that an I/O in flight needs in order to
 * end takes any lock here.
 */
#ifndef DMABUF_RW_MAPPING_H
#define DMABUF_RW_MAPPING_H

#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/list.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>

#include "target.h"

struct user_struct;

/* Per-CPU, so that I/O on one mapping from many CPUs shares no cache line. */
struct dmabuf_rw_counts {
	u64 reads;
	u64 writes;
	u64 read_bytes;
	u64 write_bytes;
	u64 commands;
	u64 errors;
	u64 deferred;
};

/* The counts of a few mappings of one call: they are dear to allocate. */
#define DMABUF_RW_COUNTS_BLOCK	8
struct dmabuf_rw_counts_block {
	refcount_t refs;
	struct dmabuf_rw_counts __percpu *counts;	/* DMABUF_RW_COUNTS_BLOCK of them at most */
};

/* One dma-buf made ready for one target. */
struct dmabuf_rw_mapping {
	/* Read by every I/O. */
	struct percpu_ref io;		/* held by each I/O in flight */
	u32 handle;
	u32 session;			/* dmabuf_rw_session.id */
	u32 path;
	u32 directions;
	u32 timeout;			/* jiffies, 0: the queue's */
	u64 size;			/* bytes of the dma-buf */
	struct dma_buf *dmabuf;		/* borrowed from attach or pages */
	struct dmabuf_rw_attach *attach; /* premapped */
	struct dmabuf_rw_target target;
	struct dmabuf_rw_counts __percpu *counts;	/* in @counts_block */
	/* Rarely used. */
	refcount_t refs;		/* keeps this memory, the target, the attachment */
	struct dmabuf_rw_counts_block *counts_block;
	struct rcu_head rcu;
	struct list_head member;	/* in attach->members, dma_resv */
	struct list_head doomed;	/* private list of whoever unmaps it */
	bool killed;			/* dma_resv: @io was killed */
	bool dying;			/* dma_resv: being unmapped */
	struct completion drained;	/* @io reached zero */
	struct dmabuf_rw_pages *pages;	/* registered and bvec */
	u32 last_error;
	u32 last_reason;
	u32 fence_ms;
	struct user_struct *user;	/* charged for @charged pages */
	unsigned long charged;
};

struct dmabuf_rw_counts_block *dmabuf_rw_counts_new(u32 nr);
void dmabuf_rw_counts_put(struct dmabuf_rw_counts_block *block);
void dmabuf_rw_mapping_put(struct dmabuf_rw_mapping *m);
void dmabuf_rw_unmap_all(struct list_head *doomed);

#endif /* DMABUF_RW_MAPPING_H */
