// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory: pages in scattered segments, copying, and the poison that tells when
 * somebody wrote to memory that was taken from him.
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "testexp.h"

#define POISON 0x5eed0ff1dead10ccULL

u64 testexp_max_bytes;
static atomic64_t reserved_bytes;

/**
 * testexp_memory_reserve - count memory a buffer may take at most
 * @bytes: how much
 *
 * Context: any.
 * Return: 0, or -ENOMEM when all buffers together would pass testexp_max_bytes.
 */
int testexp_memory_reserve(u64 bytes)
{
	if (bytes > testexp_max_bytes ||
	    atomic64_add_return(bytes, &reserved_bytes) > testexp_max_bytes) {
		if (bytes <= testexp_max_bytes)
			atomic64_sub(bytes, &reserved_bytes);
		return -ENOMEM;
	}
	return 0;
}

/**
 * testexp_memory_unreserve - undo testexp_memory_reserve()
 * @bytes: as given there
 */
void testexp_memory_unreserve(u64 bytes)
{
	atomic64_sub(bytes, &reserved_bytes);
}

/* Cut @layout->bytes into segments. Returns how many. */
static unsigned int draw_lengths(struct testexp_backing *backing,
				 const struct testexp_layout *layout, struct rnd_state *random)
{
	u32 steps = (layout->segment_max - layout->segment_min) / layout->step + 1;
	unsigned int nr = 0, i;
	u64 left = layout->bytes;

	while (left) {
		u64 bytes = layout->segment_min +
			    (prandom_u32_state(random) % steps) * layout->step;

		bytes = min(bytes, left);
		backing->segments[nr++].bytes = bytes;
		left -= bytes;
	}
	if (layout->flags & DMABUF_TESTEXP_MISALIGN_LENGTH) {
		/* Give from every second one to the one before it. */
		for (i = 0; i + 1 < nr; i += 2) {
			backing->segments[i].bytes += layout->misalign;
			backing->segments[i + 1].bytes -= layout->misalign;
		}
	}
	return nr;
}

/* Where in the buffer each segment starts. */
static void number_segments(struct testexp_backing *backing)
{
	unsigned int i;
	u64 start = 0;

	for (i = 0; i < backing->nr; i++) {
		backing->segments[i].start = start;
		start += backing->segments[i].bytes;
	}
}

/* Memory for all segments from the carve-out, in one piece: the kernel has it mapped. */
static int carve_segments(struct testexp_backing *backing, const struct testexp_layout *layout)
{
	unsigned int i;

	backing->carved = testexp_carveout_alloc(layout->bytes);
	if (!backing->carved)
		return -ENOMEM;
	backing->pages = PAGE_ALIGN(layout->bytes) >> PAGE_SHIFT;
	number_segments(backing);
	for (i = 0; i < backing->nr; i++) {
		struct testexp_segment *segment = &backing->segments[i];

		segment->block = backing->carved + segment->start;
		segment->block_bytes = segment->bytes;
	}
	return 0;
}

/* Memory for all segments, in random order so that neighbours lie apart. */
static int fill_segments(struct testexp_backing *backing, const struct testexp_layout *layout,
			 struct rnd_state *random)
{
	unsigned int *order, i;

	order = kvmalloc_array(backing->nr, sizeof(*order), GFP_KERNEL);
	if (!order)
		return -ENOMEM;
	for (i = 0; i < backing->nr; i++)
		order[i] = i;
	for (i = backing->nr - 1; i > 0; i--) {
		unsigned int other = prandom_u32_state(random) % (i + 1);

		swap(order[i], order[other]);
	}

	for (i = 0; i < backing->nr; i++) {
		struct testexp_segment *segment = &backing->segments[order[i]];

		if (layout->flags & DMABUF_TESTEXP_MISALIGN_START)
			segment->skip = layout->misalign;
		segment->block_bytes = PAGE_ALIGN(segment->skip + segment->bytes);
		segment->block = alloc_pages_exact(segment->block_bytes,
						   GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
		if (!segment->block)
			break;
		backing->pages += segment->block_bytes >> PAGE_SHIFT;
		cond_resched();
	}
	kvfree(order);
	if (i < backing->nr)
		return -ENOMEM;

	number_segments(backing);
	return 0;
}

/**
 * testexp_backing_alloc - allocate zeroed memory for a buffer
 * @layout: how large, and how to cut it
 * @seed: of the lengths and of the order
 *
 * Context: may sleep; dma_resv not held.
 * Return: the memory, or ERR_PTR(-ENOMEM).
 */
struct testexp_backing *testexp_backing_alloc(const struct testexp_layout *layout, u64 seed)
{
	u64 most = DIV_ROUND_UP_ULL(layout->bytes, layout->segment_min);
	struct testexp_backing *backing;
	struct rnd_state random;
	int ret;

