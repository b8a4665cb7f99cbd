// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the CPU and devices see of each other's writes. A carve-out needs no more than
 * the order of things: it is not synchronised.
 */
#include <linux/dma-mapping.h>

#include "testexp.h"

/**
 * testexp_contents - the memory that holds what the buffer contains
 * @buffer: the buffer
 *
 * With SHADOW the CPU's views are of a copy, and devices have the contents.
 *
 * Context: any; dma_resv held.
 * Return: the memory, NULL once the dma-buf was released.
 */
struct testexp_backing *testexp_contents(const struct testexp_buffer *buffer)
{
	dma_resv_assert_held(&buffer->resv);
	if (buffer->backing && (buffer->layout.flags & DMABUF_TESTEXP_SHADOW))
		return buffer->decoy;
	return buffer->backing;
}

/* Let devices see what the CPU wrote, where they see a copy. dma_resv held. */
static void decoy_update(struct testexp_buffer *buffer, enum dma_data_direction dir)
{
	u32 flags = buffer->layout.flags;

	if (!buffer->decoy || (flags & DMABUF_TESTEXP_STALE_READS))
		return;
	if ((flags & DMABUF_TESTEXP_SHADOW) && dir != DMA_TO_DEVICE && dir != DMA_BIDIRECTIONAL)
		return;
	testexp_backing_copy(buffer->decoy, buffer->backing);
}

/* Let the CPU see what devices wrote, where they wrote to a copy. dma_resv held. */
static void decoy_fetch(struct testexp_buffer *buffer, enum dma_data_direction dir)
{
	u32 flags = buffer->layout.flags;

	if (!buffer->decoy || (flags & DMABUF_TESTEXP_LOSE_WRITES))
		return;
	if ((flags & DMABUF_TESTEXP_SHADOW) && dir != DMA_FROM_DEVICE && dir != DMA_BIDIRECTIONAL)
		return;
	testexp_backing_copy(buffer->backing, buffer->decoy);
}

/**
 * testexp_sync_for_cpu - let the CPU see what devices wrote
 * @buffer: its live mappings are synchronised
 * @dir: of the CPU access that was announced; DMA_NONE: none was
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_sync_for_cpu(struct testexp_buffer *buffer, enum dma_data_direction dir)
{
	struct testexp_mapping *mapping;
	unsigned int i;

	dma_resv_assert_held(&buffer->resv);
	list_for_each_entry(mapping, &buffer->mappings, node)
		for (i = 0; i < mapping->backing->nr && !mapping->backing->carved; i++)
			dma_sync_single_for_cpu(mapping->dev, mapping->addresses[i],
						mapping->backing->segments[i].bytes, mapping->dir);
	decoy_fetch(buffer, dir);
}

/**
 * testexp_sync_for_device - let devices see what the CPU wrote
 * @buffer: its live mappings are synchronised
 * @dir: of the CPU access that was announced; DMA_NONE: none was
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_sync_for_device(struct testexp_buffer *buffer, enum dma_data_direction dir)
{
	struct testexp_mapping *mapping;
	unsigned int i;

	dma_resv_assert_held(&buffer->resv);
	decoy_update(buffer, dir);
	list_for_each_entry(mapping, &buffer->mappings, node)
		for (i = 0; i < mapping->backing->nr && !mapping->backing->carved; i++)
			dma_sync_single_for_device(mapping->dev, mapping->addresses[i],
						   mapping->backing->segments[i].bytes,
						   mapping->dir);
}
