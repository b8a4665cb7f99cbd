/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The struct pages behind a dma-buf; see pages.c.
 */
#ifndef DMABUF_RW_PAGES_H
#define DMABUF_RW_PAGES_H

#include <linux/bvec.h>
#include <linux/dma-buf.h>
#include <linux/iosys-map.h>
#include <linux/refcount.h>

#include "pin.h"
#include "result.h"

struct cred;

/*
 * The pages of a dma-buf, for the registered and bvec paths. Outlives its
 * mapping while a ring's table holds it.
 */
struct dmabuf_rw_pages {
	refcount_t refs;
	struct dma_buf *dmabuf;		/* holds a reference */
	struct dmabuf_rw_pin pin;	/* keeps the pages where they are */
	struct iosys_map map;		/* where they were found */
	struct bio_vec *bvecs;
	u32 *first_page;		/* of each bvec, counted from the buffer's start */
	unsigned int nr_bvecs;
	unsigned int even_shift;	/* all bvecs but the last have 1 << this bytes; 0: not so */
	u64 smallest;
	u64 largest;
	u64 map_ns;
	atomic64_t registrations;
	atomic64_t registered;
	const struct cred *cred;	/* its user is charged for @charged pages */
	unsigned long charged;
};

struct dmabuf_rw_result dmabuf_rw_pages_map(struct dma_buf *dmabuf, const struct cred *cred,
					    struct dmabuf_rw_pages **out);
void dmabuf_rw_pages_put(struct dmabuf_rw_pages *pages);
unsigned int dmabuf_rw_pages_find(const struct dmabuf_rw_pages *pages, u64 offset,
				  u64 *within);

#endif /* DMABUF_RW_PAGES_H */
