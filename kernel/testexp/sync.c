// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the CPU and devices see of each other's writes.
 */
#include <linux/dma-mapping.h>

#include "testexp.h"

/* Let devices see what the CPU wrote, where they see a copy. dma_resv held. */
static void decoy_update(struct testexp_buffer *buffer)
{
	if (buffer->decoy && !(buffer->layout.flags & DMABUF_TESTEXP_STALE_READS))
		testexp_backing_copy(buffer->decoy, buffer->backing);
}

/* Let the CPU see what devices wrote, where they wrote to a copy. dma_resv held. */
static void decoy_fetch(struct testexp_buffer *buffer)
{
	if (buffer->decoy && !(buffer->layout.flags & DMABUF_TESTEXP_LOSE_WRITES))
		testexp_backing_copy(buffer->backing, buffer->decoy);
}

/**
 * testexp_sync_for_cpu - let the CPU see what devices wrote
 * @buffer: its live mappings are synchronised
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_sync_for_cpu(struct testexp_buffer *buffer)
{
	struct testexp_mapping *mapping;
	unsigned int i;

	dma_resv_assert_held(&buffer->resv);
	list_for_each_entry(mapping, &buffer->mappings, node)
		for (i = 0; i < mapping->backing->nr; i++)
			dma_sync_single_for_cpu(mapping->dev, mapping->addresses[i],
						mapping->backing->segments[i].bytes, mapping->dir);
	decoy_fetch(buffer);
}

/**
 * testexp_sync_for_device - let devices see what the CPU wrote
 * @buffer: its live mappings are synchronised
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_sync_for_device(struct testexp_buffer *buffer)
{
	struct testexp_mapping *mapping;
	unsigned int i;

	dma_resv_assert_held(&buffer->resv);
	decoy_update(buffer);
	list_for_each_entry(mapping, &buffer->mappings, node)
		for (i = 0; i < mapping->backing->nr; i++)
			dma_sync_single_for_device(mapping->dev, mapping->addresses[i],
						   mapping->backing->segments[i].bytes,
						   mapping->dir);
}
