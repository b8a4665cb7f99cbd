/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A mapping: one dma-buf made ready for one target.
 *
 * Lock order of the module, outermost first:
 *
 *   dmabuf_rw_session.lock	handle table of one session
 *   dmabuf_rw_mapping.path_lock	another controller takes over; ending the mapping
 *   dmabuf_rw_attach.setup	first attach and map of one attachment; its end
 *   dmabuf_rw_view.setup		first vmap of one dma-buf's CPU view
 *   dma_resv of the dma-buf	state, table and member list of an attachment
 *   dmabuf_rw_attach.lock	who may do I/O: spinlock, also taken where a
 *				driver leaves its device, which waits for nobody
 *
 * Users of different drives share no lock while somebody waits for one of the
 * drives. These are leaves, held for a few instructions or a walk through a list:
 * the locks of the tables of attachments, of views, of the users of rw fds, of the
 * users whose I/O waits (later_user.c) and of sessions; and dmabuf_rw_view.busy,
 * under which memory is copied with page faults off.
 * io_uring calls us with the ring's lock held, which is further out than all.
 * The dma-buf framework calls our invalidate callback with the dma_resv held, so
 * nothing that holds it may take a lock further up, and nothing that an I/O in
 * flight needs in order to end takes any lock here.
 */
#ifndef DMABUF_RW_MAPPING_H
#define DMABUF_RW_MAPPING_H

#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>

#include "target.h"

struct dmabuf_rw_io_args;
struct dmabuf_rw_mapping;
struct io_uring_cmd;
struct cred;

typedef int dmabuf_rw_issue_fn(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_io_args *args, unsigned int issue_flags);

/*
 * What a datapath does with an I/O. Each counts it, and lets go of what is held
 * for it, however it ends.
 */
struct dmabuf_rw_path_ops {
	u32 path;			/* DMABUF_RW_PATH_* */
	/*
	 * From a ring that does not want to wait, m->io held. -EIOCBQUEUED: under
	 * way. -EAGAIN: something must be waited for. NULL: takes no I/O.
	 */
	dmabuf_rw_issue_fn *issue;
	/* From a worker, m->refs held for the time of the call. -EIOCBQUEUED or an error. */
	dmabuf_rw_issue_fn *send;
	/*
	 * What it asks of its target before an I/O. NULL: @send may be called by
	 * a worker that is not the caller's.
	 */
	struct dmabuf_rw_result (*clear)(struct dmabuf_rw_mapping *m,
					 const struct dmabuf_rw_io_args *args);
	/* The caller waits, m->refs held. Bytes moved in @moved. */
	struct dmabuf_rw_result (*run)(struct dmabuf_rw_mapping *m,
				       const struct dmabuf_rw_io_args *args, u64 *moved);
};

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
	u32 directions;
	const struct dmabuf_rw_path_ops *ops;	/* of its datapath */
	u64 size;			/* bytes of the dma-buf */
	u16 fua[2];			/* premapped: NVME_RW_FUA or 0; of a read, of a write */
	struct dma_buf *dmabuf;		/* borrowed from attach or pages */
	struct dmabuf_rw_attach *attach; /* premapped; dma_resv */
	struct dmabuf_rw_target target;	/* its path: dma_resv, or @io held */
	struct dmabuf_rw_counts __percpu *counts;	/* in @counts_block */
	/* Rarely used. */
	refcount_t refs;		/* keeps this memory, the target, the attachment */
	struct dmabuf_rw_counts_block *counts_block;
	struct rcu_head rcu;
	struct list_head member;	/* in attach->members, dma_resv */
	struct list_head doomed;	/* private list of the call that unmaps it */
	/* Of premapped. attach->lock: */
	bool killed;			/* @io was killed */
	bool dying;			/* being unmapped */
	bool suspended;			/* another path is being taken */
	struct completion drained;	/* @io reached zero */
	struct dmabuf_rw_pages *pages;	/* registered and bvec */
	u32 last_error;
	u32 last_reason;
	u32 last_status;		/* premapped: NVMe's, of the last command that failed */
	u32 wait_ms;			/* longest wait before an I/O is sent */
	struct mutex path_lock;		/* see failover.c */
	u64 path_changes;		/* dma_resv */
	const struct cred *cred;	/* its user is charged for @charged pages */
	unsigned long charged;
};

struct dmabuf_rw_counts_block *dmabuf_rw_counts_new(u32 nr);
void dmabuf_rw_counts_put(struct dmabuf_rw_counts_block *block);
void dmabuf_rw_mapping_put(struct dmabuf_rw_mapping *m);
void dmabuf_rw_unmap_all(struct list_head *doomed);

#endif /* DMABUF_RW_MAPPING_H */
