/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dmabuf_testexp: what the files of the module share.
 *
 * Lock order, outermost first:
 *
 *   mmap_lock			held by the page fault handler's caller
 *   testexp_buffer.mover_lock	starting and stopping the mover
 *   testexp_buffer.resv	memory, mappings, pins, everything marked "resv"
 *   testexp_buffer.lock	spinlock, a leaf: refusals and fences
 *
 * User memory is never touched under the dma_resv: a page fault takes mmap_lock.
 *
 * The dma-buf framework calls pin, unpin, map, unmap, vmap and vunmap with the
 * dma_resv held; attach, detach, release, begin and end of CPU access, and mmap
 * without it.
 */
#ifndef DMABUF_TESTEXP_H
#define DMABUF_TESTEXP_H

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "uapi/linux/dmabuf_testexp.h"

#define TESTEXP_GRANULE		4096U
#define TESTEXP_MAX_SEGMENT	(2U << 20)
#define TESTEXP_MAX_BUFFERS	256U
#define TESTEXP_MAX_QUARANTINE	64U
#define TESTEXP_MAX_DELAY_MS	3600000U
#define TESTEXP_MAX_INTERVAL_US	1000000U
#define TESTEXP_FENCE_MS	10000U		/* longest wait of a move by default */
#define TESTEXP_EXCHANGED	64U		/* CPU accesses while halves are exchanged */
#define TESTEXP_MAX_FENCES	65536U		/* of one FENCES_SIGNALLED */

/* A run of memory that is contiguous for the CPU: @bytes at @block + @skip. */
struct testexp_segment {
	void *block;
	size_t block_bytes;
	u32 skip;
	size_t bytes;
	u64 start;		/* where in the buffer it is */
};

/* The memory of a buffer between two moves. */
struct testexp_backing {
	struct list_head node;		/* testexp_buffer.quarantine; resv */
	unsigned int mappings;		/* resv */
	unsigned int vmaps;		/* resv */
	void *carved;			/* one block of the carve-out; NULL: pages */
	unsigned int nr;
	u64 pages;
	struct testexp_segment *segments;
};

/* How a buffer's memory is to be cut into segments. */
struct testexp_layout {
	u64 bytes;
	u32 flags;		/* DMABUF_TESTEXP_* */
	u32 segment_min;
	u32 segment_max;
	u32 misalign;
	u32 exchange_after;
	u32 step;	/* lengths of segments are multiples of it */
};

/* What one attachment got from map; @sgt is what the importer sees. */
struct testexp_mapping {
	struct sg_table sgt;
	struct list_head node;		/* testexp_buffer.mappings; resv */
	struct device *dev;
	enum dma_data_direction dir;
	struct testexp_backing *backing;
	dma_addr_t *addresses;		/* one for each segment of @backing */
};

/* A refusal that was asked for. */
struct testexp_refusal {
	u32 error;
	u32 after;
	u32 times;
};

struct testexp_buffer {
	struct kref refs;		/* the session's, the dma-buf's */
	struct testexp_layout layout;
	u32 max_quarantine;
	struct dma_resv resv;

	/* resv */
	struct dma_buf *dmabuf;		/* NULL once released */
	struct testexp_backing *backing;	/* NULL once released */
	struct testexp_backing *decoy;	/* what devices are led to; NULL: to the backing */
	struct list_head quarantine;	/* backings that were left, oldest first */
	u32 nr_quarantine;
	struct list_head mappings;
	u64 generation;			/* moves tried, seeds the layout */
	u64 seed;
	u32 pins;
	u32 vmaps;
	struct testexp_backing *vmapped;	/* what the kernel mapping shows */
	struct iosys_map held;		/* the session's kernel mapping, if it */
	bool holds;			/* has one: then also a reference to @dmabuf */
	struct dma_buf_attachment *held_att;	/* pins, for @held; or NULL */
	u32 cpu_begins[DMABUF_TESTEXP_NR_DIRS];
	u32 cpu_ends[DMABUF_TESTEXP_NR_DIRS];
	u32 cpu_accesses;	/* with EXCHANGE: of the present turn */
	bool exchanged;		/* new mappings take one half for the other */
	bool revoked;
	bool ended;			/* also mover_lock: the session let go of it */
	u64 maps;
	u64 unmaps;
	u64 moves;
	u64 moves_failed;
	u64 revokes;
	u64 lingering;
	u64 stray_words;
	u64 invalidate_ns;
	u64 invalidate_max_ns;

