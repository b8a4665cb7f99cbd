/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this module uses of the nvme driver; see nvme_driver.c.
 */
#ifndef DMABUF_RW_NVME_DRIVER_H
#define DMABUF_RW_NVME_DRIVER_H

#include <linux/types.h>

struct device;
struct module;
struct nvme_command;
struct request;

bool dmabuf_rw_nvme_available(struct request *rq);
void dmabuf_rw_nvme_init_request(struct request *rq, struct nvme_command *command);
bool dmabuf_rw_nvme_own_read(struct request *rq, u64 lba, struct nvme_command *made);
bool dmabuf_rw_nvme_drives(const struct device *dev);
bool dmabuf_rw_nvme_hold(const struct device *dev, struct module **owner);
int dmabuf_rw_nvme_attr(struct device *dev, const char *name, char *page);
int dmabuf_rw_nvme_attr_u32(struct device *dev, const char *name, char *page, u32 *value);
void dmabuf_rw_nvme_exit(void);

#endif /* DMABUF_RW_NVME_DRIVER_H */
