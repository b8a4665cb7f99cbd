/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attachments: one per (dma-buf, DMA device); see attach.c.
 */
#ifndef DMABUF_RW_ATTACH_H
#define DMABUF_RW_ATTACH_H

#include <linux/dma-buf.h>
#include <linux/mutex.h>
#include <linux/refcount.h>

#include "memory.h"
#include "prp.h"
#include "result.h"

struct dmabuf_rw_mapping;

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
	bool classified;		/* @place is of the present addresses */
	struct dmabuf_rw_place place;
	u32 segments;
	u64 smallest;
	u64 largest;
	u64 invalidations;
	u64 map_ns;
};

struct dmabuf_rw_result dmabuf_rw_attach_join(struct dmabuf_rw_mapping *m,
					      struct dma_buf *dmabuf);
void dmabuf_rw_attach_put(struct dmabuf_rw_attach *a);
void dmabuf_rw_attach_classify(struct dmabuf_rw_attach *a);
void dmabuf_rw_io_stop(struct dmabuf_rw_mapping *m);
void dmabuf_rw_io_drain(struct dmabuf_rw_mapping *m);
struct dmabuf_rw_result dmabuf_rw_io_revive(struct dmabuf_rw_mapping *m);
int dmabuf_rw_attach_init(void);
void dmabuf_rw_attach_exit(void);

#endif /* DMABUF_RW_ATTACH_H */
