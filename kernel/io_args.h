/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The words below the datapaths: what an I/O was asked for, what an io_uring
 * command holds while it is under way, and how its end is counted.
 */
#ifndef DMABUF_RW_IO_ARGS_H
#define DMABUF_RW_IO_ARGS_H

#include "compat.h"
#include "mapping.h"

/* What user space asked for, read once. */
struct dmabuf_rw_io_args {
	u64 buffer_offset;	/* in the dma-buf, bytes */
	u64 file_offset;	/* in the target, bytes */
	u32 length;
	u32 direction;		/* DMABUF_RW_DIR_READ or _WRITE */
};

struct bvec_io;
struct dmabuf_rw_later;
struct premapped_long;
struct ranges;

/*
 * The private bytes of a READ or WRITE command while it is under way. One
 * structure for all datapaths, so that what asks about any command, as polling
 * does, reads what its datapath wrote.
 */
struct dmabuf_rw_pdu {
	u32 flags;			/* of premapped.c; 0 on other datapaths */
	u32 length;
	struct dmabuf_rw_mapping *m;	/* premapped, an I/O of one command; stays */
	union {
		u64 file_offset;		/* the same */
		struct premapped_long *longer;	/* premapped, any other */
		struct bvec_io *bvec;
		struct ranges *ranges;		/* any, several ranges */
		struct dmabuf_rw_later *later;	/* waited, and not yet sent */
	};
	union {
		u64 buffer_offset;	/* premapped, until it ends */
		s64 result;		/* then */
	};
};

/**
 * dmabuf_rw_pdu - the private bytes of a command
 * @cmd: the command
 *
 * Context: any.
 * Return: where they are; they live as long as the command.
 */
static inline struct dmabuf_rw_pdu *dmabuf_rw_pdu(struct io_uring_cmd *cmd)
{
	return io_uring_cmd_to_pdu(cmd, struct dmabuf_rw_pdu);
}

/**
 * dmabuf_rw_note_error - count an I/O that failed, and remember why
 * @m: its mapping
 * @error: negative errno
 * @reason: DMABUF_RW_REASON_*
 *
 * Context: any.
 */
static inline void dmabuf_rw_note_error(struct dmabuf_rw_mapping *m, int error, u32 reason)
{
	WRITE_ONCE(m->last_error, -error);
	WRITE_ONCE(m->last_reason, reason);
	this_cpu_inc(m->counts->errors);
}

/**
 * dmabuf_rw_note_done - count an I/O that ended well
 * @m: its mapping
 * @direction: DMABUF_RW_DIR_READ or DMABUF_RW_DIR_WRITE
 * @bytes: moved
 *
 * Context: any.
 */
static inline void dmabuf_rw_note_done(struct dmabuf_rw_mapping *m, u32 direction, u32 bytes)
{
	struct dmabuf_rw_counts __percpu *counts = m->counts;

	if (direction == DMABUF_RW_DIR_WRITE) {
		this_cpu_inc(counts->writes);
		this_cpu_add(counts->write_bytes, bytes);
	} else {
		this_cpu_inc(counts->reads);
		this_cpu_add(counts->read_bytes, bytes);
	}
}

/**
 * dmabuf_rw_reason_of - the reason behind an errno that came from the target
 * @m: the mapping
 * @error: negative errno
 *
 * Return: DMABUF_RW_REASON_*.
 */
static inline u32 dmabuf_rw_reason_of(const struct dmabuf_rw_mapping *m, int error)
{
	switch (error) {
	case -ENODEV:
		return DMABUF_RW_REASON_DEVICE_GONE;
	case -ENOMEM:
		return DMABUF_RW_REASON_NO_MEMORY;
	case -EINTR:
	case -ECANCELED:
		return DMABUF_RW_REASON_INTERRUPTED;
	case -ENOENT:
		return DMABUF_RW_REASON_HANDLE;
	case -ETXTBSY:
		return DMABUF_RW_REASON_SWAP;
	case -EMEDIUMTYPE:
		return DMABUF_RW_REASON_METADATA;
	case -EINVAL:
		return dmabuf_rw_target_reformatted(&m->target) ?
			DMABUF_RW_REASON_LBA_SIZE : DMABUF_RW_REASON_RANGE;
	default:
		return DMABUF_RW_REASON_DRIVE;
	}
}

#endif /* DMABUF_RW_IO_ARGS_H */
