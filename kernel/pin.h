/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeping a dma-buf's memory in place for the CPU and for its pages; see pin.c.
 */
#ifndef DMABUF_RW_PIN_H
#define DMABUF_RW_PIN_H

#include <linux/dma-buf.h>

#include "result.h"

/* One dma-buf, attached to no device in particular, and pinned. */
struct dmabuf_rw_pin {
	struct dma_buf_attachment *att;
	bool pinned;
	bool lost;			/* the exporter took the memory all the same */
};

struct dmabuf_rw_result dmabuf_rw_pin_get(struct dmabuf_rw_pin *pin, struct dma_buf *dmabuf);
void dmabuf_rw_pin_put(struct dmabuf_rw_pin *pin);
int dmabuf_rw_pin_init(void);
void dmabuf_rw_pin_exit(void);

/**
 * dmabuf_rw_pin_lost - has the exporter taken the memory?
 * @pin: from dmabuf_rw_pin_get()
 *
 * Context: any.
 * Return: whether it has: what was mapped then is not the buffer any more.
 */
static inline bool dmabuf_rw_pin_lost(const struct dmabuf_rw_pin *pin)
{
	return unlikely(READ_ONCE(pin->lost));
}

#endif /* DMABUF_RW_PIN_H */
