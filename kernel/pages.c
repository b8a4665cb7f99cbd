// SPDX-License-Identifier: GPL-2.0-only
/*
 * The struct pages behind a dma-buf, where it has any.
 *
 * They are found through the exporter's kernel mapping, never through the page
 * links of its scatterlist, which the dma-buf rules forbid to importers and
 * DMABUF_DEBUG takes away. The exporter is made to keep them where they are by a
 * pin; the mapping alone does not do that everywhere.
 */
#include <linux/dma-resv.h>
#include <linux/ktime.h>
#include <linux/memremap.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/cred.h>
#include <linux/slab.h>

#include "compat.h"
#include "cpu_view.h"
#include "limits.h"
#include "memory.h"
#include "pages.h"

/* Too much of it is an answer, not a fault. */
#define PAGES_GFP (GFP_KERNEL_ACCOUNT | __GFP_NOWARN)

/**
 * dmabuf_rw_pages_put - drop a reference to the pages of a dma-buf
 * @pages: unmapped and released with the last reference
 *
 * Context: may sleep; takes the dma_resv.
 */
void dmabuf_rw_pages_put(struct dmabuf_rw_pages *pages)
{
	if (!refcount_dec_and_test(&pages->refs))
		return;
	dmabuf_rw_vunmap(pages->dmabuf, &pages->map);
	dmabuf_rw_pin_put(&pages->pin);
	dma_buf_put(pages->dmabuf);
	dmabuf_rw_uncharge(pages->cred->user, pages->charged);
	put_cred(pages->cred);
	kvfree(pages->first_page);
	kvfree(pages->bvecs);
	kfree(pages);
}

/* Runs that are all of one size, as those of scattered memory mostly are, need no search. */
static unsigned int pages_even_shift(const struct dmabuf_rw_pages *pages)
{
	u32 size = pages->bvecs[0].bv_len;
	unsigned int i;

	if (pages->nr_bvecs == 1)
		return 63;
	for (i = 1; i < pages->nr_bvecs - 1; i++) {
		if (pages->bvecs[i].bv_len != size)
			return 0;
	}
	return is_power_of_2(size) && pages->bvecs[i].bv_len <= size ? ilog2(size) : 0;
}

/* Collect the pages, neighbours joined. */
static struct dmabuf_rw_result pages_collect(struct dmabuf_rw_pages *pages)
{
	u64 nr = pages->dmabuf->size >> PAGE_SHIFT, i;
	struct page *previous = NULL;
	struct bio_vec *last = NULL;

	for (i = 0; i < nr; i++) {
		struct page *page = dmabuf_rw_view_page(pages->map.vaddr + (i << PAGE_SHIFT));

		if (!page || is_zone_device_page(page))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_PAGES);
		if (dmabuf_rw_view_repeats(previous, page))
			return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
		if (last && page == previous + 1 && last->bv_len < SZ_1G) {
			last->bv_len += PAGE_SIZE;
		} else {
			pages->first_page[pages->nr_bvecs] = i;
			last = &pages->bvecs[pages->nr_bvecs++];
			bvec_set_page(last, page, PAGE_SIZE, 0);
		}
		previous = page;
		if (!(i & 0xfff))
			cond_resched();
	}

	pages->even_shift = pages_even_shift(pages);
	pages->smallest = U64_MAX;
	for (i = 0; i < pages->nr_bvecs; i++) {
		pages->smallest = min_t(u64, pages->smallest, pages->bvecs[i].bv_len);
		pages->largest = max_t(u64, pages->largest, pages->bvecs[i].bv_len);
	}
	return DMABUF_RW_OK;
}

/*
 * Is that why the exporter does not attach us: memory without pages, for peers
 * only? The mapping is looked at and given back; nothing is kept of it.
 */
static bool pages_missing(struct dma_buf *dmabuf)
{
	struct iosys_map map;
	bool missing;

	if (dmabuf_rw_vmap(dmabuf, &map))
		return false;
	missing = map.is_iomem || !dmabuf_rw_view_page(map.vaddr);
	dmabuf_rw_vunmap(dmabuf, &map);
	return missing;
}

