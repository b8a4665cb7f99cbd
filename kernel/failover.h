/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Another controller takes over; see failover.c.
 */
#ifndef DMABUF_RW_FAILOVER_H
#define DMABUF_RW_FAILOVER_H

#include "result.h"

struct device;
struct dmabuf_rw_mapping;

struct dmabuf_rw_result dmabuf_rw_failover(struct dmabuf_rw_mapping *m,
					   const struct device *failed);

#endif /* DMABUF_RW_FAILOVER_H */
