// SPDX-License-Identifier: GPL-2.0-only
/*
 * A kernel mapping that the session itself holds, as an importer would, and what is
 * seen through it.
 */
#include <linux/iosys-map.h>

#include "testexp.h"

/**
 * testexp_hold - VMAP
 * @buffer: to be mapped
 * @vmap: which dma-buf, checked here
 *
 * Context: may sleep; no lock held.
 * Return: 0, -EINVAL, -EBADF, -EBUSY when the session holds one already, -ENXIO when
 * the session has let go of the buffer, -EINTR, or what dma_buf_vmap() says.
 */
int testexp_hold(struct testexp_buffer *buffer, const struct dmabuf_testexp_vmap *vmap)
{
	struct dma_buf *dmabuf;
	int ret;

	if (vmap->flags || vmap->reserved)
		return -EINVAL;
	dmabuf = dma_buf_get(vmap->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	ret = dma_resv_lock_interruptible(&buffer->resv, NULL);
	if (ret)
		goto put;
	if (dmabuf != buffer->dmabuf)
		ret = -EINVAL;
	else if (buffer->ended)
		ret = -ENXIO;
	else if (buffer->holds)
		ret = -EBUSY;
	else
		ret = dma_buf_vmap(dmabuf, &buffer->held);
	if (!ret)
		buffer->holds = true;
	dma_resv_unlock(&buffer->resv);
put:
	if (ret)
		dma_buf_put(dmabuf);
	return ret;
}

/**
 * testexp_let_go - VUNMAP
 * @buffer: its kernel mapping and the reference to its dma-buf are given back
 *
 * Context: may sleep; no lock held.
 * Return: 0, or -ENODATA when the session holds none.
 */
int testexp_let_go(struct testexp_buffer *buffer)
{
	struct dma_buf *dmabuf;

	dma_resv_lock(&buffer->resv, NULL);
	if (!buffer->holds) {
		dma_resv_unlock(&buffer->resv);
		return -ENODATA;
	}
	dmabuf = buffer->dmabuf;
	dma_buf_vunmap(dmabuf, &buffer->held);
	buffer->holds = false;
	dma_resv_unlock(&buffer->resv);
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
