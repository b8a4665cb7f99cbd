/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the module share.
 *
 * Lock order, outermost first:
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
#ifndef DMABUF_RW_H
#define DMABUF_RW_H

#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "uapi/linux/dmabuf_rw.h"

#define DMABUF_RW_GRANULE_SHIFT	12		/* NVMe page, CC.MPS = 0 */
#define DMABUF_RW_GRANULE	BIT(DMABUF_RW_GRANULE_SHIFT)
#define DMABUF_RW_MAX_MAPPINGS	4096U		/* per session, a power of two */
#define DMABUF_RW_MAX_BATCH	1024U
#define DMABUF_RW_MAX_SESSIONS	1024U		/* per user */
#define DMABUF_RW_MAX_RW_FILES	4096U		/* per user */
#define DMABUF_RW_MAX_IO	((u64)MAX_RW_COUNT)
#define DMABUF_RW_MAX_PREMAPPED	BIT_ULL(40)	/* bytes of one dma-buf */
#define DMABUF_RW_MAX_REGISTERED ((u64)U32_MAX & PAGE_MASK)
#define DMABUF_RW_MAX_BVEC	BIT_ULL(40)
#define DMABUF_RW_MAX_RW_BUFFER	BIT_ULL(40)
#define DMABUF_RW_FENCE_MS	30000U		/* longest wait without CONFIG */
#define DMABUF_RW_MAX_TIMEOUT_MS 3600000U

struct io_uring_cmd;
struct io_comp_batch;
struct iov_iter;
struct nvme_command;
struct user_struct;

/* One 4 KiB page of PRP entries as CPU and drive see it. */
struct dmabuf_rw_prp_page {
	__le64 *cpu;
	dma_addr_t dma;
};

/* A piece of coherent memory that holds a few of them. */
struct dmabuf_rw_prp_block {
	void *cpu;
	dma_addr_t dma;
	size_t bytes;
};

/* PRP lists for a whole buffer, twice if need be, the second staggered; see prp.c. */
struct dmabuf_rw_prp {
	struct device *dev;
	u64 pages;
	unsigned int variants;
	struct dmabuf_rw_prp_page *list[2];	/* one array: the second lies behind the first */
	struct dmabuf_rw_prp_block *blocks;
	unsigned int nr_blocks;
};

/*
 * One dma-buf attached to one DMA device, shared by every mapping that needs
 * this pair, in whatever session or process.
 */
struct dmabuf_rw_attach {
	struct list_head node;		/* dmabuf_rw_cache_lock */
	refcount_t refs;
	struct dma_buf *dmabuf;		/* holds a reference */
	struct device *dev;		/* holds a reference */
	struct mutex setup;
	bool ready;			/* setup: attach and first map went well */
	enum dma_data_direction dir;
	struct dma_buf_attachment *att;

	/* The rest: under the dma-buf's dma_resv. */
	u32 state;			/* DMABUF_RW_STATE_* */
	bool mapped;
	struct sg_table *sgt;
	struct list_head members;	/* dmabuf_rw_mapping.member */
	u32 nr_members;
	struct dmabuf_rw_prp prp;
	bool classified;		/* the next two are of the present addresses */
	u32 memory;			/* DMABUF_RW_MEM_* */
	u32 route;			/* DMABUF_RW_ROUTE_* */
	u32 segments;
	u64 smallest;
	u64 largest;
	u64 invalidations;
	u64 map_ns;
};

/*
 * The pages of a dma-buf, for the registered and bvec paths. Outlives its
 * mapping while a ring's table holds it.
 */
struct dmabuf_rw_pages {
	refcount_t refs;
	struct dma_buf *dmabuf;		/* holds a reference */
	struct iosys_map map;		/* kept mapped: it is what pins the pages */
	struct bio_vec *bvecs;
	u32 *first_page;		/* of each bvec, counted from the buffer's start */
	unsigned int nr_bvecs;
	u64 smallest;
	u64 largest;
	u64 map_ns;
	atomic64_t registrations;
	atomic64_t registered;
	struct user_struct *user;	/* charged for @charged pages */
	unsigned long charged;
};

