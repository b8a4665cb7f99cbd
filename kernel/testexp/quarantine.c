// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory that a buffer has left: kept, poisoned, and looked at before it is freed.
 */
#include "testexp.h"

/**
 * testexp_quarantine_trim - free memory that was left long enough ago
 * @buffer: the buffer
 * @keep: times the memory was left that stay in quarantine
 *
 * What still is mapped, by a device or by the kernel, stays as well.
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_quarantine_trim(struct testexp_buffer *buffer, u32 keep)
{
	struct testexp_backing *backing, *next;

	dma_resv_assert_held(&buffer->resv);
	list_for_each_entry_safe(backing, next, &buffer->quarantine, node) {
		if (buffer->nr_quarantine <= keep)
			break;
		if (backing->mappings || backing->vmaps)
			continue;
		list_del(&backing->node);
		buffer->nr_quarantine--;
		buffer->stray_words += testexp_backing_stray_words(backing);
		testexp_backing_free(backing);
	}
}
