/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A command whose memory the driver does not know of; see nvme_proof.c.
 */
#ifndef DMABUF_RW_NVME_PROOF_H
#define DMABUF_RW_NVME_PROOF_H

#include <linux/blkdev.h>

#include "nvme_ns.h"
#include "result.h"

struct dmabuf_rw_result dmabuf_rw_nvme_prove(struct gendisk *disk, struct request_queue *head,
					     struct device *dma_dev,
					     const struct dmabuf_rw_nvme_format *format);
void dmabuf_rw_nvme_forget(void);

#endif /* DMABUF_RW_NVME_PROOF_H */
