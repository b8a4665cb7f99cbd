/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * dmabuf_testexp: a test exporter of dma-bufs, for people who write importers.
 *
 * Its dma-bufs behave as those of a GPU may: they move, are revoked, refuse,
 * carry fences, have no CPU view and no struct pages; all of it on command.
 *
 * Rules that hold for every structure:
 *
 *  - only __u32 and __u64, naturally aligned, sizes asserted below;
 *  - pointers travel as __u64;
 *  - padding and unknown flags must be zero, or the call fails with EINVAL and
 *    nothing has happened;
 *  - new things announce themselves by a bit in dmabuf_testexp_query.features.
 *
 * A *session* is one open of /dev/dmabuf_testexp. It names its buffers by ids.
 * A buffer lives as long as its dma-buf does, longer than the session perhaps;
 * what the session started (mover, fences, refusals) ends with the session.
 */
#ifndef _UAPI_LINUX_DMABUF_TESTEXP_H
#define _UAPI_LINUX_DMABUF_TESTEXP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMABUF_TESTEXP_DEVICE		"/dev/dmabuf_testexp"
#define DMABUF_TESTEXP_ABI_VERSION	1

/* Bits of dmabuf_testexp_query.features. */
#define DMABUF_TESTEXP_FEAT_MOVE	(1ULL << 0)	/* this kernel lets mapped buffers move */
#define DMABUF_TESTEXP_FEAT_LOSE	(1ULL << 1)	/* LOSE_WRITES, STALE_READS */
#define DMABUF_TESTEXP_FEAT_MISLEAD	(1ULL << 2)	/* SHIFT_SEGMENTS, EXCHANGE */
#define DMABUF_TESTEXP_FEAT_LOOSE_VMAP	(1ULL << 3)	/* LOOSE_VMAP */
#define DMABUF_TESTEXP_FEAT_SHADOW	(1ULL << 4)	/* SHADOW */
#define DMABUF_TESTEXP_FEAT_CPU_COUNTS	(1ULL << 5)	/* cpu_begins, cpu_ends of STATS */
#define DMABUF_TESTEXP_FEAT_CARVEOUT	(1ULL << 6)	/* CARVEOUT, and there is one */
#define DMABUF_TESTEXP_FEAT_VMAP	(1ULL << 7)	/* VMAP, VUNMAP, ACCESS_VMAP */
#define DMABUF_TESTEXP_FEAT_FENCES	(1ULL << 8)	/* FENCES_SIGNALLED, FENCE_FOLLOWED */
#define DMABUF_TESTEXP_FEAT_CARVEOUT_PAGES (1ULL << 9)	/* the carve-out has struct pages */

/**
 * struct dmabuf_testexp_query - DMABUF_TESTEXP_IOC_QUERY
 * @flags:		in: must be 0.
 * @abi_version:	out: DMABUF_TESTEXP_ABI_VERSION of the module.
 * @features:		out: DMABUF_TESTEXP_FEAT_*.
 * @max_buffer_bytes:	out: memory all buffers together may take.
 * @max_segment_bytes:	out: largest segment_max of CREATE.
 * @max_buffers:	out: ids a session may have.
 * @live_buffers:	out: buffers whose dma-buf exists, of all sessions.
 * @reserved32:		must be 0, returned 0.
 * @reserved:		must be 0, returned 0.
 */
struct dmabuf_testexp_query {
	__u32 flags;
	__u32 abi_version;
	__u64 features;
	__u64 max_buffer_bytes;
	__u32 max_segment_bytes;
	__u32 max_buffers;
	__u32 live_buffers;
	__u32 reserved32;
	__u64 reserved[3];
};

