/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attachments: one per (dma-buf, DMA device); see attach.c.
 */
#ifndef DMABUF_RW_ATTACH_H
#define DMABUF_RW_ATTACH_H

#include <linux/dma-buf.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "memory.h"
#include "prp.h"
#include "result.h"

/*
 * One dma-buf attached to one DMA device, shared by every mapping that needs
 * this pair, in any session or process.
 */
struct dmabuf_rw_attach {
	struct hlist_node node;		/* attachments, attachments_lock */
	refcount_t refs;		/* keeps this memory; see users */
	u32 users;			/* attachments_lock; at 0 it is being taken apart */
	bool left;			/* attachments_lock: the device's driver is gone */
	struct dma_buf *dmabuf;		/* holds a reference */
	struct device *dev;		/* holds a reference */
	struct work_struct reap;	/* polls for I/O that only ends when polled for */

	struct mutex setup;		/* first attach and map, and taking apart */
	bool ready;			/* setup: attach and first map went well */
	enum dma_data_direction dir;
	struct dma_buf_attachment *att;

	spinlock_t lock;		/* who may do I/O: gone, and of members killed, dying */
	bool gone;			/* lock: the device loses its driver */
	struct list_head members;	/* dmabuf_rw_mapping.member; changed under dma_resv
					 * and lock, so either is enough to look
					 */

	/* The rest: under the dma-buf's dma_resv. */
	u32 nr_members;
	u32 state;			/* DMABUF_RW_STATE_* except DEVICE_GONE, see gone */
	bool mapped;
	struct sg_table *sgt;
	struct dmabuf_rw_prp prp;
	bool classified;		/* @place is of the present addresses */
	struct dmabuf_rw_place place;
	u32 segments;
	u64 smallest;
	u64 largest;
	u64 invalidations;
	u64 map_ns;
};

struct dmabuf_rw_result dmabuf_rw_attach_get(struct dma_buf *dmabuf, struct device *dev,
					     struct dmabuf_rw_attach **out);
void dmabuf_rw_attach_put(struct dmabuf_rw_attach *a);
int dmabuf_rw_attach_init(void);
void dmabuf_rw_attach_exit(void);

#endif /* DMABUF_RW_ATTACH_H */
