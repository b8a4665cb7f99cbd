// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeping a dma-buf's memory in place. A kernel mapping alone does not: several
 * exporters evict a buffer that is mapped, and an importer that goes on to use the
 * old pages writes into somebody else's memory. An importer that needs the memory
 * to stay attaches and pins.
 *
 * No device reads or writes the memory by way of this attachment, so its device is
 * one of our own. The memory is never mapped for it.
 */
#include <linux/device.h>
#include <linux/err.h>

#include "compat.h"
#include "fence.h"
#include "pin.h"

static struct device *pin_device;

/* Only an exporter that breaks its word, or revokes for ever, calls this. */
static void pin_moved(struct dma_buf_attachment *att)
{
	struct dmabuf_rw_pin *pin = att->importer_priv;

	WRITE_ONCE(pin->lost, true);
}

static const struct dma_buf_attach_ops pin_ops = {
	.allow_peer2peer = true,
	DMABUF_RW_INVALIDATE_OP(pin_moved),
};

static int pin_lock_and_pin(struct dma_buf_attachment *att)
{
	int ret = dmabuf_rw_resv_lock(att->dmabuf);

	if (ret)
		return ret;
	ret = dma_buf_pin(att);
	dma_resv_unlock(att->dmabuf->resv);
	return ret;
}

/**
 * dmabuf_rw_pin_get - make an exporter keep its memory where it is
 * @pin: out; stays where it is until dmabuf_rw_pin_put()
 * @dmabuf: the memory; the caller keeps it
 *
 * Exporters that can pin are asked to; of the others an attachment is enough.
 *
 * Context: may sleep; takes the dma_resv.
 * Return: success, or an errno with ATTACH or what the errno says.
 */
struct dmabuf_rw_result dmabuf_rw_pin_get(struct dmabuf_rw_pin *pin, struct dma_buf *dmabuf)
{
	int ret;

	*pin = (struct dmabuf_rw_pin){};
	if (dmabuf->ops->pin)
		pin->att = dma_buf_dynamic_attach(dmabuf, pin_device, &pin_ops, pin);
	else
		pin->att = dma_buf_attach(dmabuf, pin_device);
	if (IS_ERR(pin->att)) {
		ret = PTR_ERR(pin->att);
		pin->att = NULL;
		return dmabuf_rw_refusal(ret, DMABUF_RW_REASON_ATTACH);
	}
	if (!dmabuf->ops->pin)
		return DMABUF_RW_OK;
	ret = pin_lock_and_pin(pin->att);
	if (ret) {
		dma_buf_detach(dmabuf, pin->att);
		pin->att = NULL;
		return dmabuf_rw_refusal(ret, DMABUF_RW_REASON_ATTACH);
	}
	pin->pinned = true;
	return DMABUF_RW_OK;
}

/**
 * dmabuf_rw_pin_put - undo dmabuf_rw_pin_get()
 * @pin: from there, or all zero
 *
 * Context: may sleep; takes the dma_resv.
 */
void dmabuf_rw_pin_put(struct dmabuf_rw_pin *pin)
{
	struct dma_buf *dmabuf;

	if (!pin->att)
		return;
	dmabuf = pin->att->dmabuf;
	if (pin->pinned) {
		dma_resv_lock(dmabuf->resv, NULL);
		dma_buf_unpin(pin->att);
		dma_resv_unlock(dmabuf->resv);
	}
	dma_buf_detach(dmabuf, pin->att);
	*pin = (struct dmabuf_rw_pin){};
}

/**
 * dmabuf_rw_pin_init - make the device that pins attach to
 *
 * Return: 0 or a negative errno.
 */
int dmabuf_rw_pin_init(void)
{
	pin_device = root_device_register("dmabuf_rw");
	return PTR_ERR_OR_ZERO(pin_device);
}

/**
 * dmabuf_rw_pin_exit - undo dmabuf_rw_pin_init()
 *
 * Context: module exit, nothing is pinned.
 */
void dmabuf_rw_pin_exit(void)
{
	root_device_unregister(pin_device);
}
