/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this module uses of the nvme driver; see nvme_driver.c.
 */
#ifndef DMABUF_RW_NVME_DRIVER_H
#define DMABUF_RW_NVME_DRIVER_H

#include <linux/types.h>

#include "nvme_request.h"

struct device;
struct device_attribute;
struct module;
struct nvme_command;
struct request;

bool dmabuf_rw_nvme_available(struct request *rq);
void dmabuf_rw_nvme_init_request(struct request *rq, struct nvme_command *command);
void dmabuf_rw_nvme_init_anew(struct request *rq);
bool dmabuf_rw_nvme_own_read(struct request *rq, u64 lba, struct nvme_command *made);
bool dmabuf_rw_nvme_drives(const struct device *dev);
bool dmabuf_rw_nvme_hold(const struct device *dev, struct module **owner);
struct device_attribute *dmabuf_rw_nvme_attr_find(const struct device *dev, const char *name);
int dmabuf_rw_nvme_attr(struct device *dev, const char *name, char *page);
int dmabuf_rw_nvme_attr_u32(struct device *dev, struct device_attribute *attr, char *page,
			    u32 *value);
void dmabuf_rw_nvme_exit(void);

extern bool dmabuf_rw_nvme_init_known;

/**
 * dmabuf_rw_nvme_init_placed - nvme_init_request() for a command that is in place
 * @rq: dmabuf_rw_nvme_command() of it is what the drive is to do
 *
 * Without REQ_FAILFAST_DRIVER.
 *
 * Context: any; dmabuf_rw_nvme_available() has said yes.
 */
static __always_inline void dmabuf_rw_nvme_init_placed(struct request *rq)
{
	/* Written once, before the first command. */
	if (likely(data_race(dmabuf_rw_nvme_init_known)))
		dmabuf_rw_nvme_init_here(rq);
	else
		dmabuf_rw_nvme_init_anew(rq);
}

#endif /* DMABUF_RW_NVME_DRIVER_H */