/* The NVMe namespace that commands go to. */
struct dmabuf_rw_target {
	struct file *file;		/* what user space opened; reference; all bvec has */
	struct block_device *bdev;	/* of @file: offsets and size are its */
	struct gendisk *disk;		/* a path disk or @bdev's; device reference */
	struct device *dma_dev;		/* the PCI function; reference */
	u32 nsid;
	u32 max_command;		/* bytes */
	u32 block_size;			/* logical, when the target was found; 0: no NVMe */
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
	struct dmabuf_rw_counts __percpu *counts;	/* in @counts_block */
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

struct dmabuf_rw_slot {
	struct dmabuf_rw_mapping __rcu *mapping;
	u32 generation;
};

/* One open of /dev/dmabuf_rw. */
struct dmabuf_rw_session {
	struct mutex lock;		/* slots, nr_mappings, next_slot */
	struct list_head node;		/* all sessions */
	struct user_struct *user;
	u32 id;				/* names the session in traces and debugfs */
	pid_t opener;			/* as the first PID namespace counts */
	u32 timeout_ms;
	u32 nr_mappings;
	u32 next_slot;
	struct dmabuf_rw_slot *slots;	/* DMABUF_RW_MAX_MAPPINGS of them */
};

/* An errno and the reason behind it. */
struct dmabuf_rw_result {
	int error;			/* 0 or negative */
	u32 reason;
};

#define DMABUF_RW_OK ((struct dmabuf_rw_result){ 0, DMABUF_RW_REASON_NONE })

static inline struct dmabuf_rw_result dmabuf_rw_fail(int error, u32 reason)
{
	return (struct dmabuf_rw_result){ error, reason };
}

/**
 * dmabuf_rw_refusal - what an exporter's errno means to our caller
 * @error: negative errno, as the exporter returned it
 * @reason: DMABUF_RW_REASON_* for an errno that says nothing in particular
 *
 * Return: an errno with its reason.
 */
static inline struct dmabuf_rw_result dmabuf_rw_refusal(long error, u32 reason)
{
	switch (error) {
	case -EINTR:
	case -ERESTARTSYS:
		return dmabuf_rw_fail(-EINTR, DMABUF_RW_REASON_INTERRUPTED);
	case -ENOMEM:
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	case -ENODEV:
		return dmabuf_rw_fail(-ENODEV, DMABUF_RW_REASON_REVOKED);
	default:
		return dmabuf_rw_fail(-EOPNOTSUPP, reason);
	}
}

/**
 * dmabuf_rw_fenced - must an access wait for a fence of the dma-buf?
 * @dmabuf: the memory
 * @overwrites: the access changes it, and waits for everybody; one that only
 *	looks waits for those who write
 *
 * Reading the pointer is enough when the buffer never had a fence, the usual
 * case for storage.
 *
 * Context: any.
 * Return: whether it must.
 */
static inline bool dmabuf_rw_fenced(const struct dma_buf *dmabuf, bool overwrites)
{
	struct dma_resv *resv = dmabuf->resv;

	if (likely(!rcu_access_pointer(resv->fences)))
		return false;
	return !dma_resv_test_signaled(resv, dma_resv_usage_rw(overwrites));
}

/* session.c */
int dmabuf_rw_open(struct inode *inode, struct file *file);
int dmabuf_rw_release(struct inode *inode, struct file *file);
long dmabuf_rw_ioctl_config(struct dmabuf_rw_session *session, void __user *arg);
struct dmabuf_rw_mapping *
dmabuf_rw_find_rcu(const struct dmabuf_rw_session *session, u32 handle);
struct dmabuf_rw_mapping *
dmabuf_rw_mapping_get(const struct dmabuf_rw_session *session, u32 handle);
void dmabuf_rw_mapping_put(struct dmabuf_rw_mapping *m);
struct dmabuf_rw_result dmabuf_rw_session_insert(struct dmabuf_rw_session *session,
						 struct dmabuf_rw_mapping *m);
struct dmabuf_rw_mapping *
dmabuf_rw_session_remove(struct dmabuf_rw_session *session, u32 handle);
void dmabuf_rw_unmap_all(struct list_head *doomed);
typedef void dmabuf_rw_session_fn(struct dmabuf_rw_session *session, void *data);
void dmabuf_rw_visit_sessions(dmabuf_rw_session_fn *fn, void *data);

/* map.c */
long dmabuf_rw_ioctl_map(struct dmabuf_rw_session *session, void __user *arg);
long dmabuf_rw_ioctl_unmap(struct dmabuf_rw_session *session, void __user *arg);

/* mapping.c */
struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_mapping *m,
					      struct dma_buf *dmabuf);
