/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The open file that is read or written; see target.c.
 */
#ifndef DMABUF_RW_TARGET_H
#define DMABUF_RW_TARGET_H

#include <linux/blkdev.h>
#include <linux/fs.h>

#include "held_file.h"
#include "nvme_ns.h"
#include "result.h"

struct io_comp_batch;

/* What user space opened and, premapped, the namespace that commands go to. */
struct dmabuf_rw_target {
	struct file *file;		/* reference; bvec has no more than this and the next two */
	/* While @file has these, its direct I/O never copies. NULL: it may at any time. */
	const struct address_space_operations *direct_aops;
	bool holes;			/* @file, a regular one, had some when it was mapped */
	struct block_device *bdev;	/* of @file, or the one that @file's file system is on */
	struct dmabuf_rw_file_use *use;	/* @file is a regular one, and held still; else NULL */
	struct request_queue *head;	/* the queue of a multipath head, or NULL */
	/* The path in use. Of a head it changes, see failover.c. */
	struct gendisk *disk;		/* device reference */
	struct device *dma_dev;		/* the PCI function; reference */
	u32 controller;			/* N of nvmeN */
	u32 max_command;		/* bytes */
	struct dmabuf_rw_nvme_format format;
	unsigned long looked;		/* at @format, jiffies */
	u32 block_size;			/* logical, when the target was found; 0: no NVMe */
	u32 hint;			/* the caller's for @max_command */
};

struct dmabuf_rw_result dmabuf_rw_target_modes(const struct file *file, u32 directions);
struct dmabuf_rw_result dmabuf_rw_target_nvme(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions,
					      u32 hint, bool hold);
bool dmabuf_rw_target_on_head(const struct file *file);
struct dmabuf_rw_result dmabuf_rw_target_repath(struct dmabuf_rw_target *target,
						const struct dmabuf_rw_target *from,
						const struct device *avoid);
struct dmabuf_rw_result dmabuf_rw_target_file(struct dmabuf_rw_target *target,
					      struct file *file, u32 directions);
void dmabuf_rw_target_copy(struct dmabuf_rw_target *to, const struct dmabuf_rw_target *from);
void dmabuf_rw_target_put(struct dmabuf_rw_target *target);
bool dmabuf_rw_target_reformatted(const struct dmabuf_rw_target *target);
#define DMABUF_RW_ALL_QUEUES U32_MAX
int dmabuf_rw_target_poll(const struct dmabuf_rw_target *target, struct io_comp_batch *iob,
			  u32 queue);

#endif /* DMABUF_RW_TARGET_H */
