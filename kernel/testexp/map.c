// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA mappings: every segment is mapped by itself, and the importer is shown a
 * list made from that, true or, on request, not.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "compat.h"
#include "testexp.h"

/* Memory for which Linux has no struct pages is mapped by its address alone. */
static bool by_address(const struct testexp_backing *backing)
{
	return backing->carved && !testexp_carveout_has_pages();
}

static void unmap_segments(struct testexp_mapping *mapping, unsigned int nr)
{
	bool address_only = by_address(mapping->backing);
	unsigned int i;

	for (i = 0; i < nr; i++) {
		size_t bytes = mapping->backing->segments[i].bytes;

		if (address_only)
			dma_unmap_resource(mapping->dev, mapping->addresses[i], bytes,
					   mapping->dir, 0);
		else
			dma_unmap_page(mapping->dev, mapping->addresses[i], bytes, mapping->dir);
	}
}

static dma_addr_t map_segment(const struct testexp_mapping *mapping,
			      const struct testexp_segment *segment, bool address_only)
{
	phys_addr_t phys = testexp_backing_phys(mapping->backing, segment->block);

	if (address_only)
		return dma_map_resource(mapping->dev, phys, segment->bytes, mapping->dir, 0);
	return dma_map_page(mapping->dev, pfn_to_page(PHYS_PFN(phys)), segment->skip,
			    segment->bytes, mapping->dir);
}

static int map_segments(struct testexp_mapping *mapping)
{
	const struct testexp_backing *backing = mapping->backing;
	bool address_only = by_address(backing);
	unsigned int i;

	for (i = 0; i < backing->nr; i++) {
		mapping->addresses[i] = map_segment(mapping, &backing->segments[i], address_only);
		if (dma_mapping_error(mapping->dev, mapping->addresses[i])) {
			unmap_segments(mapping, i);
			return -EIO;
		}
	}
	return 0;
}

/* What the importer is to see. */
static int present(struct testexp_mapping *mapping, u32 flags)
{
	const struct testexp_backing *backing = mapping->backing;
	unsigned int nr = backing->nr, i;
	struct scatterlist *sg;
	int ret;

	if (flags & DMABUF_TESTEXP_SEG_4G_ZERO)
		nr++;
	ret = sg_alloc_table(&mapping->sgt, nr, GFP_KERNEL);
	if (ret)
		return ret;

	for_each_sg(mapping->sgt.sgl, sg, nr, i) {
		/* The one too many is in front of the last: 4 GiB, in 32 bits 0. */
		bool extra = nr > backing->nr && i == nr - 2;
		unsigned int which = nr > backing->nr && i == nr - 1 ? i - 1 : i;
		const struct testexp_segment *segment;

		if (extra) {
			sg_dma_address(sg) = mapping->addresses[0];
			sg_dma_len(sg) = 0;
			continue;
		}
		segment = &backing->segments[which];
		if (!(flags & DMABUF_TESTEXP_NO_PAGES))
			sg_set_page(sg, virt_to_page(segment->block), segment->bytes,
				    segment->skip);
		sg_dma_address(sg) = mapping->addresses[which];
		sg_dma_len(sg) = segment->bytes;
		if (i != nr - 1)
			continue;
		if (flags & DMABUF_TESTEXP_SUM_SHORT)
			sg_dma_len(sg) -= TESTEXP_GRANULE;
		if (flags & DMABUF_TESTEXP_SUM_LONG)
			sg_dma_len(sg) += TESTEXP_GRANULE;
	}
	return 0;
}

/* Where a device that is misled finds the page at @offset of the buffer: inside it. */
static u64 misled(const struct testexp_buffer *buffer, u64 offset)
{
	const struct testexp_backing *backing = buffer->backing;
	const struct testexp_segment *segment;

	if (buffer->exchanged)
		offset = (offset + round_down(buffer->layout.bytes / 2, TESTEXP_GRANULE)) %
			 buffer->layout.bytes;
	segment = &backing->segments[testexp_backing_segment(backing, offset)];
	if ((buffer->layout.flags & DMABUF_TESTEXP_SHIFT_SEGMENTS) && segment->start)
		offset = segment->start +
			 (offset - segment->start + TESTEXP_GRANULE) % segment->bytes;
	return offset;
}