	spinlock_t lock;		/* what follows, up to the next lock */
	struct testexp_refusal refusals[DMABUF_TESTEXP_NR_OPS];
	u64 refused[DMABUF_TESTEXP_NR_OPS];
	u64 attaches;
	u64 detaches;
	struct list_head fences;
	u32 last_fence;

	struct mutex mover_lock;	/* what follows, up to the next comment */
	struct task_struct *mover;
	u32 mover_interval_us;
	u32 mover_flags;
	/* written by the mover while there is one */
	u64 mover_left;
};

/* carveout.c */
int testexp_carveout_init(void);
void testexp_carveout_exit(void);
bool testexp_carveout_there(void);
bool testexp_carveout_has_pages(void);
void *testexp_carveout_alloc(size_t bytes);
void testexp_carveout_free(void *address, size_t bytes);
phys_addr_t testexp_carveout_phys(const void *address);

/* backing.c */
extern u64 testexp_max_bytes;
int testexp_memory_reserve(u64 bytes);
void testexp_memory_unreserve(u64 bytes);
struct testexp_backing *testexp_backing_alloc(const struct testexp_layout *layout, u64 seed);
void testexp_backing_free(struct testexp_backing *backing);
unsigned int testexp_backing_segment(const struct testexp_backing *backing, u64 offset);
void *testexp_backing_at(const struct testexp_backing *backing, u64 offset, size_t *run);
phys_addr_t testexp_backing_phys(const struct testexp_backing *backing, const void *address);
void testexp_backing_copy(struct testexp_backing *to, const struct testexp_backing *from);
void testexp_backing_poison(struct testexp_backing *backing);
u64 testexp_backing_stray_words(const struct testexp_backing *backing);

/* refuse.c */
int testexp_refuse(struct testexp_buffer *buffer, u32 operation);
int testexp_refused(struct testexp_buffer *buffer, u32 operation, int error);
int testexp_buffer_fail(struct testexp_buffer *buffer, const struct dmabuf_testexp_fail *fail);

/* quarantine.c */
void testexp_quarantine_trim(struct testexp_buffer *buffer, u32 keep);

/* sync.c */
struct testexp_backing *testexp_contents(const struct testexp_buffer *buffer);
void testexp_sync_for_cpu(struct testexp_buffer *buffer, enum dma_data_direction dir);
void testexp_sync_for_device(struct testexp_buffer *buffer, enum dma_data_direction dir);

/* hold.c */
int testexp_hold(struct testexp_buffer *buffer, const struct dmabuf_testexp_vmap *vmap,
		 struct device *dev);
int testexp_let_go(struct testexp_buffer *buffer);
int testexp_held_copy(struct testexp_buffer *buffer, u64 offset, void *chunk, size_t bytes,
		      bool write);

/* stats.c */
int testexp_buffer_stats(struct testexp_buffer *buffer, struct dmabuf_testexp_stats *stats);

/* buffer.c */
extern atomic_t testexp_live_buffers;
struct testexp_buffer *testexp_buffer_create(const struct dmabuf_testexp_create *create);
void testexp_buffer_put(struct testexp_buffer *buffer);
void testexp_buffer_end_session(struct testexp_buffer *buffer);

/* map.c */
struct sg_table *testexp_map(struct dma_buf_attachment *att, enum dma_data_direction dir);
void testexp_unmap(struct dma_buf_attachment *att, struct sg_table *sgt,
		   enum dma_data_direction dir);

/* cpu.c */
int testexp_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma);
int testexp_vmap(struct dma_buf *dmabuf, struct iosys_map *map);
void testexp_vunmap(struct dma_buf *dmabuf, struct iosys_map *map);
int testexp_begin_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir);
int testexp_end_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir);
int testexp_access(struct testexp_buffer *buffer, const struct dmabuf_testexp_access *access,
		   bool write);

/* move.c */
int testexp_move(struct testexp_buffer *buffer, u32 timeout_ms, bool revoke,
		 u64 *invalidate_ns);
int testexp_unrevoke(struct testexp_buffer *buffer);
int testexp_exchange(struct testexp_buffer *buffer);
int testexp_mover_start(struct testexp_buffer *buffer, const struct dmabuf_testexp_mover *start);
void testexp_mover_stop(struct testexp_buffer *buffer);

/* fence.c */
int testexp_fence_add(struct testexp_buffer *buffer, struct dmabuf_testexp_fence *add);
int testexp_fence_signal(struct testexp_buffer *buffer, u32 id, u32 *signalled);
int testexp_fences_signalled(struct testexp_buffer *buffer,
			     const struct dmabuf_testexp_fences *add);
u32 testexp_fence_pending(struct testexp_buffer *buffer);

#endif /* DMABUF_TESTEXP_H */