	backing = kzalloc_obj(*backing, GFP_KERNEL_ACCOUNT);
	if (!backing)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&backing->node);
	backing->segments = kvcalloc(most, sizeof(*backing->segments), GFP_KERNEL_ACCOUNT);
	if (!backing->segments) {
		kfree(backing);
		return ERR_PTR(-ENOMEM);
	}
	prandom_seed_state(&random, seed);
	backing->nr = draw_lengths(backing, layout, &random);
	if (layout->flags & DMABUF_TESTEXP_CARVEOUT)
		ret = carve_segments(backing, layout);
	else
		ret = fill_segments(backing, layout, &random);
	if (ret) {
		testexp_backing_free(backing);
		return ERR_PTR(ret);
	}
	return backing;
}

/**
 * testexp_backing_free - give memory back
 * @backing: no mapping of it is left
 *
 * Context: may sleep.
 */
void testexp_backing_free(struct testexp_backing *backing)
{
	unsigned int i;

	WARN_ON_ONCE(backing->mappings || backing->vmaps);
	if (backing->carved)
		testexp_carveout_free(backing->carved, backing->pages << PAGE_SHIFT);
	for (i = 0; i < backing->nr && !backing->carved; i++) {
		struct testexp_segment *segment = &backing->segments[i];

		if (segment->block)
			free_pages_exact(segment->block, segment->block_bytes);
	}
	kvfree(backing->segments);
	kfree(backing);
}

/**
 * testexp_backing_segment - find the segment a byte of the buffer is in
 * @backing: the memory
 * @offset: bytes into the buffer, inside it
 *
 * Context: any; dma_resv held if @backing is a buffer's.
 * Return: its index.
 */
unsigned int testexp_backing_segment(const struct testexp_backing *backing, u64 offset)
{
	unsigned int low = 0, high = backing->nr;

	/* The last segment that starts at or before @offset. */
	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (backing->segments[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/**
 * testexp_backing_at - find where a byte of the buffer is
 * @backing: the memory
 * @offset: bytes into the buffer, inside it
 * @run: out: how many bytes follow there without a gap
 *
 * Context: any; dma_resv held if @backing is a buffer's.
 * Return: the address.
 */
void *testexp_backing_at(const struct testexp_backing *backing, u64 offset, size_t *run)
{
	const struct testexp_segment *segment =
		&backing->segments[testexp_backing_segment(backing, offset)];

	offset -= segment->start;
	*run = segment->bytes - offset;
	return segment->block + segment->skip + offset;
}

/**
 * testexp_backing_phys - tell a physical address
 * @backing: the memory
 * @address: in it, see testexp_backing_at()
 *
 * Context: any.
 * Return: the physical address.
 */
phys_addr_t testexp_backing_phys(const struct testexp_backing *backing, const void *address)
{
	return backing->carved ? testexp_carveout_phys(address) : virt_to_phys((void *)address);
}

/**
 * testexp_backing_copy - copy the contents of a buffer to other memory
 * @to: of the same size, differently cut perhaps
 * @from: the contents
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_backing_copy(struct testexp_backing *to, const struct testexp_backing *from)
{
	unsigned int i;

	for (i = 0; i < to->nr; i++) {
		struct testexp_segment *segment = &to->segments[i];
		size_t done = 0;

		while (done < segment->bytes) {
			size_t run;
			void *source = testexp_backing_at(from, segment->start + done, &run);

			run = min(run, segment->bytes - done);
			memcpy(segment->block + segment->skip + done, source, run);
			done += run;
		}
		cond_resched();
	}
}

/**
 * testexp_backing_poison - overwrite memory that the buffer has left
 * @backing: the memory
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_backing_poison(struct testexp_backing *backing)
{
	unsigned int i;

	for (i = 0; i < backing->nr; i++) {
		memset64(backing->segments[i].block, POISON, backing->segments[i].block_bytes / 8);
		cond_resched();
	}
}

/**
 * testexp_backing_stray_words - look whether the poison is intact
 * @backing: poisoned
 *
 * Context: may sleep; dma_resv held.
 * Return: 8-byte words that changed.
 */
u64 testexp_backing_stray_words(const struct testexp_backing *backing)
{
	u64 stray = 0;
	unsigned int i;

	for (i = 0; i < backing->nr; i++) {
		const u64 *words = backing->segments[i].block;
		size_t nr = backing->segments[i].block_bytes / 8, word;

		for (word = 0; word < nr; word++)
			stray += READ_ONCE(words[word]) != POISON;
		cond_resched();
	}
	return stray;
}
