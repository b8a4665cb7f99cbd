/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PRP lists for a whole buffer; see prp.c. Finding a place in them, which every
 * command does, is inline here.
 */
#ifndef DMABUF_RW_PRP_H
#define DMABUF_RW_PRP_H

#include <linux/nospec.h>
#include <linux/scatterlist.h>
#include <linux/types.h>

#include "limits.h"

struct device;

#define PRP_SLOTS	511U		/* data slots in a list page */
#define PRP_STAGGER	256U

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

/*
 * A position divided by PRP_SLOTS is its product with this, shifted: a multiplication
 * where the compiler, who has to do it for all of 32 bits, makes seven instructions. The
 * reciprocal is too large by less than 2^-40, which must not add up to the next
 * multiple, 1 / PRP_SLOTS away.
 */
#define PRP_RECIPROCAL_SHIFT	40
#define PRP_RECIPROCAL		(BIT_ULL(PRP_RECIPROCAL_SHIFT) / PRP_SLOTS + 1)
#define PRP_MOST_POSITIONS	((DMABUF_RW_MAX_PREMAPPED >> DMABUF_RW_GRANULE_SHIFT) + PRP_STAGGER)
static_assert(PRP_MOST_POSITIONS <= U32_MAX);
static_assert(PRP_MOST_POSITIONS * PRP_SLOTS < BIT_ULL(PRP_RECIPROCAL_SHIFT));

/* Where page @index is in the lists of @variant. */
static __always_inline struct dmabuf_rw_prp_page *
prp_find(const struct dmabuf_rw_prp *prp, unsigned int variant, u32 index, unsigned int *slot)
{
	u32 position = index + variant * PRP_STAGGER;
	u32 list = position * PRP_RECIPROCAL >> PRP_RECIPROCAL_SHIFT;

	*slot = position - list * PRP_SLOTS;
	return &prp->list[variant][list];
}

/**
 * dmabuf_rw_prp_get - the two PRP words for a part of the buffer
 * @prp: filled
 * @offset: bytes from the buffer's start
 * @length: bytes, not 0; @offset + @length is inside the buffer
 * @prp1: first word
 * @prp2: second word
 *
 * Context: any. Constant time whatever the length.
 */
static __always_inline void
dmabuf_rw_prp_get(const struct dmabuf_rw_prp *prp, u64 offset, u32 length, __le64 *prp1,
		  __le64 *prp2)
{
	u64 first = offset >> DMABUF_RW_GRANULE_SHIFT;
	u32 within = offset & (DMABUF_RW_GRANULE - 1);
	u32 pages = ((u64)within + length + DMABUF_RW_GRANULE - 1) >> DMABUF_RW_GRANULE_SHIFT;
	struct dmabuf_rw_prp_page *list;
	unsigned int slot;

	/* The caller has checked it; so that it holds under speculation, too. */
	first = array_index_nospec(first, prp->pages);
	list = prp_find(prp, 0, first, &slot);
	*prp1 = cpu_to_le64(le64_to_cpu(list->cpu[slot]) + within);
	if (pages == 1) {
		*prp2 = 0;
		return;
	}

	list = prp_find(prp, 0, first + 1, &slot);
	if (pages == 2) {
		*prp2 = list->cpu[slot];
		return;
	}
	if ((slot + pages - 1) % PRP_SLOTS == 1)
		list = prp_find(prp, 1, first + 1, &slot);
	*prp2 = cpu_to_le64(list->dma + slot * sizeof(__le64));
}

#endif /* DMABUF_RW_PRP_H */