/*
 * Flags of CREATE. The ones below the line tell importers something untrue or
 * unusual about the memory; they need NO_CPU.
 *
 * DYNAMIC	 the exporter has pin and unpin and may move unpinned memory.
 * NO_CPU	 no mmap, no kernel mapping. READ and WRITE still work.
 * NO_PAGES	 the scatterlist has DMA addresses and lengths, but no pages;
 *		 only importers that set allow_peer2peer may attach.
 * NEED_INVALIDATE only importers that can be told of a move may attach.
 * READ_ONLY	 the dma-buf's file is open for reading only.
 * IO_VIEW	 the kernel mapping says that it is I/O memory; not with NO_CPU.
 * LOOSE_VMAP	 the kernel mapping does not keep the memory in place: it moves and
 *		 is poisoned under it, unless it is pinned. What is left stays as long
 *		 as the mapping. Needs DYNAMIC; not with NO_CPU.
 * SHADOW	 the CPU's views are of a copy. begin_cpu_access of FROM_DEVICE and
 *		 BIDIRECTIONAL copies the buffer to it, end_cpu_access of TO_DEVICE and
 *		 BIDIRECTIONAL copies it to the buffer; all of it each time. READ and
 *		 WRITE are of the buffer. A MOVE moves the copy. Not with DYNAMIC, NO_CPU,
 *		 LOSE_WRITES, STALE_READS or the flags that are untrue or mislead.
 * CARVEOUT	 memory from the module's parameter carveout, in one piece. It may have
 *		 no struct pages; the kernel mapping is an ordinary one. Needs
 *		 NO_PAGES. EOPNOTSUPP without such a parameter. Not with SHADOW nor
 *		 with the flags that are untrue, lose or mislead.
 * ----
 * MISALIGN_START every segment starts @misalign bytes into a page.
 * MISALIGN_LENGTH segment lengths alternate: @misalign longer, @misalign shorter.
 * SUM_SHORT	 the last segment says it is 4096 bytes shorter than it is.
 * SUM_LONG	 the last segment says it is 4096 bytes longer than it is.
 * SEG_4G	 the dma-buf says it is 4 GiB larger than its memory, as if the
 *		 first segment were; the 32-bit length of a segment hides it.
 * SEG_4G_ZERO	 the same 4 GiB as one more segment, whose length wrapped to 0.
 * ----
 * Devices are led to other memory than the buffer's; every DMA succeeds.
 *
 * LOSE_WRITES	 what a device writes into the buffer never arrives there.
 * STALE_READS	 a device that reads the buffer gets what it held when it was
 *		 mapped, or what a device wrote last.
 * ----
 * Devices are led to wrong places of the buffer's own memory, each page of it
 * once; every DMA succeeds.
 *
 * SHIFT_SEGMENTS the first segment is where it is; in each that follows every
 *		 page is taken for the one before it, the first for the last.
 *		 Needs segments of two pages or more, and two of them.
 * EXCHANGE	 from time to time the two halves of the buffer are taken for each
 *		 other: see @exchange_after. Needs DYNAMIC and FEAT_MOVE.
 */
#define DMABUF_TESTEXP_DYNAMIC		(1U << 0)
#define DMABUF_TESTEXP_NO_CPU		(1U << 1)
#define DMABUF_TESTEXP_NO_PAGES		(1U << 2)
#define DMABUF_TESTEXP_NEED_INVALIDATE	(1U << 3)
#define DMABUF_TESTEXP_READ_ONLY	(1U << 4)
#define DMABUF_TESTEXP_IO_VIEW		(1U << 5)
#define DMABUF_TESTEXP_LOOSE_VMAP	(1U << 6)
#define DMABUF_TESTEXP_SHADOW		(1U << 7)
#define DMABUF_TESTEXP_MISALIGN_START	(1U << 8)
#define DMABUF_TESTEXP_MISALIGN_LENGTH	(1U << 9)
#define DMABUF_TESTEXP_SUM_SHORT	(1U << 10)
#define DMABUF_TESTEXP_SUM_LONG		(1U << 11)
#define DMABUF_TESTEXP_SEG_4G		(1U << 12)
#define DMABUF_TESTEXP_SEG_4G_ZERO	(1U << 13)
#define DMABUF_TESTEXP_LOSE_WRITES	(1U << 16)
#define DMABUF_TESTEXP_STALE_READS	(1U << 17)
#define DMABUF_TESTEXP_SHIFT_SEGMENTS	(1U << 18)
#define DMABUF_TESTEXP_EXCHANGE		(1U << 19)
#define DMABUF_TESTEXP_CARVEOUT		(1U << 20)

