/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PRP lists for a whole buffer; see prp.c.
 */
#ifndef DMABUF_RW_PRP_H
#define DMABUF_RW_PRP_H

#include <linux/scatterlist.h>
#include <linux/types.h>

struct device;

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

/* PRP lists for a whole buffer, twice if need be, the second staggered. */
struct dmabuf_rw_prp {
	struct device *dev;
	u64 pages;
	unsigned int variants;
	struct dmabuf_rw_prp_page *list[2];	/* one array: the second lies behind the first */
	struct dmabuf_rw_prp_block *blocks;
	unsigned int nr_blocks;
};

int dmabuf_rw_prp_alloc(struct dmabuf_rw_prp *prp, struct device *dev, u64 bytes);
void dmabuf_rw_prp_free(struct dmabuf_rw_prp *prp);
void dmabuf_rw_prp_fill(struct dmabuf_rw_prp *prp, struct sg_table *sgt);
void dmabuf_rw_prp_get(const struct dmabuf_rw_prp *prp, u64 offset, u32 length,
		       __le64 *prp1, __le64 *prp2);

#endif /* DMABUF_RW_PRP_H */
