// SPDX-License-Identifier: GPL-2.0-only
/*
 * STATS: what a buffer is and what happened to it, in figures.
 */
#include <linux/string.h>

#include "testexp.h"

/**
 * testexp_buffer_stats - STATS
 * @buffer: the buffer
 * @stats: out, except id
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EINVAL, -EINTR.
 */
int testexp_buffer_stats(struct testexp_buffer *buffer, struct dmabuf_testexp_stats *stats)
{
	struct testexp_backing *backing;
	struct testexp_mapping *mapping;
	u32 id = stats->id;
	int ret;

	if (stats->flags || memchr_inv(stats->reserved, 0, sizeof(stats->reserved)))
		return -EINVAL;
	memset(stats, 0, sizeof(*stats));
	stats->id = id;
	stats->fences = testexp_fence_pending(buffer);

	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		return ret;
	if (buffer->revoked)
		stats->state |= DMABUF_TESTEXP_STATE_REVOKED;
	if (!buffer->dmabuf)
		stats->state |= DMABUF_TESTEXP_STATE_RELEASED;
	if (READ_ONCE(buffer->mover_left))
		stats->state |= DMABUF_TESTEXP_STATE_MOVER;
	list_for_each_entry(mapping, &buffer->mappings, node)
		stats->mappings++;
	list_for_each_entry(backing, &buffer->quarantine, node)
		stats->quarantined_pages += backing->pages;
	stats->quarantined = buffer->nr_quarantine;
	if (buffer->backing) {
		stats->segments = buffer->backing->nr;
		stats->pages = buffer->backing->pages;
	}
	stats->pins = buffer->pins;
	stats->vmaps = buffer->vmaps;
	stats->maps = buffer->maps;
	stats->unmaps = buffer->unmaps;
	stats->moves = buffer->moves;
	stats->moves_failed = buffer->moves_failed;
	stats->revokes = buffer->revokes;
	stats->lingering = buffer->lingering;
	stats->stray_words = buffer->stray_words;
	stats->invalidate_ns = buffer->invalidate_ns;
	stats->invalidate_max_ns = buffer->invalidate_max_ns;
	memcpy(stats->cpu_begins, buffer->cpu_begins, sizeof(stats->cpu_begins));
	memcpy(stats->cpu_ends, buffer->cpu_ends, sizeof(stats->cpu_ends));
	dma_resv_unlock(&buffer->resv);

	spin_lock(&buffer->lock);
	stats->attachments = buffer->attaches - buffer->detaches;
	stats->attaches = buffer->attaches;
	stats->detaches = buffer->detaches;
	memcpy(stats->refused, buffer->refused, sizeof(stats->refused));
	spin_unlock(&buffer->lock);
	return 0;
}