/* The same with each page where misled() has it; every page of the buffer once. */
static int present_misled(struct testexp_mapping *mapping, const struct testexp_buffer *buffer)
{
	unsigned int nr = buffer->layout.bytes / TESTEXP_GRANULE, i;
	struct scatterlist *sg;
	int ret;

	ret = sg_alloc_table(&mapping->sgt, nr, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sg(mapping->sgt.sgl, sg, nr, i) {
		u64 offset = misled(buffer, (u64)i * TESTEXP_GRANULE);
		unsigned int which = testexp_backing_segment(mapping->backing, offset);
		const struct testexp_segment *segment = &mapping->backing->segments[which];
		size_t skip = offset - segment->start;

		if (!(buffer->layout.flags & DMABUF_TESTEXP_NO_PAGES))
			sg_set_page(sg, virt_to_page(segment->block + skip), TESTEXP_GRANULE,
				    offset_in_page(segment->block + skip));
		sg_dma_address(sg) = mapping->addresses[which] + skip;
		sg_dma_len(sg) = TESTEXP_GRANULE;
	}
	return 0;
}

static struct testexp_mapping *mapping_create(struct testexp_buffer *buffer, struct device *dev,
					      enum dma_data_direction dir)
{
	struct testexp_mapping *mapping;
	int ret;

	mapping = kzalloc_obj(*mapping, GFP_KERNEL);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->dev = dev;
	mapping->dir = dir;
	mapping->backing = buffer->decoy ?: buffer->backing;
	ret = -ENOMEM;
	mapping->addresses = kvmalloc_array(mapping->backing->nr, sizeof(*mapping->addresses),
					    GFP_KERNEL);
	if (!mapping->addresses)
		goto free_mapping;
	ret = map_segments(mapping);
	if (ret)
		goto free_addresses;
	if (buffer->exchanged || (buffer->layout.flags & DMABUF_TESTEXP_SHIFT_SEGMENTS))
		ret = present_misled(mapping, buffer);
	else
		ret = present(mapping, buffer->layout.flags);
	if (ret)
		goto unmap;
	return mapping;

unmap:
	unmap_segments(mapping, mapping->backing->nr);
free_addresses:
	kvfree(mapping->addresses);
free_mapping:
	kfree(mapping);
	return ERR_PTR(ret);
}

/**
 * testexp_map - &dma_buf_ops.map_dma_buf
 * @att: the importer's attachment
 * @dir: of the DMA
 *
 * Context: may sleep; dma_resv held.
 * Return: the list of segments, or an ERR_PTR: what FAIL asked for, -ENODEV
 * when revoked, -ENOMEM, -EIO from the DMA layer.
 */
struct sg_table *testexp_map(struct dma_buf_attachment *att, enum dma_data_direction dir)
{
	struct testexp_buffer *buffer = att->dmabuf->priv;
	struct testexp_mapping *mapping;
	int ret;

	dma_resv_assert_held(&buffer->resv);
	ret = testexp_refuse(buffer, DMABUF_TESTEXP_OP_MAP);
	if (ret)
		return ERR_PTR(ret);
	if (buffer->revoked)
		return ERR_PTR(testexp_refused(buffer, DMABUF_TESTEXP_OP_MAP, -ENODEV));
	/* A shadow is copied when the CPU's accesses say so, and never else. */
	if (buffer->decoy && list_empty(&buffer->mappings) &&
	    !(buffer->layout.flags & DMABUF_TESTEXP_SHADOW))
		testexp_backing_copy(buffer->decoy, buffer->backing);
	mapping = mapping_create(buffer, att->dev, dir);
	if (IS_ERR(mapping))
		return ERR_PTR(testexp_refused(buffer, DMABUF_TESTEXP_OP_MAP, PTR_ERR(mapping)));
	mapping->backing->mappings++;
	list_add_tail(&mapping->node, &buffer->mappings);
	buffer->maps++;
	return &mapping->sgt;
}

/**
 * testexp_unmap - &dma_buf_ops.unmap_dma_buf
 * @att: as given to testexp_map()
 * @sgt: as returned by it
 * @dir: as given to it
 *
 * Context: may sleep; dma_resv held.
 */
void testexp_unmap(struct dma_buf_attachment *att, struct sg_table *sgt,
		   enum dma_data_direction dir)
{
	struct testexp_mapping *mapping = container_of(sgt, struct testexp_mapping, sgt);
	struct testexp_buffer *buffer = att->dmabuf->priv;

	dma_resv_assert_held(&buffer->resv);
	WARN_ON_ONCE(mapping->dev != att->dev || mapping->dir != dir);
	unmap_segments(mapping, mapping->backing->nr);
	list_del(&mapping->node);
	mapping->backing->mappings--;
	buffer->unmaps++;
	testexp_quarantine_trim(buffer, buffer->max_quarantine);
	sg_free_table(&mapping->sgt);
	kvfree(mapping->addresses);
	kfree(mapping);
}
