/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Files whose place on the disk is held still; see held_file.c.
 */
#ifndef DMABUF_RW_HELD_FILE_H
#define DMABUF_RW_HELD_FILE_H

#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/refcount.h>

#include "compat.h"
#include "extents.h"
#include "result.h"

struct dmabuf_rw_held;

/* One target's use of a file that is held. */
struct dmabuf_rw_file_use {
	refcount_t refs;
	struct file *file;			/* reference */
	struct dmabuf_rw_held *held;		/* of the inode; reference */
	const struct dmabuf_rw_extents *extents; /* @held's */
	bool writes;				/* @file's mount is held writable */
	bool written;				/* since @touch; a hint */
	unsigned long touch;			/* the file's time is due from here on, jiffies */
};

/**
 * dmabuf_rw_hold_file_available - can a file be held on this kernel?
 *
 * Return: whether it can.
 */
static inline bool dmabuf_rw_hold_file_available(void)
{
	return DMABUF_RW_HOLDS_FILES;
}

bool dmabuf_rw_file_has_holes(struct file *file);
bool dmabuf_rw_file_is_direct(struct file *file);
struct dmabuf_rw_result dmabuf_rw_file_use_get(struct file *file, u32 directions,
					       struct dmabuf_rw_file_use **out);
void dmabuf_rw_file_use_put(struct dmabuf_rw_file_use *use);
int dmabuf_rw_file_touch(struct dmabuf_rw_file_use *use);
void dmabuf_rw_file_thaw_wait(struct dmabuf_rw_file_use *use);

/**
 * dmabuf_rw_file_touch_due - was the time of the file set long ago?
 * @use: of a mapping that writes
 *
 * Context: any.
 * Return: whether it was.
 */
static inline bool dmabuf_rw_file_touch_due(const struct dmabuf_rw_file_use *use)
{
	return time_after_eq(jiffies, READ_ONCE(use->touch));
}

/**
 * dmabuf_rw_file_due - is the time of the file to be set before it is written?
 * @use: of a mapping that writes
 *
 * Context: any.
 * Return: whether dmabuf_rw_file_touch() is to be called.
 */
static inline bool dmabuf_rw_file_due(const struct dmabuf_rw_file_use *use)
{
	/* Or it was given set-user-ID or capabilities, which a write takes off. */
	return dmabuf_rw_file_touch_due(use) || !IS_NOSEC(file_inode(use->file));
}

/**
 * dmabuf_rw_file_write_begin - begin a command that writes a file
 * @use: of its mapping
 *
 * Context: does not sleep.
 * Return: false if the file system is frozen.
 */
static inline bool dmabuf_rw_file_write_begin(struct dmabuf_rw_file_use *use)
{
	struct super_block *sb = file_inode(use->file)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* It ends in another context. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	if (!READ_ONCE(use->written))
		WRITE_ONCE(use->written, true);
	return true;
}

/**
 * dmabuf_rw_file_write_end - the command has ended, or was not sent
 * @use: as it began
 *
 * Context: any, interrupts among them.
 */
static inline void dmabuf_rw_file_write_end(struct dmabuf_rw_file_use *use)
{
	struct super_block *sb = file_inode(use->file)->i_sb;

	__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	sb_end_write(sb);
}

#endif /* DMABUF_RW_HELD_FILE_H */