/**
 * struct dmabuf_testexp_create - DMABUF_TESTEXP_IOC_CREATE
 * @bytes:	in: memory, a multiple of 4096; without NO_CPU of whole pages. Zeroed.
 * @seed:	in: of everything random in the layout. The same seed gives the
 *		same segment lengths, move by move.
 * @flags:	in: DMABUF_TESTEXP_*.
 * @segment_min: in: bytes, multiple of 4096; 0: 4096. Without NO_CPU both are rounded
 *		up to whole pages.
 * @segment_max: in: bytes, multiple of 4096, at least @segment_min; 0: @segment_min.
 * @misalign:	in: 1 … 4095 with a MISALIGN flag, else 0.
 * @quarantine:	in: how many moves the memory that was left is kept, poisoned,
 *		before it is looked at and freed; at most 64.
 * @fd:		out: the dma-buf, close-on-exec.
 * @id:		out: names the buffer in this session.
 * @segments:	out: how many pieces the memory has now.
 * @exchange_after: in: with EXCHANGE the CPU accesses (begin_cpu_access) during
 *		which mappings are right, 1 or more, else 0. Then they are wrong for the
 *		next 64, and so on by turns; importers are told when it changes.
 * @reserved32:	must be 0.
 * @reserved:	must be 0.
 */
struct dmabuf_testexp_create {
	__u64 bytes;
	__u64 seed;
	__u32 flags;
	__u32 segment_min;
	__u32 segment_max;
	__u32 misalign;
	__u32 quarantine;
	__u32 fd;
	__u32 id;
	__u32 segments;
	__u32 exchange_after;
	__u32 reserved32;
	__u64 reserved;
};

/**
 * struct dmabuf_testexp_id - commands that need nothing but a buffer
 * @id:		in.
 * @flags:	in: must be 0.
 *
 * UNREVOKE	maps succeed again.
 * MOVER_STOP	returns when the mover has stopped; it need not be running.
 * DESTROY	the session forgets the buffer; what it started there ends.
 */
struct dmabuf_testexp_id {
	__u32 id;
	__u32 flags;
};

/**
 * struct dmabuf_testexp_move - DMABUF_TESTEXP_IOC_MOVE and _REVOKE
 * @id:		in.
 * @flags:	in: must be 0.
 * @timeout_ms:	in: longest wait for the buffer's fences; 0: 10 s.
 * @reserved:	must be 0.
 * @invalidate_ns: out: how long the importers took to let go.
 *
 * MOVE: new memory, importers told, fences waited for, contents copied, old
 * memory poisoned. EBUSY: pinned, in use by somebody who cannot be told, or
 * with a kernel mapping and without LOOSE_VMAP.
 * ETIMEDOUT: a fence did not signal; importers have been told, memory is where
 * it was.
 *
 * REVOKE: the same, and attach, map and CPU access fail with ENODEV from then
 * on. Pinned memory stays where it is. Revoked it is in any case, ETIMEDOUT included.
 *
 * Both: ENXIO when the dma-buf no longer exists, ENOMEM, EINTR.
 */
struct dmabuf_testexp_move {
	__u32 id;
	__u32 flags;
	__u32 timeout_ms;
	__u32 reserved;
	__u64 invalidate_ns;
};

/* dmabuf_testexp_fail.operation; indices of dmabuf_testexp_stats.refused. */
#define DMABUF_TESTEXP_OP_ATTACH	0
#define DMABUF_TESTEXP_OP_MAP		1
#define DMABUF_TESTEXP_OP_PIN		2
#define DMABUF_TESTEXP_OP_VMAP		3
#define DMABUF_TESTEXP_OP_CPU		4	/* begin_cpu_access */
#define DMABUF_TESTEXP_NR_OPS		5

