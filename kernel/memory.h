/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a user may pin, and where a mapped buffer's bytes are.
 */
#ifndef DMABUF_RW_MEMORY_H
#define DMABUF_RW_MEMORY_H

#include <linux/scatterlist.h>
#include <linux/types.h>

struct device;
struct user_struct;

/* Where a mapped buffer's memory is, and the drive's way to it. */
struct dmabuf_rw_place {
	u32 memory;			/* DMABUF_RW_MEM_* */
	u32 route;			/* DMABUF_RW_ROUTE_* */
};

int dmabuf_rw_charge(struct user_struct *user, u64 bytes, unsigned long *charged);
void dmabuf_rw_uncharge(struct user_struct *user, unsigned long charged);
struct dmabuf_rw_place dmabuf_rw_classify(struct device *dev, struct sg_table *sgt,
					  unsigned int most);

#endif /* DMABUF_RW_MEMORY_H */
