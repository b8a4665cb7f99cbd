// SPDX-License-Identifier: GPL-2.0-only
/*
 * PRP lists for a whole buffer, written once, used by every command.
 *
 * A list page has 512 slots of 8 bytes. Slots 0 to 510 hold the DMA address of
 * one 4 KiB page of the buffer each, slot 511 the address of the next list
 * page. The PRP2 of a command may point at any slot, so a command of any length
 * that starts at any page of the buffer only needs the address of a slot.
 *
 * One case does not work: a controller takes slot 511 for data, not for a
 * link, when it is the last entry it needs. With the command's entries starting
 * at slot s and n of them, that is so when (s + n) mod 511 == 1. Hence there is
 * a second set of lists, in which everything lies 256 slots further on: there
 * the same command has (s + n) mod 511 == 257. A buffer whose pages fit in one
 * list page does without: s + n is at most the number of its pages.
 */
#include <linux/dma-mapping.h>
#include <linux/slab.h>
#include <linux/sched.h>
#include <linux/mm.h>

#include "limits.h"
#include "prp.h"

#define PRP_BLOCK_MAX	(64UL * 1024)	/* bytes of coherent memory asked for at once */
/* Blocks are small: behind an IOMMU, spare each of them a mapping for the CPU. */
#define PRP_ATTRS	DMA_ATTR_FORCE_CONTIGUOUS

/* List pages that @variant of the lists takes, 0 where it is not needed. */
static u64 prp_lists(u64 pages, unsigned int variant)
{
	if (variant && pages <= PRP_SLOTS)
		return 0;
	return DIV_ROUND_UP_ULL(pages + variant * PRP_STAGGER, PRP_SLOTS);
}

/* Bytes of the entries before the list page of this number; links do not count. */
static u64 prp_before(u64 number)
{
	return number * PRP_SLOTS * sizeof(__le64);
}

/* The next block of list pages, smaller ones when memory is fragmented. */
static int prp_add_block(struct dmabuf_rw_prp *prp, u64 lists_left)
{
	struct dmabuf_rw_prp_block *block = &prp->blocks[prp->nr_blocks];
	size_t bytes = min_t(u64, lists_left << DMABUF_RW_GRANULE_SHIFT, PRP_BLOCK_MAX);

	for (;;) {
		block->cpu = dma_alloc_attrs(prp->dev, bytes, &block->dma,
					     GFP_KERNEL | __GFP_NOWARN, PRP_ATTRS);
		if (block->cpu)
			break;
		if (bytes <= DMABUF_RW_GRANULE)
			return -ENOMEM;
		bytes = ALIGN(bytes / 2, DMABUF_RW_GRANULE);
	}
	block->bytes = bytes;
	prp->nr_blocks++;
	return 0;
}

/**
 * dmabuf_rw_prp_alloc - make room for the lists of a buffer
 * @prp: to be set up; all zero
 * @dev: the device that will read the lists
 * @bytes: size of the buffer, a multiple of 4096
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM, with nothing allocated then.
 */
int dmabuf_rw_prp_alloc(struct dmabuf_rw_prp *prp, struct device *dev, u64 bytes)
{
	u64 pages = bytes >> DMABUF_RW_GRANULE_SHIFT;
	u64 lists[2] = { prp_lists(pages, 0), prp_lists(pages, 1) };
	u64 all = lists[0] + lists[1], done = 0;

	prp->dev = dev;
	prp->pages = pages;
	prp->variants = lists[1] ? 2 : 1;
	prp->blocks = kvcalloc(all, sizeof(*prp->blocks), GFP_KERNEL_ACCOUNT);
	prp->list[0] = kvcalloc(all, sizeof(*prp->list[0]), GFP_KERNEL_ACCOUNT);
	if (!prp->blocks || !prp->list[0])
		goto fail;
	prp->list[1] = prp->list[0] + lists[0];

	while (done < all) {
		struct dmabuf_rw_prp_block *block = &prp->blocks[prp->nr_blocks];
		size_t at;

		if (prp_add_block(prp, all - done))
			goto fail;
		for (at = 0; at < block->bytes; at += DMABUF_RW_GRANULE) {
			u64 before = prp_before(done < lists[0] ? done : done - lists[0]);

			prp->list[0][done].cpu = (unsigned long)block->cpu + at - before;
			prp->list[0][done].dma = block->dma + at - before;
			done++;
		}
		cond_resched();
	}
	return 0;

fail:
	dmabuf_rw_prp_free(prp);
	return -ENOMEM;
}

/**
 * dmabuf_rw_prp_free - undo dmabuf_rw_prp_alloc()
 * @prp: set up, or all zero
 *
 * Context: may sleep. No command may be using the lists. The device must still
 * have its driver.
 */
void dmabuf_rw_prp_free(struct dmabuf_rw_prp *prp)
{
	unsigned int i;

	for (i = 0; i < prp->nr_blocks; i++)
		dma_free_attrs(prp->dev, prp->blocks[i].bytes, prp->blocks[i].cpu,
			       prp->blocks[i].dma, PRP_ATTRS);
	kvfree(prp->blocks);
	kvfree(prp->list[0]);
	memset(prp, 0, sizeof(*prp));
}

/**
 * dmabuf_rw_prp_fill - write the addresses of a mapped buffer into the lists
 * @prp: from dmabuf_rw_prp_alloc()
 * @sgt: the mapped buffer; its DMA segments are multiples of 4096 bytes and sum
 *	to the size given to dmabuf_rw_prp_alloc()
 *
 * Context: may sleep. No command may be using the lists.
 */
void dmabuf_rw_prp_fill(struct dmabuf_rw_prp *prp, struct sg_table *sgt)
{
	struct scatterlist *sg;
	unsigned int variant, i;

	for (variant = 0; variant < prp->variants; variant++) {
		struct dmabuf_rw_prp_page *list = prp->list[variant];
		unsigned int slot = variant * PRP_STAGGER;
		__le64 *cpu = prp_entry(list, 0);
		u64 number = 0;

		for_each_sgtable_dma_sg(sgt, sg, i) {
			u64 left = sg_dma_len(sg) >> DMABUF_RW_GRANULE_SHIFT;
			dma_addr_t dma = sg_dma_address(sg);

			for (; left; left--, dma += DMABUF_RW_GRANULE) {
				if (unlikely(slot == PRP_SLOTS)) {
					u64 before = prp_before(++number);

					list++;
					cpu[PRP_SLOTS] = cpu_to_le64(list->dma + before);
					cpu = (__le64 *)(list->cpu + before);
					slot = 0;
					cond_resched();
				}
				cpu[slot++] = cpu_to_le64(dma);
			}
		}
	}
	/* The drive sees the lists before any command that points at them. */
	dma_wmb();
}
