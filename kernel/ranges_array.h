/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ranges of one READV or WRITEV; see ranges_array.c.
 */
#ifndef DMABUF_RW_RANGES_ARRAY_H
#define DMABUF_RW_RANGES_ARRAY_H

#include <linux/atomic.h>
#include <linux/workqueue.h>

#include "uapi/linux/dmabuf_rw.h"

struct dmabuf_rw_mapping;
struct io_uring_cmd;

/* A range: what was asked for, and then what became of it. */
struct range_io {
	u64 file_offset;
	u64 buffer_offset;
	u32 length;
	u32 moved;
	union {
		struct ranges *all;	/* until it has ended */
		struct {
			u32 error;
			u32 reason;	/* RANGE_AGAIN: still to be sent, by a worker */
		};
		u64 outcome;		/* both, as user space has them */
	};
};

static_assert(offsetof(struct range_io, reason) - offsetof(struct range_io, error) ==
	      offsetof(struct dmabuf_rw_range, reason) - offsetof(struct dmabuf_rw_range, error));

#define RANGE_AGAIN	U32_MAX

/* All ranges of one command while it is under way. */
struct ranges {
	struct dmabuf_rw_mapping *m;	/* m->io held; with @held a reference instead */
	union {
		struct io_uring_cmd *cmd;
		struct ranges *next;	/* of the spare ones */
	};
	struct dmabuf_rw_range __user *user;
	u32 direction;
	u32 nr;
	u32 span;			/* none is longer than this + 1; U32_MAX: one is empty */
	u64 buffer_end, file_end;	/* the furthest, if no bit 63 is in the next two */
	u64 memory;			/* the offsets in the buffer, or'ed */
	u64 places;			/* the offsets in the target, and the lengths, or'ed */
	atomic_t pending;		/* ranges that have not ended, and one for who sends them */
	bool again;			/* some range is to be sent by a worker */
	bool held;
	struct work_struct work;
	struct range_io range[];
};

struct ranges *dmabuf_rw_ranges_new(struct dmabuf_rw_range __user *user, u32 nr);
void dmabuf_rw_ranges_free(struct ranges *all);
s32 dmabuf_rw_ranges_report(const struct ranges *all);
void dmabuf_rw_ranges_exit(void);

#endif /* DMABUF_RW_RANGES_ARRAY_H */