/* Keep the memory in place, and have it mapped. */
static struct dmabuf_rw_result pages_vmap(struct dmabuf_rw_pages *pages)
{
	struct dmabuf_rw_result result;
	int ret;

	if (!pages->dmabuf->ops->vmap)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
	result = dmabuf_rw_pin_get(&pages->pin, pages->dmabuf);
	if (result.error)
		return result.reason == DMABUF_RW_REASON_ATTACH && pages_missing(pages->dmabuf) ?
			dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_PAGES) : result;
	ret = dmabuf_rw_vmap(pages->dmabuf, &pages->map);
	if (!ret && !pages->map.is_iomem)
		return DMABUF_RW_OK;
	if (!ret)
		dmabuf_rw_vunmap(pages->dmabuf, &pages->map);
	dmabuf_rw_pin_put(&pages->pin);
	if (!ret)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NOT_PAGES);
	if (ret == -ENOMEM)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_NO_CPU_VIEW);
}

/**
 * dmabuf_rw_pages_map - find the pages of a dma-buf
 * @dmabuf: the memory; a reference is taken
 * @cred: whose user is charged for keeping them
 * @out: out: the pages, for dmabuf_rw_pages_put()
 *
 * Context: may sleep.
 * Return: success, or an errno with its reason.
 */
struct dmabuf_rw_result dmabuf_rw_pages_map(struct dma_buf *dmabuf, const struct cred *cred,
					    struct dmabuf_rw_pages **out)
{
	ktime_t start = ktime_get();
	struct dmabuf_rw_result result;
	struct dmabuf_rw_pages *pages;
	u64 nr;

	if (!dmabuf->size || dmabuf->size > DMABUF_RW_MAX_BVEC)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);
	if (!PAGE_ALIGNED(dmabuf->size))
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SEG_ALIGN);

	pages = kzalloc_obj(*pages, GFP_KERNEL_ACCOUNT);
	if (!pages)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	refcount_set(&pages->refs, 1);
	pages->dmabuf = dmabuf;
	/* Before memory is taken in proportion to what the exporter says of its size. */
	if (dmabuf_rw_charge(cred->user, dmabuf->size, &pages->charged)) {
		result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_MEMLOCK);
		goto free;
	}
	nr = dmabuf->size >> PAGE_SHIFT;
	pages->bvecs = kvmalloc_array(nr, sizeof(*pages->bvecs), PAGES_GFP);
	pages->first_page = kvmalloc_array(nr, sizeof(*pages->first_page), PAGES_GFP);
	if (!pages->bvecs || !pages->first_page) {
		result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		goto uncharge;
	}
	result = pages_vmap(pages);
	if (result.error)
		goto uncharge;

	get_dma_buf(dmabuf);
	pages->cred = get_cred(cred);
	result = pages_collect(pages);
	if (result.error) {
		dmabuf_rw_pages_put(pages);
		return result;
	}
	pages->map_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	*out = pages;
	return DMABUF_RW_OK;

uncharge:
	dmabuf_rw_uncharge(cred->user, pages->charged);
free:
	kvfree(pages->first_page);
	kvfree(pages->bvecs);
	kfree(pages);
	return result;
}

/**
 * dmabuf_rw_pages_find - which run of pages holds a byte of the buffer
 * @pages: the pages
 * @offset: bytes, inside the buffer
 * @within: out: bytes from the start of the run
 *
 * Context: any.
 * Return: index into @pages->bvecs.
 */
unsigned int dmabuf_rw_pages_find(const struct dmabuf_rw_pages *pages, u64 offset,
				  u64 *within)
{
	unsigned int low = 0, high = pages->nr_bvecs;
	u64 page = offset >> PAGE_SHIFT;

	if (pages->even_shift) {
		*within = offset & (BIT_ULL(pages->even_shift) - 1);
		return offset >> pages->even_shift;
	}
	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (pages->first_page[middle] <= page)
			low = middle;
		else
			high = middle;
	}
	*within = offset - ((u64)pages->first_page[low] << PAGE_SHIFT);
	return low;
}
