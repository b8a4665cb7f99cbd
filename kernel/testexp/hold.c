// SPDX-License-Identifier: GPL-2.0-only
/*
 * A kernel mapping that the session itself holds, as an importer would that pins or
 * does not pin, and what is seen through it.
 */
#include <linux/iosys-map.h>

#include "compat.h"
#include "testexp.h"

static void nothing_to_do(struct dma_buf_attachment *att)
{
}

/* It never maps, so it has nothing to let go of. */
static const struct dma_buf_attach_ops importer_ops = {
	.allow_peer2peer = true,
	.TESTEXP_INVALIDATE_MEMBER = nothing_to_do,
};

/* May the session take a kernel mapping of @dmabuf? dma_resv held. */
static int hold_check(const struct testexp_buffer *buffer, const struct dma_buf *dmabuf)
{
	if (dmabuf != buffer->dmabuf)
		return -EINVAL;
	if (buffer->ended)
		return -ENXIO;
	return buffer->holds ? -EBUSY : 0;
}

/* Pins, if there is an attachment, and maps. dma_resv held. */
static int hold_locked(struct testexp_buffer *buffer, struct dma_buf *dmabuf,
		       struct dma_buf_attachment *att)
{
	int ret = hold_check(buffer, dmabuf);

	if (ret)
		return ret;
	if (att)
		ret = dma_buf_pin(att);
	if (ret)
		return ret;
	ret = dma_buf_vmap(dmabuf, &buffer->held);
	if (ret && att)
		dma_buf_unpin(att);
	if (ret)
		return ret;
	buffer->held_att = att;
	buffer->holds = true;
	return 0;
}

/**
 * testexp_hold - VMAP
 * @buffer: to be mapped
 * @vmap: which dma-buf, checked here
 * @dev: attached, with VMAP_PIN
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EOPNOTSUPP (kernel too old), -EINVAL, -EBADF, -EBUSY when the session
 * holds one already, -ENXIO when the session has let go of the buffer, -EINTR, or
 * what attach, pin or vmap says.
 */
int testexp_hold(struct testexp_buffer *buffer, const struct dmabuf_testexp_vmap *vmap,
		 struct device *dev)
{
	struct dma_buf_attachment *att = NULL;
	struct dma_buf *dmabuf;
	int ret;

	if (!TESTEXP_CAN_HOLD)
		return -EOPNOTSUPP;
	if ((vmap->flags & ~DMABUF_TESTEXP_VMAP_PIN) || vmap->reserved)
		return -EINVAL;
	dmabuf = dma_buf_get(vmap->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		goto put;
	ret = hold_check(buffer, dmabuf);
	dma_resv_unlock(&buffer->resv);
	if (ret)
		goto put;
	if (vmap->flags & DMABUF_TESTEXP_VMAP_PIN) {
		att = dma_buf_dynamic_attach(dmabuf, dev, &importer_ops, buffer);
		if (IS_ERR(att)) {
			ret = PTR_ERR(att);
			goto put;
		}
	}
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (!ret) {
		ret = hold_locked(buffer, dmabuf, att);
		dma_resv_unlock(&buffer->resv);
	}
	if (!ret)
		return 0;
	if (att)
		dma_buf_detach(dmabuf, att);
put:
	dma_buf_put(dmabuf);
	return ret;
}

/**
 * testexp_let_go - VUNMAP
 * @buffer: its kernel mapping, its pin and the reference to its dma-buf are given back
 *
 * Context: may sleep; no lock held.
 * Return: 0, or -ENODATA when the session holds none.
 */
int testexp_let_go(struct testexp_buffer *buffer)
{
	struct dma_buf_attachment *att;
	struct dma_buf *dmabuf;

	dma_resv_lock(&buffer->resv, NULL);
	if (!buffer->holds) {
		dma_resv_unlock(&buffer->resv);
		return -ENODATA;
	}
	dmabuf = buffer->dmabuf;
	att = buffer->held_att;
	dma_buf_vunmap(dmabuf, &buffer->held);
	if (att)
		dma_buf_unpin(att);
	buffer->held_att = NULL;
	buffer->holds = false;
	dma_resv_unlock(&buffer->resv);
	if (att)
		dma_buf_detach(dmabuf, att);
	dma_buf_put(dmabuf);
	return 0;
}

/**
 * testexp_held_copy - copy through the mapping that the session holds
 * @buffer: the buffer
 * @offset: bytes into it
 * @chunk: what to write, or where to read to
 * @bytes: how many
 * @write: which way
 *
 * Context: any that may take the time; dma_resv held.
 * Return: 0, or -ENODATA when the session holds none.
 */
int testexp_held_copy(struct testexp_buffer *buffer, u64 offset, void *chunk, size_t bytes,
		      bool write)
{
	dma_resv_assert_held(&buffer->resv);
	if (!buffer->holds)
		return -ENODATA;
	if (write)
		iosys_map_memcpy_to(&buffer->held, offset, chunk, bytes);
	else
		iosys_map_memcpy_from(chunk, &buffer->held, offset, bytes);
	return 0;
}
