/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernels differ; PROBE_* are found out when the
 * module is built, by compiling the files in probes/.
 */
#ifndef DMABUF_TESTEXP_COMPAT_H
#define DMABUF_TESTEXP_COMPAT_H

#include <linux/dma-buf.h>
#include <linux/kconfig.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "dmabuf_testexp_probes.h"

/* 6.13 made the namespace of MODULE_IMPORT_NS() a string. */
#ifdef PROBE_IMPORT_NS_TOKEN
#define TESTEXP_IMPORT_NS(ns) MODULE_IMPORT_NS(ns)
#else
#define TESTEXP_IMPORT_NS(ns) MODULE_IMPORT_NS(#ns)
#endif

/* Allocators by type, new in 7.0. */
#ifndef kzalloc_obj
#define kzalloc_obj(object, gfp) kzalloc(sizeof(object), gfp)
#endif

/* 6.3 has a function for it. */
#ifdef PROBE_VM_FLAGS_SET
#define testexp_vm_flags_set(vma, flags) vm_flags_set(vma, flags)
#else
#define testexp_vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))
#endif

/*
 * 6.2 calls vmap and vunmap with the dma_resv held. Before that the exporter
 * takes it, and nobody who holds it can have a buffer mapped: no VMAP there.
 */
#ifdef PROBE_VMAP_UNLOCKED
#define TESTEXP_CAN_HOLD true
#else
#define TESTEXP_CAN_HOLD false
#endif

/*
 * 7.1. Telling importers was called move_notify() before. Where it has that name, a
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
