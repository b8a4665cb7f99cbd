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

/*
 * One 4 KiB page of PRP entries as CPU and drive see it: each address less the entries
 * before this page, so that an entry is found by its position in the lists, and by no
 * remainder.
 */
struct dmabuf_rw_prp_page {
	unsigned long cpu;
	u64 dma;
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
 * reciprocal is too large by less than 2^-39, which must not add up to the next
 * multiple, 1 / PRP_SLOTS away. It has 31 bits, which an instruction of x86 can hold.
 */
#define PRP_RECIPROCAL_SHIFT	39
#define PRP_RECIPROCAL		(BIT_ULL(PRP_RECIPROCAL_SHIFT) / PRP_SLOTS + 1)
#define PRP_MOST_POSITIONS	((DMABUF_RW_MAX_PREMAPPED >> DMABUF_RW_GRANULE_SHIFT) + PRP_STAGGER)
static_assert(PRP_RECIPROCAL <= S32_MAX);
static_assert(PRP_MOST_POSITIONS * PRP_SLOTS < BIT_ULL(PRP_RECIPROCAL_SHIFT));

/* The page of the lists of @variant in which @position is. */
static __always_inline struct dmabuf_rw_prp_page *
prp_find(const struct dmabuf_rw_prp *prp, unsigned int variant, u64 position)
{
	return &prp->list[variant][position * PRP_RECIPROCAL >> PRP_RECIPROCAL_SHIFT];
}

/* The entry at @position, which is in @page. */
static __always_inline __le64 *prp_entry(const struct dmabuf_rw_prp_page *page, u64 position)
{
	return (__le64 *)(page->cpu + position * sizeof(__le64));
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
	u64 position = offset >> DMABUF_RW_GRANULE_SHIFT;
	u64 within = offset & (DMABUF_RW_GRANULE - 1);
	u64 end = within + length;
	struct dmabuf_rw_prp_page *page;
	u32 pages;

	/* The caller has checked it; so that it holds under speculation, too. */
	position = array_index_nospec(position, prp->pages);
	page = prp_find(prp, 0, position);
	*prp1 = cpu_to_le64(le64_to_cpu(*prp_entry(page, position)) + within);
	*prp2 = 0;
	if (end <= DMABUF_RW_GRANULE)
		return;

	position++;
	page = prp_find(prp, 0, position);
	if (end <= 2 * DMABUF_RW_GRANULE) {
		*prp2 = *prp_entry(page, position);
		return;
	}
	pages = (end + DMABUF_RW_GRANULE - 1) >> DMABUF_RW_GRANULE_SHIFT;
	/* The same for the slot: a page of the lists has PRP_SLOTS. */
	if (((u32)position + pages - 1) % PRP_SLOTS == 1) {
		position += PRP_STAGGER;
		page = prp_find(prp, 1, position);
	}
	*prp2 = cpu_to_le64(page->dma + position * sizeof(__le64));
}

#endif /* DMABUF_RW_PRP_H */
