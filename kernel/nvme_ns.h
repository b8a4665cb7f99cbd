/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * NVMe namespaces, the ways to them and their formats; see nvme_ns.c.
 */
#ifndef DMABUF_RW_NVME_NS_H
#define DMABUF_RW_NVME_NS_H

#include <linux/blkdev.h>

#include "result.h"

/* How good a way to a namespace is, worst first. */
enum dmabuf_rw_nvme_rank {
	DMABUF_RW_NVME_NONE,		/* there is none */
	DMABUF_RW_NVME_LATER,		/* its controller is resetting or connecting */
	DMABUF_RW_NVME_SLOW,		/* ANA: not optimized */
	DMABUF_RW_NVME_GOOD,
};

/* The disk of one controller's namespace, and the function it is behind. */
struct dmabuf_rw_nvme_path {
	struct gendisk *disk;		/* device reference */
	struct device *dma_dev;		/* reference */
	u32 controller;			/* N of nvmeN */
	enum dmabuf_rw_nvme_rank rank;
};

/* What a namespace is formatted with, as far as commands depend on it. */
struct dmabuf_rw_nvme_format {
	u32 nsid;
	u16 control;			/* NVME_RW_PRINFO_*, for every read and write */
	bool guard64;			/* the reference tag has 48 bits */
};

bool dmabuf_rw_nvme_is_head(const struct gendisk *disk);
struct dmabuf_rw_result dmabuf_rw_nvme_find(struct gendisk *opened, const struct device *avoid,
					    struct dmabuf_rw_nvme_path *path);
struct dmabuf_rw_result dmabuf_rw_nvme_look(struct gendisk *disk,
					    struct dmabuf_rw_nvme_format *format, bool wait);
struct dmabuf_rw_result dmabuf_rw_nvme_format(struct request *rq, struct gendisk *disk,
					      struct dmabuf_rw_nvme_format *format);
int dmabuf_rw_nvme_ns_init(void);
void dmabuf_rw_nvme_ns_exit(void);

#endif /* DMABUF_RW_NVME_NS_H */