/**
 * struct dmabuf_testexp_fail - DMABUF_TESTEXP_IOC_FAIL
 * @id:		in.
 * @flags:	in: must be 0.
 * @operation:	in: DMABUF_TESTEXP_OP_*.
 * @error:	in: positive errno it shall fail with, up to 4095; 0: no more.
 * @after:	in: let this many succeed first.
 * @times:	in: then fail this many; 0: until told otherwise.
 */
struct dmabuf_testexp_fail {
	__u32 id;
	__u32 flags;
	__u32 operation;
	__u32 error;
	__u32 after;
	__u32 times;
};

/* dmabuf_testexp_fence.usage, as enum dma_resv_usage. */
#define DMABUF_TESTEXP_USAGE_KERNEL	0
#define DMABUF_TESTEXP_USAGE_WRITE	1
#define DMABUF_TESTEXP_USAGE_READ	2
#define DMABUF_TESTEXP_USAGE_BOOKKEEP	3

/* Flag of FENCE_ADD: do not signal until told, or until the session ends. */
#define DMABUF_TESTEXP_FENCE_NEVER	(1U << 0)
/*
 * With NEVER: just before it signals, another one of the same usage is added, that
 * does not signal until told. It has none that follows. FENCE_SIGNAL of 0 names it.
 */
#define DMABUF_TESTEXP_FENCE_FOLLOWED	(1U << 1)

/**
 * struct dmabuf_testexp_fence - DMABUF_TESTEXP_IOC_FENCE_ADD
 * @id:		in.
 * @flags:	in: DMABUF_TESTEXP_FENCE_*.
 * @usage:	in: DMABUF_TESTEXP_USAGE_*.
 * @delay_ms:	in: it signals after so many milliseconds, at most 3600000; 0
 *		with NEVER.
 * @error:	in: positive errno the fence signals with; 0: success.
 * @fence:	out: its number, for FENCE_SIGNAL.
 */
struct dmabuf_testexp_fence {
	__u32 id;
	__u32 flags;
	__u32 usage;
	__u32 delay_ms;
	__u32 error;
	__u32 fence;
};

/**
 * struct dmabuf_testexp_signal - DMABUF_TESTEXP_IOC_FENCE_SIGNAL
 * @id:		in.
 * @flags:	in: must be 0.
 * @fence:	in: one fence, ENOENT if it has signalled before; 0: all.
 * @signalled:	out: how many were signalled by this call.
 */
struct dmabuf_testexp_signal {
	__u32 id;
	__u32 flags;
	__u32 fence;
	__u32 signalled;
};

/**
 * struct dmabuf_testexp_fences - DMABUF_TESTEXP_IOC_FENCES_SIGNALLED
 * @id:		in.
 * @flags:	in: must be 0.
 * @usage:	in: DMABUF_TESTEXP_USAGE_*.
 * @count:	in: 1 … 65536.
 *
 * So many fences, each of a context of its own, that have all signalled when the
 * call returns. The dma_resv keeps them until somebody adds others.
 */
struct dmabuf_testexp_fences {
	__u32 id;
	__u32 flags;
	__u32 usage;
	__u32 count;
};

/* Flag of MOVER_START: wait with each move until somebody has the buffer mapped. */
#define DMABUF_TESTEXP_MOVER_MAPPED	(1U << 0)

/**
 * struct dmabuf_testexp_mover - DMABUF_TESTEXP_IOC_MOVER_START
 * @id:		in.
 * @flags:	in: DMABUF_TESTEXP_MOVER_*.
 * @count:	in: moves to make; 0: until told to stop.
 * @interval_us: in: pause between two, at most 1000000.
 * @reserved:	must be 0.
 *
 * A kernel thread moves the buffer. Moves that fail are counted in STATS and
 * tried again. EBUSY: there is a mover already.
 */
struct dmabuf_testexp_mover {
	__u32 id;
	__u32 flags;
	__u64 count;
	__u32 interval_us;
	__u32 reserved;
};

/* Flag of WRITE: into the memory that was left last, as a stray DMA would. */
#define DMABUF_TESTEXP_WRITE_STRAY	(1U << 0)
/* Flag of READ and WRITE: through the kernel mapping that VMAP holds. */
#define DMABUF_TESTEXP_ACCESS_VMAP	(1U << 1)