void dmabuf_rw_io_stop(struct dmabuf_rw_mapping *m);
void dmabuf_rw_io_drain(struct dmabuf_rw_mapping *m);
struct dmabuf_rw_result dmabuf_rw_io_revive(struct dmabuf_rw_mapping *m);
int dmabuf_rw_resv_lock(struct dma_buf *dmabuf);
struct dmabuf_rw_result dmabuf_rw_wait_fences(struct dma_buf *dmabuf, bool overwrites, u32 ms);
void dmabuf_rw_attach_put(struct dmabuf_rw_attach *a);
int dmabuf_rw_mapping_init(void);
void dmabuf_rw_mapping_exit(void);

/* memory.c */
int dmabuf_rw_charge(struct user_struct *user, u64 bytes, unsigned long *charged);
void dmabuf_rw_uncharge(struct user_struct *user, unsigned long charged);
void dmabuf_rw_classify(struct dmabuf_rw_attach *a);

/* cpu_view.c */
struct dmabuf_rw_view;
struct dmabuf_rw_result dmabuf_rw_view_get(struct dma_buf *dmabuf, struct dmabuf_rw_view **out);
void dmabuf_rw_view_put(struct dmabuf_rw_view *view);
struct dma_buf *dmabuf_rw_view_dmabuf(const struct dmabuf_rw_view *view);
bool dmabuf_rw_view_is_io(const struct dmabuf_rw_view *view);
ssize_t dmabuf_rw_view_move(struct dmabuf_rw_view *view, u64 position, struct iov_iter *iter,
			    bool write);
struct page *dmabuf_rw_view_page(void *address);
bool dmabuf_rw_view_repeats(struct page *previous, struct page *page);

/* rwfile.c */
long dmabuf_rw_ioctl_open(struct dmabuf_rw_session *session, void __user *arg);

/* prp.c */
int dmabuf_rw_prp_alloc(struct dmabuf_rw_prp *prp, struct device *dev, u64 bytes);
void dmabuf_rw_prp_free(struct dmabuf_rw_prp *prp);
void dmabuf_rw_prp_fill(struct dmabuf_rw_prp *prp, struct sg_table *sgt);
void dmabuf_rw_prp_get(const struct dmabuf_rw_prp *prp, u64 offset, u32 length,
		       __le64 *prp1, __le64 *prp2);

/* pages.c */
struct dmabuf_rw_result dmabuf_rw_pages_map(struct dmabuf_rw_mapping *m,
					    struct dma_buf *dmabuf);
void dmabuf_rw_pages_put(struct dmabuf_rw_pages *pages);
unsigned int dmabuf_rw_pages_find(const struct dmabuf_rw_pages *pages, u64 offset,
				  u64 *within);

/* registered.c */
bool dmabuf_rw_registered_available(void);
int dmabuf_rw_registered_issue(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_unregister_issue(struct io_uring_cmd *cmd, unsigned int issue_flags);
int dmabuf_rw_registered_init(void);
void dmabuf_rw_registered_exit(void);

/* target.c */
struct dmabuf_rw_result dmabuf_rw_target_modes(const struct file *file, u32 directions);
struct dmabuf_rw_result dmabuf_rw_target_nvme(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions,
					      u32 hint);
struct dmabuf_rw_result dmabuf_rw_target_file(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions);
void dmabuf_rw_target_copy(struct dmabuf_rw_target *to, const struct dmabuf_rw_target *from);
void dmabuf_rw_target_put(struct dmabuf_rw_target *target);
bool dmabuf_rw_target_reformatted(const struct dmabuf_rw_target *target);
#define DMABUF_RW_ALL_QUEUES U32_MAX
int dmabuf_rw_target_poll(const struct dmabuf_rw_target *target, struct io_comp_batch *iob,
			  u32 queue);
void dmabuf_rw_target_init_request(struct request *rq, struct nvme_command *command);
void dmabuf_rw_target_exit(void);

/* stats.c */
struct dmabuf_rw_counts_block *dmabuf_rw_counts_new(u32 nr);
void dmabuf_rw_counts_put(struct dmabuf_rw_counts_block *block);
int dmabuf_rw_info_fill(struct dmabuf_rw_info *info, struct dmabuf_rw_mapping *m);
long dmabuf_rw_ioctl_info(struct dmabuf_rw_session *session, void __user *arg);

/* debugfs.c */
void dmabuf_rw_debugfs_init(void);
void dmabuf_rw_debugfs_exit(void);

#endif /* DMABUF_RW_H */
