/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernels differ; PROBE_* are found out when the
 * module is built, by compiling the files in probes/.
 */
#ifndef DMABUF_TESTEXP_COMPAT_H
#define DMABUF_TESTEXP_COMPAT_H

#include <linux/dma-buf.h>
#include <linux/kconfig.h>

#include "dmabuf_testexp_probes.h"

/* 6.13 made the namespace of MODULE_IMPORT_NS() a string. */
#ifdef PROBE_IMPORT_NS_TOKEN
#define TESTEXP_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define TESTEXP_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

/*
 * Telling importers was called move_notify() before. Where it has that name, a
 * configuration option decides whether the framework uses it or pins a buffer
 * as long as anybody has it mapped.
 */
#ifdef PROBE_INVALIDATE_FUNCTION
#define TESTEXP_CAN_MOVE 1
#else
#define TESTEXP_CAN_MOVE IS_ENABLED(CONFIG_DMABUF_MOVE_NOTIFY)
#endif

/**
 * testexp_invalidate_mappings - tell all importers to let go
 * @dmabuf: the buffer's
 *
 * Context: may sleep; dma_resv held.
 */
static inline void testexp_invalidate_mappings(struct dma_buf *dmabuf)
{
#ifdef PROBE_INVALIDATE_FUNCTION
	dma_buf_invalidate_mappings(dmabuf);
#else
	dma_buf_move_notify(dmabuf);
#endif
}

/* The importer's callback. */
#ifdef PROBE_INVALIDATE_FUNCTION
#define TESTEXP_INVALIDATE_MEMBER invalidate_mappings
#else
#define TESTEXP_INVALIDATE_MEMBER move_notify
#endif

/**
 * testexp_can_be_told - can this importer be told of a move?
 * @att: its attachment
 *
 * Return: whether it has the callback.
 */
static inline bool testexp_can_be_told(const struct dma_buf_attachment *att)
{
	return att->importer_ops && att->importer_ops->TESTEXP_INVALIDATE_MEMBER;
}

#endif /* DMABUF_TESTEXP_COMPAT_H */