/**
 * struct dmabuf_testexp_access - DMABUF_TESTEXP_IOC_READ and _WRITE
 * @id:		in.
 * @flags:	in: 0, or DMABUF_TESTEXP_ACCESS_VMAP, or with WRITE
 *		DMABUF_TESTEXP_WRITE_STRAY.
 * @offset:	in: bytes into the buffer.
 * @length:	in: bytes; the range must lie in the buffer.
 * @address:	in: user memory to read into or write from.
 *
 * The witness: the CPU looks at, or changes, the memory wherever it is now,
 * revoked or not, whatever the flags of CREATE. Waits for no fence. EFAULT may
 * leave a part done. ENODATA: STRAY, and nothing is in quarantine; VMAP, and the
 * session holds no kernel mapping.
 */
struct dmabuf_testexp_access {
	__u32 id;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u64 address;
};

/* Flag of VMAP: attach, without mapping for DMA, and pin first. */
#define DMABUF_TESTEXP_VMAP_PIN	(1U << 0)

/**
 * struct dmabuf_testexp_vmap - DMABUF_TESTEXP_IOC_VMAP
 * @id:		in.
 * @flags:	in: DMABUF_TESTEXP_VMAP_*.
 * @fd:		in: the buffer's dma-buf, else EINVAL.
 * @reserved:	must be 0.
 *
 * The session takes a kernel mapping of the dma-buf, as an importer does, and
 * holds it and a reference to the dma-buf until VUNMAP, DESTROY or its end.
 * EBUSY: it holds one. EINVAL: NO_CPU. Else what attach, pin or vmap says.
 * VUNMAP: ENODATA when it holds none.
 */
struct dmabuf_testexp_vmap {
	__u32 id;
	__u32 flags;
	__u32 fd;
	__u32 reserved;
};

/* Indices of dmabuf_testexp_stats.cpu_begins and .cpu_ends. */
#define DMABUF_TESTEXP_DIR_BIDIRECTIONAL 0
#define DMABUF_TESTEXP_DIR_TO_DEVICE	1	/* the CPU writes */
#define DMABUF_TESTEXP_DIR_FROM_DEVICE	2	/* the CPU reads */
#define DMABUF_TESTEXP_NR_DIRS		3

/* dmabuf_testexp_stats.state, a mask. */
#define DMABUF_TESTEXP_STATE_REVOKED	(1U << 0)
#define DMABUF_TESTEXP_STATE_RELEASED	(1U << 1)	/* the dma-buf is gone */
#define DMABUF_TESTEXP_STATE_MOVER	(1U << 2)	/* a mover has moves to make */

/**
 * struct dmabuf_testexp_stats - DMABUF_TESTEXP_IOC_STATS
 * @id:		in.
 * @flags:	in: must be 0.
 * @state:	DMABUF_TESTEXP_STATE_*.
 * @attachments: alive now.
 * @mappings:	alive now, those of memory that was left included.
 * @pins:	pins held now.
 * @vmaps:	kernel mappings alive now.
 * @fences:	fences of FENCE_ADD that have not signalled.
 * @segments:	pieces the memory has now.
 * @quarantined: times the memory was left and is still kept.
 * @pages:	pages the buffer has now.
 * @quarantined_pages: pages kept poisoned.
 * @attaches:	attaches that succeeded, ever; and so the next ones.
 * @detaches:	detaches.
 * @maps:	maps that succeeded.
 * @unmaps:	unmaps.
 * @moves:	moves that succeeded.
 * @moves_failed: moves that did not.
 * @revokes:	revokes.
 * @refused:	by DMABUF_TESTEXP_OP_*: operations that failed, on request or
 *		because the buffer was revoked or the importer not fit.
 * @lingering:	mappings that were alive when invalidation had returned and
 *		fences had signalled. Allowed, as long as nothing is written.
 * @stray_words: 8-byte words of memory that had been left and were found
 *		changed when it was freed: somebody wrote after letting go.
 * @invalidate_ns: time importers took to let go, all moves together.
 * @invalidate_max_ns: the longest.
 * @cpu_begins:	by DMABUF_TESTEXP_DIR_*: begin_cpu_access that succeeded.
 * @cpu_ends:	the same of end_cpu_access.
 * @reserved:	must be 0, returned 0.
 */
