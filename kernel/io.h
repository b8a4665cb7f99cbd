/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * READ and WRITE commands: what the datapaths that take them share.
 */
#ifndef DMABUF_RW_IO_H
#define DMABUF_RW_IO_H

#include <linux/io_uring/cmd.h>

#include "dmabuf_rw.h"

/* What user space asked for, read once. */
struct dmabuf_rw_ask {
	u64 offset;		/* in the dma-buf, bytes */
	u64 position;		/* in the target, bytes */
	u32 length;
	u32 direction;		/* DMABUF_RW_DIR_READ or _WRITE */
};

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
	if (direction == DMABUF_RW_DIR_WRITE) {
		this_cpu_inc(m->counts->writes);
		this_cpu_add(m->counts->write_bytes, bytes);
	} else {
		this_cpu_inc(m->counts->reads);
		this_cpu_add(m->counts->read_bytes, bytes);
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
		return DMABUF_RW_REASON_INTERRUPTED;
	case -EINVAL:
		return dmabuf_rw_target_reformatted(&m->target) ?
			DMABUF_RW_REASON_LBA_SIZE : DMABUF_RW_REASON_RANGE;
	default:
		return DMABUF_RW_REASON_DRIVE;
	}
}

/* io.c */
int dmabuf_rw_issue(struct io_uring_cmd *cmd, unsigned int issue_flags, u32 direction);
struct dmabuf_rw_result dmabuf_rw_io_prepare(struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_ask *ask);

/* rw.c */
long dmabuf_rw_ioctl_rw(struct dmabuf_rw_session *session, void __user *arg);

/* premapped.c */
struct dmabuf_rw_result dmabuf_rw_premapped_check(const struct dmabuf_rw_mapping *m,
						  const struct dmabuf_rw_ask *ask);
bool dmabuf_rw_premapped_cached(const struct dmabuf_rw_mapping *m,
				const struct dmabuf_rw_ask *ask);
int dmabuf_rw_premapped_flush(const struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask);
int dmabuf_rw_premapped_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			       const struct dmabuf_rw_ask *ask, unsigned int issue_flags);
int dmabuf_rw_premapped_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask,
			     bool *sent);
int dmabuf_rw_premapped_iopoll(struct io_uring_cmd *cmd, struct io_comp_batch *iob);
void dmabuf_rw_premapped_unpolled(struct io_uring_cmd *cmd);

/* bvec.c */
struct dmabuf_rw_result dmabuf_rw_bvec_check(const struct dmabuf_rw_mapping *m,
					     const struct dmabuf_rw_ask *ask);
int dmabuf_rw_bvec_submit(struct io_uring_cmd *cmd, struct dmabuf_rw_mapping *m,
			  const struct dmabuf_rw_ask *ask, unsigned int issue_flags);
long dmabuf_rw_bvec_wait(struct dmabuf_rw_mapping *m, const struct dmabuf_rw_ask *ask);
int dmabuf_rw_bvec_init(void);
void dmabuf_rw_bvec_exit(void);

#endif /* DMABUF_RW_IO_H */
