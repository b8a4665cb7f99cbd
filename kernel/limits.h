/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Numbers that bound what user space can ask for.
 */
#ifndef DMABUF_RW_LIMITS_H
#define DMABUF_RW_LIMITS_H

#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/mm.h>

#define DMABUF_RW_GRANULE_SHIFT	12		/* NVMe page, CC.MPS = 0 */
#define DMABUF_RW_GRANULE	BIT(DMABUF_RW_GRANULE_SHIFT)
#define DMABUF_RW_MAX_MAPPINGS	4096U		/* per session, a power of two */
#define DMABUF_RW_MAX_BATCH	1024U
#define DMABUF_RW_MAX_RANGES	256U		/* of one command */
#define DMABUF_RW_MAX_SESSIONS	1024U		/* per user */
#define DMABUF_RW_MAX_RW_FILES	4096U		/* per user */
#define DMABUF_RW_MAX_IO	((u64)MAX_RW_COUNT)
#define DMABUF_RW_MAX_PREMAPPED	BIT_ULL(40)	/* bytes of one dma-buf */
#define DMABUF_RW_MAX_REGISTERED ((u64)U32_MAX & PAGE_MASK)
#define DMABUF_RW_MAX_BVEC	BIT_ULL(38)	/* its arrays are less than 2 GiB */
#define DMABUF_RW_MAX_RW_BUFFER	BIT_ULL(40)
#define DMABUF_RW_MAX_EXTENTS	BIT(20)		/* of a file; 24 MiB with their index */
#define DMABUF_RW_WAIT_MS	30000U		/* longest wait without CONFIG */
#define DMABUF_RW_MAX_TIMEOUT_MS 3600000U

#endif /* DMABUF_RW_LIMITS_H */