struct dmabuf_testexp_stats {
	__u32 id;
	__u32 flags;
	__u32 state;
	__u32 attachments;
	__u32 mappings;
	__u32 pins;
	__u32 vmaps;
	__u32 fences;
	__u32 segments;
	__u32 quarantined;
	__u64 pages;
	__u64 quarantined_pages;
	__u64 attaches;
	__u64 detaches;
	__u64 maps;
	__u64 unmaps;
	__u64 moves;
	__u64 moves_failed;
	__u64 revokes;
	__u64 refused[DMABUF_TESTEXP_NR_OPS];
	__u64 lingering;
	__u64 stray_words;
	__u64 invalidate_ns;
	__u64 invalidate_max_ns;
	__u32 cpu_begins[DMABUF_TESTEXP_NR_DIRS];
	__u32 cpu_ends[DMABUF_TESTEXP_NR_DIRS];
	__u64 reserved[2];
};

#define DMABUF_TESTEXP_MAGIC	0xE8
#define DMABUF_TESTEXP_IOC_QUERY \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x00, struct dmabuf_testexp_query)
#define DMABUF_TESTEXP_IOC_CREATE \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x01, struct dmabuf_testexp_create)
#define DMABUF_TESTEXP_IOC_DESTROY \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x02, struct dmabuf_testexp_id)
#define DMABUF_TESTEXP_IOC_MOVE \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x03, struct dmabuf_testexp_move)
#define DMABUF_TESTEXP_IOC_REVOKE \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x04, struct dmabuf_testexp_move)
#define DMABUF_TESTEXP_IOC_UNREVOKE \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x05, struct dmabuf_testexp_id)
#define DMABUF_TESTEXP_IOC_FAIL \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x06, struct dmabuf_testexp_fail)
#define DMABUF_TESTEXP_IOC_FENCE_ADD \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x07, struct dmabuf_testexp_fence)
#define DMABUF_TESTEXP_IOC_FENCE_SIGNAL \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x08, struct dmabuf_testexp_signal)
#define DMABUF_TESTEXP_IOC_MOVER_START \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x09, struct dmabuf_testexp_mover)
#define DMABUF_TESTEXP_IOC_MOVER_STOP \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x0a, struct dmabuf_testexp_id)
#define DMABUF_TESTEXP_IOC_STATS \
	_IOWR(DMABUF_TESTEXP_MAGIC, 0x0b, struct dmabuf_testexp_stats)
#define DMABUF_TESTEXP_IOC_READ \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x0c, struct dmabuf_testexp_access)
#define DMABUF_TESTEXP_IOC_WRITE \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x0d, struct dmabuf_testexp_access)
#define DMABUF_TESTEXP_IOC_VMAP \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x0e, struct dmabuf_testexp_vmap)
#define DMABUF_TESTEXP_IOC_VUNMAP \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x0f, struct dmabuf_testexp_id)
#define DMABUF_TESTEXP_IOC_FENCES_SIGNALLED \
	_IOW(DMABUF_TESTEXP_MAGIC, 0x10, struct dmabuf_testexp_fences)

#ifdef __cplusplus
#define __DMABUF_TESTEXP_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define __DMABUF_TESTEXP_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_query, 64);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_create, 64);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_id, 8);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_move, 24);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_fail, 24);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_fence, 24);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_signal, 16);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_mover, 24);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_access, 32);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_stats, 224);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_vmap, 16);
__DMABUF_TESTEXP_SIZE(struct dmabuf_testexp_fences, 16);
#undef __DMABUF_TESTEXP_SIZE

#endif /* _UAPI_LINUX_DMABUF_TESTEXP_H */
